"""The conditions of a job, as scripts wait for them: one per type, with the time of its flip."""

import re
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from finetuning.api.v1alpha1 import (
    Condition,
    ConditionType,
    FineTuningJobStatus,
    Phase,
    PublishPhase,
    PublishStatus,
    Reason,
    ServingStatus,
    ValidationPhase,
    ValidationStatus,
)
from finetuning.artifacts.plain import shorter
from finetuning.controller import obstacles, verdict
from finetuning.controller.training_status import Problem

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"

MONITORED = frozenset(
    {Reason.SERVICE_MONITOR_CREATED, Reason.SERVICE_MONITOR_SHARED, Reason.POD_MONITOR_SHARED}
)
"""The reasons for which MonitoringReady is true, one for each mode."""


MESSAGE_LIMIT = 1024
"""Characters: the definition takes no more, and refuses the whole status then."""


_COMMIT = re.compile("[0-9a-f]{40}")
_UNPINNED = (
    " baseModel.revision {} is a branch or a tag, which may come to mean other weights: name the "
    "commit hash for the same ones again."
)


@lru_cache(maxsize=512)
def condition(kind: ConditionType, status: str, reason: str, message: str = "") -> Condition:
    words = shorter(message, MESSAGE_LIMIT)
    return Condition(type=kind.value, status=status, reason=str(reason), message=words)


def config_valid(status: FineTuningJobStatus, revision: str | None = None) -> Condition:
    """`revision` is that of the base model, which a branch or a tag leaves open."""
    if status.reason in {Reason.INVALID_SPEC, Reason.CONFIG_INVALID}:
        return condition(ConditionType.CONFIG_VALID, FALSE, Reason(status.reason), status.message)
    words = "The spec can be served."
    if revision is not None and not _COMMIT.fullmatch(revision):
        words += _UNPINNED.format(revision)
    return condition(ConditionType.CONFIG_VALID, TRUE, Reason.ACCEPTED, words)


def invalid_config(message: str) -> Condition:
    return condition(ConditionType.CONFIG_VALID, FALSE, Reason.INVALID_SPEC, message)


def suspended(status: FineTuningJobStatus) -> Condition:
    if status.phase is Phase.PAUSED or obstacles.are_paused(status):
        return condition(ConditionType.SUSPENDED, TRUE, Reason.SUSPENDED, status.message)
    return condition(ConditionType.SUSPENDED, FALSE, Reason.NOT_SUSPENDED)


def monitoring(outcome: Problem | None, old: Condition | None) -> Condition:
    """What was tried last; a job that was never monitored yet is pending."""
    if outcome is not None:
        status = TRUE if outcome.reason in MONITORED else FALSE
        return condition(ConditionType.MONITORING_READY, status, outcome.reason, outcome.message)
    return old or condition(
        ConditionType.MONITORING_READY,
        UNKNOWN,
        Reason.MONITORING_PENDING,
        "Metrics are wired up when the training pod exists.",
    )


def outcome(status: FineTuningJobStatus) -> list[Condition]:
    """Complete and Failed appear when they hold, as on a batch/v1 Job."""
    reason = status.reason
    match status.phase:
        case Phase.SUCCEEDED:
            return [condition(ConditionType.COMPLETE, TRUE, reason, status.message)]
        case Phase.FAILED:
            return [condition(ConditionType.FAILED, TRUE, reason, status.message)]
        case _:
            return []


def readiness(status: FineTuningJobStatus) -> list[Condition]:
    """Ready when all is there that the job asks for; Stalled when it will not be by itself.

    kstatus takes an object without either for ready, whatever else it says: docs/gitops.md.
    """
    stage = next((each for each in _stages(status) if not _is_done(each)), None)
    if stage is None:
        return [condition(ConditionType.READY, TRUE, status.reason, status.message)]
    if stage.status == FALSE and stage.reason != Reason.SUSPENDED:
        return stalled(stage.reason, stage.message)
    return [condition(ConditionType.READY, stage.status, stage.reason, _UNDER_WAY)]


_UNDER_WAY = "status.message has where it is."
"""Nothing that changes on the way: each change would be a write at once."""


def _stages(status: FineTuningJobStatus) -> list[Condition]:
    """In the order in which they count; a verdict that is awaited may turn all that follows."""
    found = status.validation
    if found is not None and found.rerun is not None:
        return [condition(ConditionType.VALIDATED, UNKNOWN, Reason.VALIDATION_RUNNING)]
    copies, servers = published(status.publish), served(status.serving)
    return [_trained(status), *validated(found), *copies, *servers]


