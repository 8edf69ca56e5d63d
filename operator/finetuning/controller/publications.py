"""Which publishing Job counts: one for each wish, and only when the verdict lets it.

A wish is `spec.output.publish`, the latest annotation that asks again, and the verdict that the
copies are to show. Each publishing Job carries the wish that it was made for.
"""

import json
from dataclasses import dataclass

from finetuning.api.v1alpha1 import (
    FineTuningJob,
    PublishPhase,
    PublishPolicy,
    PublishSpec,
    PublishStatus,
    ValidationPhase,
)
from finetuning.controller import attempts, naming
from finetuning.controller.observed import BatchJob, Children

LIMIT = attempts.LIMIT

_OVER = (PublishPhase.PUBLISHED, PublishPhase.FAILED, PublishPhase.SKIPPED)
_NOT_WISHED = {"policy"}
"""Whether to publish, but not what or where."""
_NOT_SHOWN = {"image", "create", "secret_name"}
"""Of spec.output.serve: what stands in no copy."""


@dataclass(frozen=True)
class Attempt:
    """A publication that is missing, and its Job once there is one."""

    number: int
    wish: str
    job: BatchJob | None = None


def is_over(status: PublishStatus | None) -> bool:
    return status is not None and status.phase in _OVER


def is_news(old: PublishStatus | None, new: PublishStatus | None) -> bool:
    """Whether a publication ended, or another one did."""
    if new is None or not is_over(new):
        return False
    return old is None or (old.phase, old.attempt, old.wish) != (new.phase, new.attempt, new.wish)


def is_turn(old: PublishStatus | None, new: PublishStatus | None) -> bool:
    """An end, or the beginning of another attempt after one."""
    return is_news(old, new) or (is_over(old) and not is_over(new))


def asked(job: FineTuningJob) -> PublishSpec | None:
    """What the job wants published; None for nothing."""
    publish = job.spec.output.publish
    return None if publish is None or publish.policy is PublishPolicy.NEVER else publish


def is_judged(job: FineTuningJob) -> bool:
    """The verdict is there, or there will be none; it stands in the copies' model card."""
    found = job.status.validation
    return found is not None and attempts.is_over(found) and found.rerun is None


def is_allowed(job: FineTuningJob) -> bool:
    """What the policy makes of the verdict."""
    publish, found = asked(job), job.status.validation
    if publish is None or not is_judged(job):
        return False
    passed = found is not None and found.phase is ValidationPhase.PASSED
    return passed or publish.policy is PublishPolicy.ALWAYS


def wish(job: FineTuningJob) -> str:
    """Defaults are left out, so that a field that a new version brings changes no digest."""
    publish, found = asked(job), job.status.validation
    # The profile in the copy names the GPU.
    serve = job.spec.output.serve
    told = publish and publish.model_dump(mode="json", exclude_defaults=True, exclude=_NOT_WISHED)
    again = job.metadata.annotations.get(naming.REPUBLISH_ANNOTATION, "")
    verdict = [found.attempt, found.manifest_sha256] if found is not None else []
    shown = serve and serve.model_dump(exclude=_NOT_SHOWN)
    return attempts.digest(json.dumps([told, again, verdict, shown]))


def missing(job: FineTuningJob, found: Children) -> Attempt | None:
    """The publication that is still to be made; None when nothing is, or may be."""
    if not is_allowed(job):
        return None
    old, wanted, newest = job.status.publish, wish(job), found.publishing
    if _is_answer(old, wanted):
        return None
    known = old.attempt if old is not None and is_over(old) else 0
    number = naming.publication(job.metadata.name, newest.meta.name) if newest is not None else 0
    if newest is not None and number > known and newest.wish == wanted:
        return Attempt(number, wanted, newest)
    following = max(known, number) + 1
    return Attempt(following, wanted) if following <= LIMIT else None


def _is_answer(status: PublishStatus | None, wanted: str) -> bool:
    tried = status is not None and is_over(status) and status.phase is not PublishPhase.SKIPPED
    return tried and status is not None and status.wish == wanted


def is_settled(job: FineTuningJob) -> bool:
    """Nothing is left to publish, and the status says so of the newest wish."""
    found = job.status.publish
    if asked(job) is None:
        return found is None or is_over(found)
    if is_allowed(job):
        return _is_answer(found, wish(job))
    told = found is not None and found.phase is PublishPhase.SKIPPED and found.wish == wish(job)
    return is_judged(job) and told


def is_due(job: FineTuningJob, found: Children) -> bool:
    """The status promises a publication whose Job is not there yet."""
    attempt = missing(job, found)
    return attempt is not None and attempt.job is None
