"""What an estimate needs from a FineTuningJob."""

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.estimate.formula import Job


def settings(job: FineTuningJob, gpu_resource: str) -> Job:
    """The part of a job that its memory depends on."""
    spec = job.spec
    processes = spec.workers * spec.processes_of_a_worker(gpu_resource)
    return Job(spec.method, spec.hyperparameters, spec.lora, spec.quantization, processes)


def device(job: FineTuningJob, default: str) -> str:
    """The Kubernetes resource that stands for its GPU."""
    resources = job.spec.resources
    named = [name for name in (*resources.limits, *resources.requests) if "/" in name]
    return named[0] if named else default
