"""Whether a job's peak fits into the GPU that it asks for, judged once, from its spec alone."""

from finetuning.api.v1alpha1 import Condition, ConditionType, FineTuningJob, Reason
from finetuning.controller.conditions import FALSE, TRUE, UNKNOWN, condition
from finetuning.controller.training_status import Nodes
from finetuning.estimate import known, of_job, page
from finetuning.estimate.advice import judge
from finetuning.estimate.formula import Host, peak
from finetuning.estimate.gpus import UnknownGpuError, of_resource
from finetuning.estimate.shape import Shape


def conditions(job: FineTuningJob, nodes: Nodes | None) -> list[Condition]:
    """The verdict before the training Job is reported; none later, so that the first one stands."""
    if nodes is None or job.status.training_job_name:
        return []
    return [_judged(job, nodes)]


def _judged(job: FineTuningJob, nodes: Nodes) -> Condition:
    kind, model_id = ConditionType.MEMORY_SUFFICIENT, job.spec.base_model.model_id
    shape = known.shape_of(model_id)
    if shape is None:
        text = f"The shape of {model_id} is not known here; `finetuning estimate --model` reads it."
        return condition(kind, UNKNOWN, Reason.MODEL_SHAPE_UNKNOWN, text)
    if not nodes.gpu_model:
        return condition(kind, UNKNOWN, Reason.GPU_MODEL_UNKNOWN, _without_gpu(job, shape))
    try:
        gpu = of_resource(of_job.device(job, nodes.gpu_resource), nodes.gpu_model)
    except UnknownGpuError as error:
        return condition(kind, UNKNOWN, Reason.GPU_MODEL_UNKNOWN, str(error))
    verdict = judge(shape, of_job.settings(job), gpu)
    status, reason = (
        (TRUE, Reason.ESTIMATE_FITS) if verdict.fits else (FALSE, Reason.ESTIMATE_EXCEEDS_MEMORY)
    )
    return condition(kind, status, reason, page.sentence(verdict))


def _without_gpu(job: FineTuningJob, shape: Shape) -> str:
    needed = peak(shape, of_job.settings(job), Host()).total
    return (
        f"The run needs about {page.gib(needed)} at its peak; which GPU the nodes have is not "
        "known: set gpuModel of the operator's chart."
    )
