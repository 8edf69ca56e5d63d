"""What should exist for a job: pure functions from the job and the settings to manifests.

Same input, same bytes: no clock, no client, no environment. Nothing here needs a cluster, so the
local runner starts its processes from the very same pod templates.
"""

from functools import cached_property

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


class Desired:
    """The children of one job, each made when it is asked for.

    None where the job or the settings want none; raises InvalidSpecError where one cannot be had.
    """

    def __init__(self, job: FineTuningJob, settings: Settings) -> None:
        self._job, self._settings = job, settings

    @cached_property
    def storage(self) -> Manifest | None:
        named = self._job.spec.output.storage.claim_name
        return None if named else storage.claim(self._job)

    @cached_property
    def rendezvous(self) -> Manifest | None:
        return group.service(self._job)

    @cached_property
    def training_job(self) -> Manifest:
        return training.job(self._job, self._settings)

    @cached_property
    def validation_job(self) -> Manifest | None:
        wanted = self._job.spec.validation.enabled
        return validation.job(self._job, self._settings) if wanted else None

    @cached_property
    def publishing_job(self) -> Manifest | None:
        wanted = publications.asked(self._job)
        return publishing.job(self._job, self._settings) if wanted else None

    @cached_property
    def service(self) -> Manifest | None:
        modes = {MonitoringMode.PER_JOB, MonitoringMode.SHARED}
        return monitoring.service(self._job) if self._settings.monitoring_mode in modes else None

    @cached_property
    def service_monitor(self) -> Manifest | None:
        wanted = self._settings.monitoring_mode is MonitoringMode.PER_JOB
        return monitoring.service_monitor(self._job, self._settings) if wanted else None

    def manifests(self) -> list[Manifest]:
        """All that there are."""
        every = (
            self.storage,
            self.rendezvous,
            self.training_job,
            self.validation_job,
            self.publishing_job,
            self.service,
            self.service_monitor,
        )
        return [each for each in every if each is not None]


def build(job: FineTuningJob, settings: Settings) -> Desired:
    """Everything that the job needs in its life; raises InvalidSpecError where it cannot be had."""
    found = Desired(job, settings)
    found.manifests()
    return found
