"""What people are told of a change: a log line each, and few Kubernetes Events."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from finetuning.api.v1alpha1 import (
    ConditionType,
    FineTuningJobStatus,
    Phase,
    PublishStatus,
    Reason,
    ValidationPhase,
    ValidationStatus,
)
from finetuning.artifacts import CHECKPOINT_PREFIX
from finetuning.controller import (
    apply,
    attempts,
    conditions,
    publications,
    served,
    training_status,
)
from finetuning.controller.budget import Budget
from finetuning.controller.gateway import ApiError, Gateway
from finetuning.controller.observed import Custom, Key

log = logging.getLogger(__name__)

EVENTS_PER_SECOND = 1.0
EVENTS_BURST = 25.0
KEPT_FOR_WARNINGS = 10.0
"""News that all is well may not use up what a failure needs to be told."""

TRAINING_STARTED, TRAINING_RESUMED = "TrainingStarted", "TrainingResumed"

_WORRYING = {
    Reason.NAME_CONFLICT,
    Reason.PODS_FORBIDDEN,
    Reason.UNSCHEDULABLE,
    Reason.IMAGE_PULL_FAILED,
    Reason.CONTAINER_CONFIG_ERROR,
    Reason.RESTARTING,
    Reason.FORBIDDEN,
    Reason.NODE_LOST,
    Reason.POD_HELD_OPEN,
    Reason.OUTPUT_IN_USE,
}
_MONITORING_TROUBLE = {
    Reason.SERVICE_MONITOR_CRD_MISSING,
    Reason.POD_MONITOR_CRD_MISSING,
    Reason.FORBIDDEN,
    Reason.NAME_CONFLICT,
}
_JUDGED = {ValidationPhase.PASSED, ValidationPhase.FAILED, ValidationPhase.ERROR}

_OF_THE_VERDICT = {Reason.VALIDATION_FAILED, Reason.VALIDATOR_ERROR}


@dataclass(frozen=True)
class Announcement:
    reason: str
    message: str
    warning: bool


def announcements(old: FineTuningJobStatus | None, new: FineTuningJobStatus) -> list[Announcement]:
    """What is worth an Event: obstacles, each turn of the training, the verdict.

    A job that meets no trouble has three: it trains, it is trained, it is validated. Progress is
    in the status and in Prometheus.
    """
    before = old or FineTuningJobStatus()
    return [
        *_of_training(before, new),
        *_of_monitoring(before, new),
        *_of_validation(before, new),
        *_of_publishing(before, new),
        *_of_serving(before, new),
    ]


def _of_training(before: FineTuningJobStatus, new: FineTuningJobStatus) -> list[Announcement]:
    if new.reason != before.reason and new.reason in _WORRYING:
        return [Announcement(new.reason, new.message, warning=True)]
    # What a verdict means for the phase is told by the Event about the verdict.
    told = training_status.is_over(before) or new.reason in _OF_THE_VERDICT
    turn = None if told else _turn(before, new)
    return [turn] if turn is not None else []


def _turn(before: FineTuningJobStatus, new: FineTuningJobStatus) -> Announcement | None:
    if training_status.is_trained(new):
        return Announcement(Reason.TRAINING_SUCCEEDED.value, new.message, warning=False)
    if new.phase is before.phase:
        return None
    match new.phase:
        case Phase.RUNNING:
            return _beginning(before, new)
        case Phase.PAUSED:
            return Announcement(new.reason, f"{new.message}{_position(new)}", warning=False)
        case Phase.FAILED:
            return Announcement(new.reason, new.message, warning=True)
        case _:
            return None


def _beginning(before: FineTuningJobStatus, new: FineTuningJobStatus) -> Announcement:
    """A trainer that takes up an earlier one's work goes on."""
    if before.start_time is None and not before.current_step:
        return Announcement(TRAINING_STARTED, new.message, warning=False)
    return Announcement(TRAINING_RESUMED, f"{new.message}{_taken_up(before)}", warning=False)


def _taken_up(found: FineTuningJobStatus) -> str:
    """The step of the newest checkpoint that was told of; what was done after it is done again."""
    _, _, step = found.checkpoint_path.rpartition(CHECKPOINT_PREFIX)
    if not step.isdecimal():
        return ""
    total = f" of {found.total_steps}" if found.total_steps else ""
    return f" It goes on from its newest checkpoint, last known at step {step}{total}."


def _position(found: FineTuningJobStatus) -> str:
    """Where the training stood, as far as it is known."""
    if not found.current_step:
        return ""
    total = f" of {found.total_steps}" if found.total_steps else ""
    return f" It had done {found.current_step}{total} steps."


