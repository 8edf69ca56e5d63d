"""The pods of one job that train together: how many, the processes in each, and where they meet."""

from dataclasses import dataclass

from finetuning.api.v1alpha1 import AccessMode, FineTuningJob
from finetuning.controller import naming
from finetuning.controller.desired.metadata import Manifest, metadata
from finetuning.controller.settings import Settings

PORT = 29400
"""Of torchrun's rendezvous, in the pod with index 0."""


@dataclass(frozen=True)
class Group:
    """Pods, and processes in each of them."""

    pods: int
    processes: int

    @property
    def size(self) -> int:
        return self.pods * self.processes


def of(job: FineTuningJob, settings: Settings) -> Group:
    """As the spec says."""
    return Group(job.spec.workers, job.spec.processes_of_a_worker(settings.gpu_resource_name))


def service(job: FineTuningJob) -> Manifest | None:
    """Gives the pods of a group names, also before they are ready; None where there is one pod."""
    if job.spec.workers == 1:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(job, naming.names(job.metadata.name).workers, naming.RENDEZVOUS),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": naming.selector(job.metadata, naming.TRAINING),
            "ports": [{"name": "rendezvous", "port": PORT, "protocol": "TCP", "targetPort": PORT}],
        },
    }


def command(job: FineTuningJob, group: Group) -> list[str]:
    """The trainer itself where there is one process, else torchrun around it."""
    if group.size == 1:
        return ["python3", "-m", "finetuning.base.app"]
    words = ["python3", "-m", "finetuning.base.torchrun", "--nproc-per-node", str(group.processes)]
    if group.pods == 1:
        return words
    names = naming.names(job.metadata.name)
    endpoint = f"{names.training}-0.{names.workers}:{PORT}"
    return [*words, "--nnodes", str(group.pods), "--rdzv-endpoint", endpoint]


def job_fields(job: FineTuningJob) -> Manifest:
    """What an Indexed Job has beside a plain one; when a pod is lost, all of its group end."""
    pods = job.spec.workers
    if pods == 1:
        return {"backoffLimit": job.spec.backoff_limit}
    return {
        "backoffLimit": pods_to_lose(job),
        "completionMode": "Indexed",
        "completions": pods,
        "parallelism": pods,
    }


def pods_to_lose(job: FineTuningJob) -> int:
    """Failed pods after which the Job gives up: each try of a group is one for each of its pods.

    A pod whose node is lost is not counted, and those that trained with it cannot know why it is
    gone and are: all but one of a group may end without that a try is spent.
    """
    return job.spec.backoff_limit * job.spec.workers + job.spec.workers - 1


def pod_fields(job: FineTuningJob) -> Manifest:
    """A name for each pod, and one node for all where the volume can be on one only."""
    if job.spec.workers == 1:
        return {}
    fields: Manifest = {"subdomain": naming.names(job.metadata.name).workers}
    if job.spec.access_mode is AccessMode.READ_WRITE_ONCE:
        fields["affinity"] = {"podAffinity": _one_node(job)}
    return fields


def _one_node(job: FineTuningJob) -> Manifest:
    """Of the node that the first pod is on: the scheduler lets a pod be near itself."""
    near = {
        "labelSelector": {"matchLabels": naming.selector(job.metadata, naming.TRAINING)},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {"requiredDuringSchedulingIgnoredDuringExecution": [near]}
