"""The next missing step in a job's life: training Job, then validation Job, and pauses between."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from finetuning.api.v1alpha1 import KIND, FineTuningJob, Phase, Reason
from finetuning.controller import apply, naming, observed, verdict
from finetuning.controller.cache import Cache
from finetuning.controller.desired import Desired
from finetuning.controller.gateway import EVENTS, JOBS, PODS, ApiError, Gateway
from finetuning.controller.last_words import plain
from finetuning.controller.observed import BatchJob, Children, Key, Meta, Pod
from finetuning.controller.training_status import Problem

_TELLING = {"FailedCreate", "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"}
_RECENT = timedelta(minutes=4)
"""kubelet and the Job controller repeat their events more often than this while they still hold."""


@dataclass(frozen=True)
class Steps:
    """The writes of one look; what they make is in the cache at once."""

    cache: Cache
    gateway: Gateway
    key: Key
    looked_at: set[str]
    """Finished Jobs whose Pods were listed already because none of them was known."""

    async def training(self, job: FineTuningJob, wanted: Desired) -> Problem | None:
        """Create, pause or continue the training Job; says what stands against it."""
        found = self._children(job)
        if job.status.phase is Phase.SUCCEEDED:
            return None
        try:
            if found.training is None:
                await self._begin(job, wanted)
            elif found.training.finished:
                await self._collect(found.training, found.training_pods, naming.TRAINING_CONTAINER)
            elif found.training.suspend != job.spec.suspend:
                changed = await apply.suspend(self.gateway, found.training, wanted=job.spec.suspend)
                self.cache.jobs.put(observed.batch_job(changed))
        except apply.CannotApplyError as error:
            return error.problem
        return None

    async def validation(self, job: FineTuningJob, wanted: Desired) -> Problem | None:
        """Create the validation Job once the training has succeeded."""
        found = self._children(job)
        trained = found.training is not None and found.training.complete is not None
        if wanted.validation_job is None or verdict.is_over(job.status.validation):
            return None
        if not trained and job.status.phase is not Phase.SUCCEEDED:
            return None
        try:
            if found.validation is None:
                created = await apply.create(self.gateway, wanted.validation_job)
                self.cache.jobs.put(observed.batch_job(created))
            elif found.validation.finished:
                pods = found.validation_pods
                await self._collect(found.validation, pods, naming.VALIDATION_CONTAINER)
        except apply.CannotApplyError as error:
            return error.problem
        return None

    def _children(self, job: FineTuningJob) -> Children:
        return self.cache.children(self.key, job.metadata.uid)

    async def _begin(self, job: FineTuningJob, wanted: Desired) -> None:
        if job.status.training_job_name:
            await self._find_again(job)
            return
        if wanted.storage is not None:
            await apply.create(self.gateway, wanted.storage)
        created = await apply.create(self.gateway, wanted.training_job)
        self.cache.jobs.put(observed.batch_job(created))

    async def _find_again(self, job: FineTuningJob) -> None:
        """The cache may be behind; only the API server can say that a Job is gone."""
        name = job.status.training_job_name
        raw = await self.gateway.get(JOBS, job.metadata.namespace, name)
        if raw is not None and observed.meta(raw).owner_uid == job.metadata.uid:
            self.cache.jobs.put(observed.batch_job(raw))
            return
        message = (
            f"Job {name} was deleted before the training was over. Its checkpoints are kept for as "
            "long as this FineTuningJob: copy what you need from its claim, then delete and create "
            "it again. In a claim of your own (spec.output.storage.claimName) they outlive it, and "
            "the new one continues from the newest."
        )
        raise apply.CannotApplyError(Problem(Reason.JOB_DELETED, message, final=True))

    async def _collect(self, job: BatchJob, pods: tuple[Pod, ...], container: str) -> None:
        """Wait for no Pod event: it may come after the Job's, or have been missed."""
        ended = (pod.container(container) for pod in pods)
        known = any(each is not None and each.exit_code is not None for each in ended)
        if known or job.meta.uid in self.looked_at:
            return
        selector = (
            f"{naming.JOB_UID_LABEL}={job.meta.parent_uid},"
            f"{naming.COMPONENT_LABEL}={job.meta.component}"
        )
        async for raw in self.gateway.items(PODS, job.meta.namespace, labelSelector=selector):
            self.cache.pods.put(observed.pod(raw))
        self.looked_at.add(job.meta.uid)


def waits_for(found: Children) -> Meta | None:
    """The object whose events tell why nothing runs: a Job without Pod, or a Pod not started."""
    for job, pods in (
        (found.validation, found.validation_pods),
        (found.training, found.training_pods),
    ):
        if job is None or job.finished or job.suspend:
            continue
        if not pods:
            return job.meta
        started = any(each.started_at for each in pods[0].containers)
        return None if started or pods[0].over else pods[0].meta
    return None


async def hint(gateway: Gateway, about: Meta) -> str:
    """The newest warning about an object that still holds; empty when there is none."""
    fields = f"involvedObject.uid={about.uid},type=Warning"
    try:
        found = [
            each async for each in gateway.items(EVENTS, about.namespace, fieldSelector=fields)
        ]
    except ApiError as error:
        if error.code == 403:  # noqa: PLR2004 - Forbidden
            see = f"kubectl -n {about.namespace} describe job {about.name}"
            return f"No pod appears; see: {see}" if about.owner_kind == KIND else ""
        raise
    telling = [each for each in found if each.get("reason") in _TELLING and _is_recent(each)]
    newest = max(telling, key=_when, default=None)
    return plain(f"{newest['reason']}: {newest.get('message', '')}", 1024) if newest else ""


def _when(event: dict[str, Any]) -> datetime:
    text = event.get("lastTimestamp") or event.get("eventTime")
    try:
        return datetime.fromisoformat(text) if text else datetime.min.replace(tzinfo=UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _is_recent(event: dict[str, Any]) -> bool:
    return datetime.now(UTC) - _when(event) < _RECENT
