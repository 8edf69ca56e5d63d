"""What should exist for a job: pure functions from the job and the settings to manifests.

Same input, same bytes: no clock, no client, no environment. Nothing here needs a cluster, so the
local runner starts its processes from the very same pod templates.
"""

from dataclasses import dataclass

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.controller import publications
from finetuning.controller.desired import (
    group,
    monitoring,
    publishing,
    storage,
    training,
    validation,
)
from finetuning.controller.desired.metadata import Manifest
from finetuning.controller.settings import MonitoringMode, Settings

__all__ = ["Desired", "Manifest", "build"]


@dataclass(frozen=True)
class Desired:
    """The children of one job; None where the job or the settings want none."""

    storage: Manifest | None
    rendezvous: Manifest | None
    training_job: Manifest
    validation_job: Manifest | None
    publishing_job: Manifest | None
    service: Manifest | None
    service_monitor: Manifest | None


def build(job: FineTuningJob, settings: Settings) -> Desired:
    """Everything that the job needs in its life; raises InvalidSpecError where it cannot be had."""
    mode = settings.monitoring_mode
    with_service = mode in {MonitoringMode.PER_JOB, MonitoringMode.SHARED}
    with_monitor = mode is MonitoringMode.PER_JOB
    return Desired(
        storage=None if job.spec.output.storage.claim_name else storage.claim(job),
        rendezvous=group.service(job),
        training_job=training.job(job, settings),
        validation_job=validation.job(job, settings) if job.spec.validation.enabled else None,
        publishing_job=publishing.job(job, settings) if publications.asked(job) else None,
        service=monitoring.service(job) if with_service else None,
        service_monitor=monitoring.service_monitor(job, settings) if with_monitor else None,
    )