def _of_monitoring(before: FineTuningJobStatus, new: FineTuningJobStatus) -> list[Announcement]:
    kind = ConditionType.MONITORING_READY
    was, now = conditions.find(before.conditions, kind), conditions.find(new.conditions, kind)
    if now is None or now.reason not in _MONITORING_TROUBLE:
        return []
    if was is not None and was.reason == now.reason:
        return []
    # A cluster without prometheus-operator is a choice, not a fault.
    chosen = now.reason == Reason.SERVICE_MONITOR_CRD_MISSING
    return [Announcement(now.reason, now.message, warning=not chosen)]


_Stage = ValidationStatus | PublishStatus


def _of_validation(before: FineTuningJobStatus, new: FineTuningJobStatus) -> list[Announcement]:
    """One for each attempt, in the words of the condition, and one for what keeps it waiting."""
    found = new.validation
    if found is None or found.phase not in _JUDGED:
        summary = found.summary if found is not None else ""
        return _of_an_obstacle("validation", before.validation, found, summary)
    if not attempts.is_news(before.validation, found):
        return []
    passed = found.phase is ValidationPhase.PASSED
    (told,) = conditions.validated(found)
    return [Announcement(told.reason, told.message, warning=not passed)]


def _of_an_obstacle(
    stage: str, before: _Stage | None, found: _Stage | None, words: str
) -> list[Announcement]:
    if found is None or found.reason not in _WORRYING:
        return []
    if before is not None and before.reason == found.reason:
        return []
    end = "" if words.endswith(("…", ".")) else "."
    return [Announcement(found.reason, f"The {stage} waits: {words}{end}", warning=True)]


def _of_publishing(before: FineTuningJobStatus, new: FineTuningJobStatus) -> list[Announcement]:
    """That the copies are there, or why they are not yet or will not be."""
    if not publications.is_news(before.publish, new.publish):
        message = new.publish.message if new.publish is not None else ""
        return _of_an_obstacle("publication", before.publish, new.publish, message)
    (told,) = conditions.published(new.publish)
    failed = told.reason == Reason.PUBLISH_FAILED
    return [Announcement(told.reason, told.message, warning=failed)]


def _of_serving(before: FineTuningJobStatus, new: FineTuningJobStatus) -> list[Announcement]:
    """That the servers' objects are there, or why they are not."""
    if not served.is_news(before.serving, new.serving):
        return []
    (told,) = conditions.served(new.serving)
    return [Announcement(told.reason, told.message, warning=told.status != conditions.TRUE)]


def log_transition(key: Key, old: FineTuningJobStatus | None, new: FineTuningJobStatus) -> None:
    """One line when a job turns; progress and refinements are left to the status."""
    before = old or FineTuningJobStatus()
    if old is None or (before.phase, before.reason) != (new.phase, new.reason):
        bad = new.phase is Phase.FAILED or new.reason in _WORRYING
        level = logging.WARNING if bad else logging.INFO
        text = "job=%s/%s phase=%s reason=%s message=%r"
        log.log(level, text, *key, new.phase.value, new.reason, new.message)
    found = new.validation
    was = before.validation
    if found is not None and (
        was is None or (was.phase, was.attempt) != (found.phase, found.attempt)
    ):
        text = "job=%s/%s validation=%s summary=%r"
        log.info(text, *key, found.phase.value, found.summary)
    if new.publish is not None and publications.is_news(before.publish, new.publish):
        text = "job=%s/%s publish=%s message=%r"
        log.info(text, *key, new.publish.phase.value, new.publish.message)
    if new.serving is not None and served.is_news(before.serving, new.serving):
        log.info("job=%s/%s serving=%s message=%r", *key, new.serving.reason, new.serving.message)


class Announcer:
    """Posts Events within a budget: a thousand failing jobs must not flood the API server."""

    def __init__(self, gateway: Gateway, clock: Callable[[], float]) -> None:
        self._gateway = gateway
        self._budget = Budget(EVENTS_PER_SECOND, EVENTS_BURST, clock)

    async def announce(
        self, custom: Custom, old: FineTuningJobStatus | None, new: FineTuningJobStatus
    ) -> None:
        """An Event that cannot be posted is no reason to try anything again."""
        for each in announcements(old, new):
            if not self._budget.take(leaving=0.0 if each.warning else KEPT_FOR_WARNINGS):
                log.debug("event withheld: %s", each.reason)
                continue
            try:
                await apply.post_event(self._gateway, custom, each, self._gateway.now())
            except ApiError as error:
                log.warning("job=%s/%s event not posted: %s", *custom.key, error)
