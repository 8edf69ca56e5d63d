"""What each reason means and what helps: the reference page, and nothing that decides."""

from collections.abc import Mapping
from dataclasses import dataclass

from finetuning.api.status import Reason


@dataclass(frozen=True)
class Explained:
    """One reason for people."""

    meaning: str
    remedy: str = ""
    """Empty where nothing needs to be done."""


WAITING: Mapping[Reason, Explained] = {
    Reason.ACCEPTED: Explained("The job is known; its training Job is about to be made."),
    Reason.PREVIOUS_RUN_TERMINATING: Explained(
        "A deleted job of the same name still has a Job, a claim or a pod that saves its last "
        "checkpoint.",
        "Wait; a pod has two minutes. A claim stays for as long as any pod mounts it. Where the "
        "message has a command, Kubernetes' garbage collector may have forgotten it.",
    ),
    Reason.OUTPUT_IN_USE: Explained(
        "Another FineTuningJob uses the same folder of the same claim, or one inside or around it.",
        "Wait for its end, pause it, or create this job again with another `subPath`.",
    ),
    Reason.QUEUED: Explained(
        "Kueue has not admitted the job yet, or has preempted it; it continues from its newest "
        "checkpoint. Also of a job that names no queue, where Kueue takes all Jobs.",
        "The message has Kueue's own words: what the queue lacks, or what took the place. Wait, "
        "ask for less, or ask who looks after the ClusterQueue.",
    ),
    Reason.JOB_CREATED: Explained(
        "The training Job is made, and Kubernetes has made no pod of it yet."
    ),
    Reason.PODS_FORBIDDEN: Explained(
        "Kubernetes may not make the pod: a ResourceQuota, a LimitRange, Pod Security or an "
        "admission webhook refuses it, in the words of the message.",
        "Raise the quota, ask for less in `spec.resources`, or ask the namespace's admin.",
    ),
    Reason.UNSCHEDULABLE: Explained(
        "No node has room, or the claim is missing or cannot be bound, in the scheduler's words.",
        "Wait for a free GPU, ask for fewer, or create the claim that the message names.",
    ),
    Reason.IMAGE_PULL_FAILED: Explained(
        "The node cannot pull, or does not trust, the trainer's or the operator's image.",
        "Mend `image.trainer`, `image.operator` or `imagePullSecrets` (Secrets of the job's "
        "namespace) in the chart, then create the job again or run `finetuning validate`: a pod "
        "keeps its image.",
    ),
    Reason.CONTAINER_CONFIG_ERROR: Explained(
        "The pod cannot start: a Secret, a ConfigMap, a key of one or a volume is missing, or a "
        "container cannot be run, in kubelet's words.",
        "Create what the message names; the pod is tried again by itself.",
    ),
    Reason.CONTAINER_STARTING: Explained("The pod is on its node and pulls images or mounts."),
    Reason.POD_HELD_OPEN: Explained(
        "What judges or publishes has ended, and its pod is not over: a container that a webhook "
        "put into it still runs. Of a training the message says so.",
        "Keep the webhook out of the namespace, or have its container made a native sidecar.",
    ),
    Reason.FORBIDDEN: Explained(
        "The API server refuses the operator a child of the job, or its pause; also where a "
        "webhook that it has to ask does not answer.",
        "Check the chart's roles and admission webhooks; the message has the refusal. It is tried "
        "again every 30 seconds.",
    ),
    Reason.RESTARTING: Explained(
        "The last pod ended badly and is replaced; training goes on from the newest checkpoint.",
        "Read why in the message; `spec.backoffLimit` says how often.",
    ),
    Reason.NODE_LOST: Explained(
        "The pod's node does not answer, so nobody can say whether the pod still writes.",
        "When the node is off for good, delete it; the message has the command.",
    ),
    Reason.SUSPENDED: Explained(
        "Paused, or saving for it.", "Set `spec.suspend` to false to continue."
    ),
}

RUNNING: Mapping[Reason, Explained] = {
    Reason.TRAINING: Explained("The trainer runs, or its pod is closing."),
    Reason.TRAINING_SUCCEEDED: Explained("The model is there."),
    Reason.VALIDATING: Explained(
        "The model is there, and its verdict decides (`spec.validation.onFailure: Fail`)."
    ),
}

