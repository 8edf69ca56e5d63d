"""How long a job may wait for its first start."""

from datetime import datetime, timedelta

from finetuning.api.v1alpha1 import FineTuningJob, Reason
from finetuning.artifacts.plain import plain
from finetuning.controller import observed
from finetuning.controller.observed import Children
from finetuning.controller.training_status import Problem


def to_start(job: FineTuningJob, found: Children, now: datetime) -> timedelta | None:
    """Time left for the first start, at most 0 when it is over; None where no clock runs."""
    limit, since = job.spec.start_deadline_seconds, _waits_since(job, found)
    if limit is None or since is None:
        return None
    return since + timedelta(seconds=limit) - now


def _waits_since(job: FineTuningJob, found: Children) -> datetime | None:
    """Since its creation; once it has a Job, since that began, so that no pause is counted."""
    if job.spec.suspend or job.status.start_time is not None:
        return None
    training = found.training
    if training is None:
        return job.metadata.creation_timestamp
    began = observed.began(found.training_pods, job.spec.workers)
    return training.active_since if began is None else None


def too_late(job: FineTuningJob) -> Problem:
    """What the job fails with; its status still says what it waited for."""
    limit, old = job.spec.start_deadline_seconds, job.status
    words = f"The trainer did not start within startDeadlineSeconds ({limit} s). "
    words += f"Last obstacle: {old.reason or Reason.ACCEPTED}: {old.message}"
    return Problem(Reason.START_DEADLINE_EXCEEDED, plain(words, 1024), final=True)
