"""What to wait for in a job, and whether a status has it."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial

from finetuning.api.v1alpha1 import ConditionType, FineTuningJob, Phase
from finetuning.artifacts.plain import plain
from finetuning.client.errors import ClientError, TimedOutError, WrongStateError
from finetuning.controller import attempts, conditions, naming, training_status


class Until(StrEnum):
    """The turns of a job that can be waited for."""

    TRAINED = "trained"
    """The training has ended, well or not."""
    VALIDATED = "validated"
    """The training has failed, or the verdict on its model is there."""
    READY = "ready"
    """All that the job asks for is there: trained, validated, published, handed to AIM. Or it will
    not be by itself."""
    PAUSED = "paused"
    """The work is saved and the GPU is free, or the training has ended before."""


Goal = Callable[[FineTuningJob], bool]


def goal(until: Until | str | Goal, progress: Callable[[FineTuningJob], None] | None) -> Goal:
    """Whether a job, which `progress` is shown first, is where it is waited for.

    Raises ClientError for a word that is no turn.
    """
    is_reached = partial(is_there, until=turn(until)) if isinstance(until, str) else until

    def shown_and_reached(job: FineTuningJob) -> bool:
        if progress is not None:
            progress(job)
        return is_reached(job)

    return shown_and_reached


def not_in_time(name: str, until: Until | str | Goal, seconds: float | None) -> TimedOutError:
    """What a wait that is over says."""
    wish = str(until) if isinstance(until, str) else "there"
    return TimedOutError(f"{name}: not {wish} after {seconds:.0f} s")


def turn(word: str) -> Until:
    """Raises ClientError, with the turns that there are."""
    try:
        return Until(word)
    except ValueError:
        raise ClientError(f"until: {word!r} is none of {', '.join(Until)}") from None


def is_there(job: FineTuningJob, until: Until) -> bool:
    """Whether the newest spec has come that far."""
    now = job.status
    if now.observed_generation != job.metadata.generation:
        return False
    match until:
        case Until.PAUSED:
            return now.phase is Phase.PAUSED or training_status.is_over(now)
        case Until.TRAINED:
            return training_status.is_over(now)
        case Until.VALIDATED:
            return _is_judged(job)
        case Until.READY:
            return any(_holds(job, each) for each in (ConditionType.READY, ConditionType.STALLED))


def is_ready(job: FineTuningJob) -> bool:
    """Whether all that the newest spec asks for is there."""
    return _holds(job, ConditionType.READY)


def _holds(job: FineTuningJob, kind: ConditionType) -> bool:
    found = conditions.find(job.status.conditions, kind)
    if found is None or found.observed_generation != job.metadata.generation:
        return False
    return found.status == conditions.TRUE


def _is_judged(job: FineTuningJob) -> bool:
    now, found = job.status, job.status.validation
    if now.phase is Phase.FAILED and not training_status.is_trained(now):
        return True
    return attempts.is_over(found) and found is not None and found.rerun is None


def answers(job: FineTuningJob, wish: str) -> bool:
    """Whether the verdict is the answer to this value of the annotation, or to a later one.

    Whoever asks again meanwhile takes the place of the first, which is then answered as well.

    Raises:
        WrongStateError: nobody asks any more.
    """
    found = job.status.validation
    judged = found is not None and found.rerun is None and attempts.is_over(found)
    answered = found.revalidate if judged and found is not None else None
    if answered == wish:
        return True
    asked = job.metadata.annotations.get(naming.REVALIDATE_ANNOTATION)
    if asked is None:
        raise WrongStateError(
            f"{job.metadata.name}: its annotation {naming.REVALIDATE_ANNOTATION} was taken away "
            "before there was a verdict; ask again"
        )
    return answered == plain(asked, 63)