FAILED: Mapping[Reason, Explained] = {
    Reason.INVALID_SPEC: Explained(
        "The spec cannot be served; the message names field, value and what is allowed.",
        "Create a corrected job.",
    ),
    Reason.NAME_CONFLICT: Explained(
        "An object with a name that the job needs belongs to somebody else.",
        "Delete it or give the job another name.",
    ),
    Reason.DATASET_INVALID: Explained(
        "The rows are missing, empty or broken; the message has file and line.", "Mend the data."
    ),
    Reason.MODEL_UNAVAILABLE: Explained(
        "The base model cannot be found, fetched or loaded.",
        "Check `spec.baseModel` and, for gated models, its `tokenSecretRef`.",
    ),
    Reason.CONFIG_INVALID: Explained(
        "The trainer refuses the configuration.", "Follow the message: it names the field."
    ),
    Reason.LOSS_DIVERGED: Explained(
        "The loss is no longer a number.",
        "Lower `learningRate`, prefer `bf16` to `fp16`, look at the data.",
    ),
    Reason.STORAGE_FULL: Explained(
        "The volume has no room for a checkpoint; the one before it is whole.",
        "A larger `output.storage.size`, or a smaller `saveTotalLimit`.",
    ),
    Reason.OUT_OF_MEMORY: Explained(
        "The GPU's memory is too small.", "`finetuning estimate job.yaml` says what would fit."
    ),
    Reason.OOM_KILLED: Explained(
        "The pod needed more main memory than its limit or its node has.",
        "Raise `spec.resources.limits.memory`, or lower `batchSize` or `maxSeqLength`.",
    ),
    Reason.WORKER_LOST: Explained(
        "A process of the group was lost and took the others along.",
        "Look at the pod that failed by itself; the message has its words.",
    ),
    Reason.START_DEADLINE_EXCEEDED: Explained(
        "The trainer did not start within `startDeadlineSeconds`; the message has the obstacle.",
        "Remove the obstacle, or allow more time.",
    ),
    Reason.DEADLINE_EXCEEDED: Explained(
        "The job took longer than `activeDeadlineSeconds`, the wait for a node included.",
        "Allow more; in a claim that stays, a new job of that name continues.",
    ),
    Reason.BACKOFF_LIMIT_EXCEEDED: Explained(
        "Every try ended in a crash without a reason of its own.", "Read the trainer's log."
    ),
    Reason.TRAINING_FAILED: Explained(
        "The trainer failed; the message has its last words.", "Read the trainer's log."
    ),
    Reason.JOB_DELETED: Explained(
        "Somebody deleted the training Job before its end.",
        "Copy what you need from the claim, then create the job again.",
    ),
    Reason.VALIDATION_FAILED: Explained(
        "Required checks failed and `spec.validation.onFailure` is Fail.",
        "Read `status.validation.report`; the model is kept.",
    ),
    Reason.VALIDATOR_ERROR: Explained(
        "The model could not be judged.",
        "Read `status.validation.summary`, then set the annotation "
        "`finetuning.aim.amd.com/revalidate` to a new value.",
    ),
}

