"""What keeps the Pod of a validation or a publication from coming or starting, and who is told.

The training is over by then, so that the job's own line would say nothing of it.
"""

from dataclasses import dataclass

from finetuning.api.v1alpha1 import (
    FineTuningJobStatus,
    PublishPhase,
    PublishStatus,
    Reason,
    ValidationPhase,
    ValidationRerun,
    ValidationStatus,
)
from finetuning.artifacts.plain import plain
from finetuning.controller import naming, remedies, training_status
from finetuning.controller.observed import BatchJob, Pod
from finetuning.controller.training_status import Problem, Seen, trouble

LIMIT = 1024
"""Characters of the job's own message."""
FROM_EVENTS = {Reason.PODS_FORBIDDEN, Reason.CONTAINER_CONFIG_ERROR}
"""What nobody but an event tells."""
PAUSED = "Set spec.suspend to false to begin it anew."
"""A validation or publication that is paused frees its GPU, and keeps nothing of what it did."""
_IN_QUEUE = "Waiting for Kueue to let it begin."
_SENTENCES = {
    naming.VALIDATION: " Its validation waits: ",
    naming.PUBLISHING: " Its publication waits: ",
}


@dataclass(frozen=True)
class Obstacle:
    """In the words of whoever knows."""

    reason: Reason
    words: str
    final: bool = False


def of_validation(seen: Seen, job: BatchJob | None) -> Obstacle | None:
    """`job` is the attempt that counts; None where there is none yet."""
    return _of(seen, seen.validation_problem, job, seen.children.validation_pods)


def of_publishing(seen: Seen, job: BatchJob | None) -> Obstacle | None:
    """`job` is the attempt that counts; None where there is none yet."""
    return _of(seen, seen.publish_problem, job, seen.children.publishing_pods)


def _of(
    seen: Seen, problem: Problem | None, job: BatchJob | None, pods: tuple[Pod, ...]
) -> Obstacle | None:
    hint, queued = seen.hint, job is not None and job.queued
    if problem is not None:
        return Obstacle(problem.reason, problem.message, problem.final)
    if seen.job.spec.suspend and not queued:
        return Obstacle(Reason.SUSPENDED, PAUSED)
    if job is None:
        return None
    if job.suspend and queued:
        return Obstacle(Reason.QUEUED, f"{_IN_QUEUE} {hint}".strip())
    return _of_pods(seen, pods)


def _of_pods(seen: Seen, pods: tuple[Pod, ...]) -> Obstacle | None:
    if (lost := training_status.lost(pods, seen.now)) is not None:
        return Obstacle(Reason.NODE_LOST, training_status.of_a_lost_node(lost))
    if all(pod.over for pod in pods):
        # That of the Job, which has tried to make the first one, or the next.
        return Obstacle(Reason.PODS_FORBIDDEN, seen.hint) if seen.hint else None
    stuck = trouble(pods[0], seen.hint)
    if stuck is None and pods[0].held_open_by:
        return Obstacle(Reason.POD_HELD_OPEN, training_status.held_open(pods[0]))
    return Obstacle(*stuck) if stuck is not None else None


def told(seen: Seen, new: FineTuningJobStatus) -> FineTuningJobStatus:
    """With the obstacle of the stage that waits behind what the message says of the training."""
    message = new.message
    for sentence in _SENTENCES.values():
        message = message.partition(sentence)[0]
    if _validation_waits(new.validation):
        words = _of_attempt(seen, new.validation)
        message += _SENTENCES[naming.VALIDATION] + words
    elif new.publish is not None and _publication_waits(new.publish):
        message += _SENTENCES[naming.PUBLISHING] + new.publish.message
    return new.model_copy(update={"message": plain(message, LIMIT)})


def _of_attempt(seen: Seen, status: ValidationStatus | None) -> str:
    """In full where it is seen; the summary has room for the beginning."""
    current = _current(status)
    found = of_validation(seen, seen.children.validation)
    if found is None:
        return current.summary if current is not None else ""
    return remedies.named(seen.job, found.words, remedies.VALIDATION)


def told_before(status: FineTuningJobStatus, component: str) -> str:
    """What an earlier life of the operator read in events of a stage; empty when nothing."""
    stage = status.validation if component == naming.VALIDATION else status.publish
    said = status.message.partition(_SENTENCES[component])[2]
    if stage is not None and stage.reason == Reason.QUEUED:
        return said.removeprefix(_IN_QUEUE).strip()
    return said if stage is not None and stage.reason in FROM_EVENTS else ""


def are_paused(status: FineTuningJobStatus) -> bool:
    """Whether the validation or the publication waits for spec.suspend."""
    return PAUSED in _waits(status)


def is_news(old: FineTuningJobStatus, new: FineTuningJobStatus) -> bool:
    """Whether a stage has come to wait, waits for something else, or goes on."""
    return _waits(old) != _waits(new)


def _waits(status: FineTuningJobStatus) -> tuple[str, str]:
    current, publish = _current(status.validation), status.publish
    judging = current.summary if current and _validation_waits(status.validation) else ""
    publishing = publish.message if publish is not None and _publication_waits(publish) else ""
    return judging, publishing


def _current(status: ValidationStatus | None) -> ValidationStatus | ValidationRerun | None:
    return (status.rerun or status) if status is not None else None


def _validation_waits(status: ValidationStatus | None) -> bool:
    current = _current(status)
    return current is not None and current.phase is ValidationPhase.PENDING


def _publication_waits(status: PublishStatus) -> bool:
    return status.phase is PublishPhase.PENDING and status.reason != Reason.PUBLISH_PENDING
