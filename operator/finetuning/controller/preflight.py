"""Judged once, before a GPU is taken: whether the peak fits, and who can mount the output."""

from finetuning.api.v1alpha1 import AccessMode, Condition, ConditionType, FineTuningJob, Reason
from finetuning.controller.conditions import FALSE, TRUE, UNKNOWN, condition, find
from finetuning.controller.desired import sources
from finetuning.controller.training_status import Nodes
from finetuning.estimate import known, of_job, page
from finetuning.estimate.advice import judge
from finetuning.estimate.formula import Host, peak
from finetuning.estimate.gpus import UnknownGpuError, of_resource
from finetuning.estimate.shape import Shape


def conditions(job: FineTuningJob, nodes: Nodes | None) -> list[Condition]:
    """The verdict before the training Job is reported; later the first one stands."""
    if nodes is None or job.status.training_job_name:
        return _kept(job, ConditionType.MEMORY_SUFFICIENT)
    return [_judged(job, nodes)]


def _kept(job: FineTuningJob, kind: ConditionType) -> list[Condition]:
    """What it was judged by cannot change, so that it holds for a later generation too."""
    found = find(job.status.conditions, kind)
    return [found] if found is not None else []


def _judged(job: FineTuningJob, nodes: Nodes) -> Condition:
    kind, model_id = ConditionType.MEMORY_SUFFICIENT, job.spec.base_model.model_id
    shape = known.shape_of(model_id)
    if shape is None:
        text = f"The shape of {model_id} is not known here; `finetuning estimate --model` reads it."
        return condition(kind, UNKNOWN, Reason.MODEL_SHAPE_UNKNOWN, text)
    if not nodes.gpu_model:
        return condition(kind, UNKNOWN, Reason.GPU_MODEL_UNKNOWN, _without_gpu(job, nodes, shape))
    try:
        gpu = of_resource(of_job.device(job, nodes.gpu_resource), nodes.gpu_model)
    except UnknownGpuError as error:
        return condition(kind, UNKNOWN, Reason.GPU_MODEL_UNKNOWN, str(error))
    verdict = judge(shape, of_job.settings(job, nodes.gpu_resource), gpu)
    status, reason = (
        (TRUE, Reason.ESTIMATE_FITS) if verdict.fits else (FALSE, Reason.ESTIMATE_EXCEEDS_MEMORY)
    )
    return condition(kind, status, reason, page.sentence(verdict))


def _without_gpu(job: FineTuningJob, nodes: Nodes, shape: Shape) -> str:
    needed = peak(shape, of_job.settings(job, nodes.gpu_resource), Host()).total
    return (
        f"The run needs about {page.gib(needed)} at its peak; which GPU the nodes have is not "
        "known: set gpuModel of the operator's chart."
    )


_MANY = AccessMode.READ_WRITE_MANY


def output_shared(job: FineTuningJob, modes: tuple[str, ...] | None) -> list[Condition]:
    """Whether the pods of a group may run on different nodes; nothing is said of a single pod.

    `modes` are those of a claim of the user's own, None while they are not known.
    """
    if job.spec.workers == 1:
        return []
    if job.status.training_job_name:
        return _kept(job, ConditionType.OUTPUT_SHARED)
    own = job.spec.output.storage.claim_name is None
    declared = own or job.spec.output.storage.access_mode is not None
    if not declared and modes is None:
        text = f"Claim {sources.output(job).claim} was not found: it has to be {_MANY}."
        return [condition(ConditionType.OUTPUT_SHARED, UNKNOWN, Reason.CLAIM_UNKNOWN, text)]
    many = _MANY in modes if modes is not None else job.spec.access_mode is _MANY
    return [_on_many_nodes(job) if many else _on_one_node(job, declared=declared)]


def _on_many_nodes(job: FineTuningJob) -> Condition:
    text = f"Claim {sources.output(job).claim} is {_MANY}: the pods may run on different nodes."
    return condition(ConditionType.OUTPUT_SHARED, TRUE, Reason.MANY_NODES, text)


def _on_one_node(job: FineTuningJob, *, declared: bool) -> Condition:
    """Pods that are not kept together may land on nodes that cannot mount it, and wait for ever."""
    kept = (
        "all are kept on one node, which needs that many GPUs"
        if declared and job.spec.access_mode is AccessMode.READ_WRITE_ONCE
        else "they start only on one node; set spec.output.storage.accessMode to ReadWriteOnce in "
        "a new job to keep them there"
    )
    text = (
        f"Claim {sources.output(job).claim} is not {_MANY}: of the {job.spec.workers} pods, "
        f"{kept}. For several nodes give a claim, or a StorageClass, with {_MANY}."
    )
    return condition(ConditionType.OUTPUT_SHARED, FALSE, Reason.ONE_NODE_ONLY, text)
