"""Which validation Job counts: one for each question that is asked of the trained model.

A question is a policy (`spec.validation`) and the latest wish to judge again (an annotation). Each
validation Job carries the question that it was made for, so that a verdict is never taken for the
answer to another one; a Job that nobody waits for any more is suspended.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache

from finetuning.api.v1alpha1 import FineTuningJob, ValidationPhase, ValidationStatus
from finetuning.artifacts.plain import plain
from finetuning.controller import naming
from finetuning.controller.observed import BatchJob, Children

LIMIT = 999
"""Attempts: a longer number would not fit into the names of the Jobs."""

_OVER = (
    ValidationPhase.PASSED,
    ValidationPhase.FAILED,
    ValidationPhase.ERROR,
    ValidationPhase.SKIPPED,
)
_NOT_JUDGED_BY = {"enabled", "on_failure"}
"""Fields that say whether there is a verdict and what becomes of it, but not what it is."""


@dataclass(frozen=True)
class Question:
    """What is asked of the model."""

    policy: str
    revalidate: str


@dataclass(frozen=True)
class Attempt:
    """A validation whose verdict is missing, and its Job once there is one."""

    number: int
    job: BatchJob | None = None


def is_over(status: ValidationStatus | None) -> bool:
    return status is not None and status.phase in _OVER


def is_news(old: ValidationStatus | None, new: ValidationStatus | None) -> bool:
    """Whether there is a verdict that was not there before."""
    if old is None or not is_over(old):
        return is_over(new)
    return new is not None and is_over(new) and new.attempt != old.attempt


def is_turn(old: ValidationStatus | None, new: ValidationStatus | None) -> bool:
    """A verdict, or the beginning or end of the wait for another one."""
    was, now = (each is not None and each.rerun is not None for each in (old, new))
    return was is not now or is_news(old, new)


def question(job: FineTuningJob) -> Question:
    """Defaults are left out, so that a field that a new version brings changes no digest."""
    told = job.spec.validation.model_dump_json(exclude_defaults=True, exclude=_NOT_JUDGED_BY)
    wish = job.metadata.annotations.get(naming.REVALIDATE_ANNOTATION, "")
    return Question(digest(told), plain(wish, 63))


@lru_cache(maxsize=1024)
def digest(told: str) -> str:
    """Of what a JSON text says, whatever the order in which it says it."""
    return hashlib.sha256(json.dumps(json.loads(told), sort_keys=True).encode()).hexdigest()[:16]


def missing(job: FineTuningJob, found: Children) -> Attempt | None:
    """The attempt whose verdict is missing; None when nothing is left to judge."""
    old, asked, newest = job.status.validation, question(job), found.validation
    if not job.spec.validation.enabled or (old is not None and _is_answer(old, asked)):
        return None
    judged = _judged(old)
    number = naming.attempt(job.metadata.name, newest.meta.name) if newest is not None else 0
    if newest is not None and number > judged and _fits(newest.policy, newest.revalidate, asked):
        return Attempt(number, newest)
    following = max(judged, number) + 1
    return Attempt(following) if following <= LIMIT else None


def _judged(status: ValidationStatus | None) -> int:
    """The newest attempt that has its verdict; an earlier version did not number its only one."""
    if status is None or not is_over(status):
        return 0
    return max(status.attempt, 0 if status.phase is ValidationPhase.SKIPPED else 1)


def _is_answer(status: ValidationStatus, asked: Question) -> bool:
    judged = is_over(status) and status.phase is not ValidationPhase.SKIPPED
    return judged and _fits(status.policy, status.revalidate, asked)


def _fits(policy: str, revalidate: str, asked: Question) -> bool:
    """What an earlier version left says no policy; taking the annotation away asks nothing new."""
    return policy in {"", asked.policy} and asked.revalidate in {"", revalidate}
