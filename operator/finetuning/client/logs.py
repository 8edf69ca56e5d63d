"""Where the words of a job are: which pod and container, and when there is nothing more to come."""

from collections.abc import Sequence
from enum import StrEnum

from finetuning.api.v1alpha1 import FineTuningJob, Phase
from finetuning.client.errors import ClientError
from finetuning.client.story import Until, is_there
from finetuning.controller import naming, publications, training_status
from finetuning.controller.observed import Pod


class LogOf(StrEnum):
    """Whose output to read."""

    TRAINING = "training"
    VALIDATION = "validation"
    PUBLISHING = "publishing"
    SIDECAR = "sidecar"


_WHERE = {
    LogOf.TRAINING: (naming.TRAINING, naming.TRAINING_CONTAINER),
    LogOf.VALIDATION: (naming.VALIDATION, naming.VALIDATION_CONTAINER),
    LogOf.PUBLISHING: (naming.PUBLISHING, naming.PUBLISHING_CONTAINER),
    LogOf.SIDECAR: (naming.TRAINING, naming.SIDECAR_CONTAINER),
}


def output(word: str) -> LogOf:
    """Raises ClientError, with the outputs that there are."""
    try:
        return LogOf(word)
    except ValueError:
        raise ClientError(f"of: {word!r} is none of {', '.join(LogOf)}") from None


def container(of: LogOf) -> str:
    return _WHERE[of][1]


def selector(uid: str, of: LogOf) -> str:
    """The label selector of the pods in question."""
    return f"{naming.JOB_UID_LABEL}={uid},{naming.COMPONENT_LABEL}={_WHERE[of][0]}"


def newest(pods: Sequence[Pod]) -> Pod | None:
    """A live pod counts as newer than one that is over."""
    return max(pods, key=_age, default=None)


def _age(pod: Pod) -> tuple[bool, float, str]:
    return (not pod.over, pod.meta.created.timestamp() if pod.meta.created else 0.0, pod.meta.name)


def has_begun(pod: Pod, of: LogOf) -> bool:
    """Whether the container has run, so that the kubelet has its output."""
    found = pod.container(container(of))
    return found is not None and found.waiting is None


def why_not(pod: Pod | None, of: LogOf) -> str:
    """Why there is no output yet, in a sentence."""
    if pod is None:
        return f"there is no {_WHERE[of][0]} pod"
    found = pod.container(container(of))
    waiting = found.waiting if found is not None else ""
    stuck = pod.unscheduled.message if pod.unscheduled else ""
    return f"the pod {pod.meta.name} has not begun: {stuck or waiting or pod.phase or 'Pending'}"


def why_never(job: FineTuningJob) -> str:
    """What holds up a job whose output is waited for; empty for one that goes on by itself."""
    return f", and it is paused: resume {job.metadata.name}" if job.spec.suspend else ""


def no_more(job: FineTuningJob, of: LogOf) -> bool:
    """Whether no other pod will follow the ones that are over; none does during a pause."""
    if of in {LogOf.VALIDATION, LogOf.PUBLISHING} and job.spec.suspend:
        return True
    if of is LogOf.VALIDATION:
        return is_there(job, Until.VALIDATED)
    if of is LogOf.PUBLISHING:
        return publications.is_settled(job)
    return job.status.phase is Phase.PAUSED or training_status.is_over(job.status)