def _trained(status: FineTuningJobStatus) -> Condition:
    match status.phase:
        case Phase.SUCCEEDED:
            held = TRUE
        case Phase.FAILED | Phase.PAUSED:
            held = FALSE
        case _:
            held = UNKNOWN
    return condition(ConditionType.COMPLETE, held, status.reason, status.message)


def _is_done(stage: Condition) -> bool:
    """Also what the job does not ask for, or no more."""
    return stage.status == TRUE or stage.reason in {
        Reason.VALIDATION_SKIPPED,
        Reason.PUBLISH_SKIPPED,
    }


def stalled(reason: str, message: str) -> list[Condition]:
    """In these words; the public prototype gave no reasons."""
    kinds = {ConditionType.READY: FALSE, ConditionType.STALLED: TRUE}
    return [condition(kind, status, reason, message) for kind, status in kinds.items()]


def withdrawn(
    old: Iterable[Condition], new: Iterable[Condition], status: FineTuningJobStatus
) -> list[Condition]:
    """An end that holds no more: another verdict can turn Failed into Complete, and back.

    With every end that comes instead it is said anew why, and of which generation.
    """
    now = {each.type for each in new}
    ended = not now.isdisjoint(_ENDS)
    return [
        condition(ConditionType(each.type), FALSE, status.reason, status.message)
        for each in old
        if each.type in _ENDS and each.type not in now and (ended or each.status == TRUE)
    ]


_ENDS = {ConditionType.COMPLETE, ConditionType.FAILED, ConditionType.STALLED}


def validated(found: ValidationStatus | None) -> list[Condition]:
    """The verdict; while a newer one is awaited, the old condition stays with its generation."""
    if found is None or found.rerun is not None:
        return []
    status, reason = _VALIDATED[found.phase]
    return [condition(ConditionType.VALIDATED, status, reason, verdict.in_words(found))]


_VALIDATED = {
    ValidationPhase.PENDING: (UNKNOWN, Reason.VALIDATION_PENDING),
    ValidationPhase.RUNNING: (UNKNOWN, Reason.VALIDATION_RUNNING),
    ValidationPhase.PASSED: (TRUE, Reason.CHECKS_PASSED),
    ValidationPhase.FAILED: (FALSE, Reason.CHECKS_FAILED),
    ValidationPhase.ERROR: (FALSE, Reason.VALIDATOR_ERROR),
    ValidationPhase.SKIPPED: (FALSE, Reason.VALIDATION_SKIPPED),
}


def published(found: PublishStatus | None) -> list[Condition]:
    """Whether the copies are there; absent while no job asked for any."""
    if found is None:
        return []
    status, reason = _PUBLISHED[found.phase]
    if found.phase is PublishPhase.SKIPPED:
        reason = Reason(found.reason)
    words = found.message if reason.value == found.reason else f"{found.reason}: {found.message}"
    return [condition(ConditionType.PUBLISHED, status, reason, words)]


_PUBLISHED = {
    PublishPhase.PENDING: (UNKNOWN, Reason.PUBLISH_PENDING),
    PublishPhase.RUNNING: (UNKNOWN, Reason.PUBLISHING),
    PublishPhase.PUBLISHED: (TRUE, Reason.PUBLISHED),
    PublishPhase.FAILED: (FALSE, Reason.PUBLISH_FAILED),
    PublishPhase.SKIPPED: (FALSE, Reason.PUBLISH_SKIPPED),
}


def served(found: ServingStatus | None) -> list[Condition]:
    """Whether what serves the model was created; absent while nobody asks for it."""
    if found is None or not found.reason:
        return []
    status = _SERVED.get(found.reason, FALSE)
    kind = ConditionType.SERVING_CREATED
    return [condition(kind, status, Reason(found.reason), found.message)]


_SERVED: dict[str, str] = {Reason.SERVING_CREATED: TRUE, Reason.SERVING_PENDING: UNKNOWN}


def find(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    return next((each for each in conditions if each.type == kind), None)


def merge(
    old: Iterable[Condition], new: Iterable[Condition], generation: int, now: datetime
) -> list[Condition]:
    """Keep what is not mentioned, and the time of what did not flip."""
    merged = {each.type: each for each in old}
    for each in new:
        before = merged.get(each.type)
        kept = before is not None and before.status == each.status
        since = before.last_transition_time if kept and before else now
        update = {"last_transition_time": since, "observed_generation": generation}
        merged[each.type] = each.model_copy(update=update)
    return list(merged.values())
