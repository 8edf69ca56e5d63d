"""What an estimate needs from a FineTuningJob."""

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.estimate.formula import Job


def settings(job: FineTuningJob) -> Job:
    """The part of a job that its memory depends on."""
    spec = job.spec
    return Job(spec.method, spec.hyperparameters, spec.lora, spec.quantization)


def device(job: FineTuningJob, default: str) -> str:
    """The Kubernetes resource that stands for its GPU."""
    resources = job.spec.resources
    named = [name for name in (*resources.limits, *resources.requests) if "/" in name]
    return named[0] if named else default
