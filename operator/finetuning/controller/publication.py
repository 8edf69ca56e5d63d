"""Where the publication is, from the publishing Job and the last words of its container."""

from finetuning.api.v1alpha1 import (
    FineTuningJob,
    FineTuningJobStatus,
    PublishedCopy,
    PublishPhase,
    PublishStatus,
    Reason,
)
from finetuning.artifacts.models import CopiedModel, PublishResult
from finetuning.artifacts.plain import plain
from finetuning.controller import last_words, naming, observed, obstacles, publications, remedies
from finetuning.controller.observed import BatchJob, Container, Pod
from finetuning.controller.publications import Attempt
from finetuning.controller.training_status import Seen


def publish_status(seen: Seen, trained: FineTuningJobStatus) -> PublishStatus | None:
    """The next state of status.publish; `trained` has the newest verdict."""
    job = seen.job.model_copy(update={"status": trained})
    old = trained.publish
    if publications.asked(job) is None:
        return old if old is None or publications.is_over(old) else _turned_off(old)
    if not publications.is_judged(job):
        return old if publications.is_over(old) else _waiting(old)
    if not publications.is_allowed(job):
        return _refused(job, old)
    attempt = publications.missing(job, seen.children)
    return old if attempt is None else _next(seen, job, attempt, old)


def _copies(old: PublishStatus | None) -> list[PublishedCopy]:
    """What was published stays where it is until it is replaced."""
    return old.copies if old is not None else []


def _waiting(old: PublishStatus | None) -> PublishStatus:
    return PublishStatus(
        phase=PublishPhase.PENDING,
        reason=Reason.PUBLISH_PENDING.value,
        message="Waits for the verdict.",
        copies=_copies(old),
    )


def _turned_off(old: PublishStatus) -> PublishStatus:
    update = {
        "phase": PublishPhase.SKIPPED,
        "reason": Reason.PUBLISH_SKIPPED.value,
        "message": "Publishing was turned off before it was done.",
        "wish": "",
    }
    return old.model_copy(update=update)


def _refused(job: FineTuningJob, old: PublishStatus | None) -> PublishStatus:
    return PublishStatus(
        phase=PublishPhase.SKIPPED,
        reason=Reason.NOT_VALIDATED.value,
        message="The model did not pass its validation. Mend what the report names, or set "
        "spec.output.publish.policy to Always.",
        attempt=old.attempt if old is not None else 0,
        wish=publications.wish(job),
        copies=_copies(old),
    )


def _next(
    seen: Seen, job: FineTuningJob, attempt: Attempt, old: PublishStatus | None
) -> PublishStatus:
    found = attempt.job
    begun = PublishStatus(
        phase=PublishPhase.RUNNING,
        reason=Reason.PUBLISHING.value,
        message="The model is being published.",
        attempt=attempt.number,
        wish=attempt.wish,
        job_name=naming.publishing_job(job.metadata.name, attempt.number),
        copies=_copies(old),
    )
    if found is not None and found.finished:
        return _ended(begun, found, seen.children.publishing_pods)
    return begun.model_copy(update=_obstacle(seen, found))


def _obstacle(seen: Seen, found: BatchJob | None) -> dict[str, object]:
    """What stands against a Job that is not over; empty for nothing."""
    waits = obstacles.of_publishing(seen, found)
    if waits is None:
        return {}
    phase = PublishPhase.FAILED if waits.final else PublishPhase.PENDING
    words = remedies.named(seen.job, waits.words, remedies.PUBLISHING)
    return {"phase": phase, "reason": waits.reason.value, "message": plain(words, 512)}


def _ended(begun: PublishStatus, found: BatchJob, pods: tuple[Pod, ...]) -> PublishStatus:
    container = observed.ended(pods, naming.PUBLISHING_CONTAINER)
    result = last_words.publish_result(container) if container is not None else None
    mark = found.failed or found.complete
    told = {
        "start_time": container.started_at if container else None,
        "completion_time": found.completion_time or (mark.since if mark else None),
        "manifest_sha256": (result.manifest_sha256 if result else None) or "",
        "copies": [_shown(copy) for copy in result.copies] if result else begun.copies,
    }
    if found.complete is not None and result is not None and result.copies and not result.reason:
        message = f"Published to {', '.join(copy.location for copy in result.copies)}."
        told |= {"phase": PublishPhase.PUBLISHED, "reason": Reason.PUBLISHED.value}
        return begun.model_copy(update={**told, "message": plain(message, 512)})
    reason, message = _why(found, container, result)
    told |= {"phase": PublishPhase.FAILED, "reason": plain(reason, 64)}
    return begun.model_copy(update={**told, "message": plain(message, 512)})


def _why(
    found: BatchJob, container: Container | None, result: PublishResult | None
) -> tuple[str, str]:
    """From the most to the least telling source."""
    if found.failed is not None and found.failed.reason == Reason.DEADLINE_EXCEEDED:
        text = "It took longer than spec.output.publish.timeoutSeconds."
        return Reason.DEADLINE_EXCEEDED.value, text
    if result is not None and result.reason:
        return result.reason, result.message
    if container is None:
        return Reason.PUBLISH_FAILED.value, "Its pod was lost with all that it had said."
    if container.exit_reason == Reason.OOM_KILLED:
        text = "It needs more memory: spec.output.publish.resources.limits.memory."
        return Reason.OOM_KILLED.value, text
    line = last_words.last_line(container) or "It left no message."
    text = f"The publisher ended with exit code {container.exit_code}. {line}"
    return Reason.PUBLISH_FAILED.value, text


def _shown(copy: CopiedModel) -> PublishedCopy:
    return PublishedCopy(
        kind=copy.kind,
        location=plain(copy.location, 512),
        digest=plain(copy.digest, 128),
        files=copy.files,
        size_bytes=copy.size_bytes,
    )