OF_CONDITIONS: Mapping[Reason, Explained] = {
    Reason.NOT_SUSPENDED: Explained("Suspended: the job is not paused."),
    Reason.MONITORING_PENDING: Explained("MonitoringReady: wired up once there is a pod."),
    Reason.SERVICE_MONITOR_CREATED: Explained("MonitoringReady: the job has its ServiceMonitor."),
    Reason.SERVICE_MONITOR_SHARED: Explained("MonitoringReady: one ServiceMonitor for all jobs."),
    Reason.POD_MONITOR_SHARED: Explained("MonitoringReady: one PodMonitor for all jobs."),
    Reason.SERVICE_MONITOR_CRD_MISSING: Explained(
        "MonitoringReady: the cluster has no prometheus-operator; training is not affected.",
        "Install it, or set `monitoring.mode` to none.",
    ),
    Reason.POD_MONITOR_CRD_MISSING: Explained(
        "MonitoringReady: the cluster has no PodMonitor kind; training is not affected.",
        "Install prometheus-operator, or set `monitoring.mode` to none.",
    ),
    Reason.MONITORING_DISABLED: Explained(
        "MonitoringReady: the chart's `monitoring.mode` is none."
    ),
    Reason.ESTIMATE_FITS: Explained("MemorySufficient: the estimate fits into the GPU."),
    Reason.ESTIMATE_EXCEEDS_MEMORY: Explained(
        "MemorySufficient: the estimate is more than the GPU has; the job is tried all the same.",
        "`finetuning estimate job.yaml` says what would make it fit.",
    ),
    Reason.MODEL_SHAPE_UNKNOWN: Explained("MemorySufficient: nobody knows this model's size."),
    Reason.GPU_MODEL_UNKNOWN: Explained(
        "MemorySufficient: nobody said which GPU the nodes have.", "Set the chart's `gpuModel`."
    ),
    Reason.MANY_NODES: Explained("OutputShared: the claim can be mounted by several nodes."),
    Reason.ONE_NODE_ONLY: Explained(
        "OutputShared: the claim can be mounted by one node, so all workers are kept there.",
        "`output.storage.accessMode: ReadWriteMany` on a StorageClass that has it.",
    ),
    Reason.CLAIM_UNKNOWN: Explained("OutputShared: nobody could look at the claim yet."),
    Reason.VALIDATION_PENDING: Explained("Validated: the validation waits for its pod."),
    Reason.VALIDATION_RUNNING: Explained("Validated: the checks run."),
    Reason.CHECKS_PASSED: Explained("Validated: every required check passed."),
    Reason.CHECKS_FAILED: Explained(
        "Validated: required checks failed.", "Read `status.validation.report`."
    ),
    Reason.VALIDATION_SKIPPED: Explained("Validated: `spec.validation.enabled` is false."),
    Reason.PUBLISH_PENDING: Explained("Published: waits for the verdict, or for its pod."),
    Reason.PUBLISHING: Explained("Published: the files are sent and read back."),
    Reason.PUBLISHED: Explained("Published: every copy is complete; `status.publish` has places."),
    Reason.PUBLISH_FAILED: Explained(
        "Published: the copy could not be completed, in the words of the message.",
        "Mend what it names, then set the annotation `finetuning.aim.amd.com/republish` to a new "
        "value: it goes on where it was broken off.",
    ),
    Reason.PUBLISH_SKIPPED: Explained("Published: `spec.output.publish.policy` is Never."),
    Reason.NOT_VALIDATED: Explained(
        "Published, ServingCreated: the model did not pass its validation, so it is not published, "
        "or nothing is created that serves it.",
        "Read `status.validation.report`. To publish it all the same, set "
        "`spec.output.publish.policy` to Always.",
    ),
    Reason.SERVING_PENDING: Explained("ServingCreated: waits for the verdict or for the copy."),
    Reason.SERVING_CREATED: Explained(
        "ServingCreated: AMD's aim-engine has what it serves the model by; how it fares, that says."
    ),
    Reason.SERVING_REFUSED: Explained(
        "ServingCreated: the API server does not take the objects, in the words of the message.",
        "Mend `spec.output.serve`, or apply `status.serving` by hand.",
    ),
    Reason.IMAGE_NOT_ALLOWED: Explained(
        "ServingCreated: `output.serve.image` is none that the admins of the cluster allow.",
        "Name one that the message allows, or ask for it in the chart's `serving.images`.",
    ),
    Reason.AIM_CRD_MISSING: Explained(
        "ServingCreated: the cluster has no AIMModel, or no AIMService.",
        "Install aim-engine, then set the annotation `finetuning.aim.amd.com/serve` to a new "
        "value.",
    ),
}

SECTIONS: Mapping[str, Mapping[Reason, Explained]] = {
    "Phases Pending and Paused": WAITING,
    "Phases Running and Succeeded": RUNNING,
    "Phase Failed": FAILED,
    "Of conditions alone": OF_CONDITIONS,
}
