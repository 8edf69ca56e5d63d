"""The next missing step in a job's life: training Job, then validation Job, and pauses between."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from finetuning.api.v1alpha1 import KIND, FineTuningJob, Phase, Reason
from finetuning.controller import (
    apply,
    attempts,
    deadlines,
    kueue,
    naming,
    observed,
    publications,
    training_status,
    writers,
)
from finetuning.controller.attempts import Attempt
from finetuning.controller.cache import Cache
from finetuning.controller.complaints import Obstructed
from finetuning.controller.desired import Desired, Manifest, publishing, sources, validation
from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import JOBS, PODS, SERVICES, ApiError, Gateway
from finetuning.controller.observed import BatchJob, Children, Key, Pod, Raw
from finetuning.controller.training_status import Problem

log = logging.getLogger(__name__)

_TRAINERS = f"{naming.CHILD_SELECTOR},{naming.COMPONENT_LABEL}={naming.TRAINING}"


@dataclass(frozen=True)
class Steps:
    """The writes of one look; what they make is in the cache at once."""

    cache: Cache
    gateway: Gateway
    key: Key
    looked_at: set[str]
    """Finished Jobs whose Pods were listed already because none of them was known."""
    turns: writers.Turns

    async def training(self, job: FineTuningJob, wanted: Desired) -> Problem | None:
        """Create, pause or continue the training Job; says what stands against it."""
        found = self._children(job)
        if training_status.is_over(job.status):
            return None
        self.turns.meet(self.key, found.training, self.gateway.now())
        left = deadlines.to_start(job, found, self.gateway.now())
        if left is not None and left <= timedelta():
            return deadlines.too_late(job)
        try:
            if found.training is None:
                await self._begin(job, wanted)
            elif found.training.finished:
                await self._collect(found.training, found.training_pods, naming.TRAINING_CONTAINER)
            elif found.training.suspend != job.spec.suspend and not found.training.queued:
                await self._pause_or_go_on(job, found.training)
            elif wanted.storage is not None and _lacks(wanted.storage, found.training_pods):
                log.warning("job=%s/%s its claim was deleted and is made again", *self.key)
                await apply.create(self.gateway, wanted.storage)
        except apply.CannotApplyError as error:
            return self._at_the_root(job, error.problem)
        return None

    def _at_the_root(self, job: FineTuningJob, problem: Problem) -> Problem:
        """A Job that the collector forgot keeps its Pods, and these the claim that is to go.

        So does a node that is lost.
        """
        if problem.reason not in {Reason.PREVIOUS_RUN_TERMINATING, Reason.OUTPUT_IN_USE}:
            return problem
        pods = [*self.cache.pods.of(self.key), *self._writers(job)]
        if (lost := training_status.lost(pods, self.gateway.now())) is not None:
            return Problem(Reason.NODE_LOST, training_status.of_a_lost_node(lost))
        if problem.reason is Reason.OUTPUT_IN_USE:
            return problem
        for each in self.cache.jobs.of(self.key):
            foreign = each.meta.owner_kind == KIND and each.meta.owner_uid != job.metadata.uid
            if foreign and not each.meta.deleting:
                return apply.left_behind(each.meta, "Job")
        return problem

    def _writers(self, job: FineTuningJob) -> list[Pod]:
        folder = sources.output(job).folder
        return self.cache.pods.over_folder(job.metadata.namespace, folder)

    async def _create(self, manifest: Manifest) -> None:
        raw, was_there = await apply.find_or_create(self.gateway, manifest)
        await self._note(raw, manifest, was_there=was_there)

    async def _note(self, raw: Raw, wanted: Manifest, *, was_there: bool) -> None:
        """Whoever suspends a Job at its admission, as Kueue's webhook does, will let it go."""
        made = observed.batch_job(raw)
        self.cache.jobs.put(made)
        if made.suspend and not (was_there or made.queued or wanted["spec"].get("suspend")):
            await self._leave_to_kueue(made)

    async def _suspend(self, job: BatchJob, *, wanted: bool) -> None:
        """Unless Kueue has the Job, which nobody asked it to take: it would undo this at once."""
        try:
            is_kueues = await kueue.has(self.gateway, job.meta)
        except ApiError as error:
            raise apply.no_pause(error, job, wanted=wanted) from error
        if is_kueues:
            await self._leave_to_kueue(job)
            return
        changed = await apply.suspend(self.gateway, job, wanted=wanted)
        self.cache.jobs.put(observed.batch_job(changed))

    async def _leave_to_kueue(self, job: BatchJob) -> None:
        log.info("job=%s/%s Kueue starts and stops Job %s", *self.key, job.meta.name)
        self.cache.jobs.put(observed.batch_job(await apply.leave_to_kueue(self.gateway, job)))

    async def _pause_or_go_on(self, job: FineTuningJob, training: BatchJob) -> None:
        async with self.turns.of(job):
            if not job.spec.suspend:
                await self._wait_for_others(job, training.meta.uid, ask=writers.may_be_shared(job))
            await self._suspend(training, wanted=job.spec.suspend)

    async def _wait_for_others(self, job: FineTuningJob, own: str = "", *, ask: bool) -> None:
        """Where somebody could write already, the cache is too late by an event: `ask` then."""
        if ask and not await self._meet(job.metadata.namespace):
            # Who comes after that is made by this process, which knows where; if it is alone.
            folder = sources.output(job).folder
            if self.turns.others_begin:
                await self._list_all(job.metadata.namespace)
            elif self.cache.places.has(self.key, folder):
                # Without a folder of its own choice a job shares one with its name's past alone.
                chosen = job.spec.output.storage.sub_path is not None
                named = "" if chosen else f",{naming.JOB_NAME_LABEL}={job.metadata.name}"
                await self._list_trainers(job.metadata.namespace, named)
        problem = writers.in_the_way(job, self.cache, own)
        if problem is not None:
            raise apply.CannotApplyError(problem)

    async def _meet(self, namespace: str) -> bool:
        """Hear, once, of all that an earlier operator left in a namespace; whether it was now."""
        async with self.turns.first_in(namespace) as first:
            if first:
                await self._list_all(namespace)
            return first

    async def _list_all(self, namespace: str) -> None:
        """Jobs first: one that has no Pod yet gets it unseen."""
        async for raw in self.gateway.items(
            JOBS, namespace, labelSelector=_TRAINERS, fieldSelector="status.successful=0"
        ):
            self.cache.jobs.put(observed.batch_job(raw))
        await self._list_trainers(namespace)

    async def _list_trainers(self, namespace: str, named: str = "") -> None:
        live = "status.phase!=Succeeded,status.phase!=Failed"
        async for raw in self.gateway.items(
            PODS, namespace, labelSelector=_TRAINERS + named, fieldSelector=live
        ):
            self.cache.pods.put(observed.pod(raw))

    async def validation(self, job: FineTuningJob, wanted: Desired) -> Problem | None:
        """Have the trained model judged, once for each question; says what stands against it."""
        found = self._children(job)
        trained = found.training is not None and found.training.complete is not None
        if not trained and not training_status.is_trained(job.status):
            return None
        attempt = attempts.missing(job, found)
        try:
            await self._suspend_unless(job, attempt, found.validation)
            if attempt is None:
                return None
            if attempt.job is None and job.spec.suspend:
                return None
            if attempt.job is None and wanted.validation_job is not None:
                manifest = wanted.validation_job
                await self._create(validation.numbered(manifest, job, attempt.number))
            elif attempt.job is not None and attempt.job.finished:
                pods = found.validation_pods
                await self._collect(attempt.job, pods, naming.VALIDATION_CONTAINER)
        except apply.CannotApplyError as error:
            return error.problem
        return None

    async def publishing(self, job: FineTuningJob, wanted: Desired) -> Problem | None:
        """Have the judged model published, once for each wish; says what stands against it."""
        found = self._children(job)
        attempt = publications.missing(job, found)
        try:
            await self._suspend_unless(job, attempt, found.publishing)
            if attempt is None or wanted.publishing_job is None:
                return None
            if attempt.job is None and job.spec.suspend:
                return None
            if attempt.job is None:
                await self._create(publishing.bound(wanted.publishing_job, job, attempt))
            elif attempt.job.finished:
                pods = found.publishing_pods
                await self._collect(attempt.job, pods, naming.PUBLISHING_CONTAINER)
        except apply.CannotApplyError as error:
            return error.problem
        return None

    async def _suspend_unless(
        self,
        job: FineTuningJob,
        attempt: Attempt | publications.Attempt | None,
        newest: BatchJob | None,
    ) -> None:
        """In a pause, or for an earlier question or wish, a Job ends and frees what it holds."""
        if newest is None or newest.finished or newest.queued:
            return
        unwanted = job.spec.suspend or attempt is None or attempt.job is None
        if newest.suspend is not unwanted:
            await self._suspend(newest, wanted=unwanted)

    async def keep(self, service: Manifest) -> None:
        """Make a Service again that somebody deleted; never in the way of training."""
        meta = service["metadata"]
        try:
            if await self.gateway.get(SERVICES, meta["namespace"], meta["name"]) is None:
                log.warning("job=%s/%s its Service was deleted and is made again", *self.key)
                await apply.create(self.gateway, service)
        except (ApiError, RetryLaterError, apply.CannotApplyError) as error:
            log.warning("job=%s/%s its Service: %s", *self.key, error)

    def _children(self, job: FineTuningJob) -> Children:
        return self.cache.children(self.key, job.metadata.uid)

    async def _begin(self, job: FineTuningJob, wanted: Desired) -> None:
        if job.status.training_job_name:
            await self._find_again(job)
            return
        begun = False
        for manifest in (wanted.storage, wanted.rendezvous):
            if manifest is not None:
                _, was_there = await apply.find_or_create(self.gateway, manifest)
                begun = begun or was_there
        async with self.turns.of(job):
            await self._wait_for_others(job, ask=begun or wanted.storage is None)
            sent = self.cache.places.has(self.key, "")
            # Also where no answer comes, it may have been made.
            self.cache.places.add(self.key, sources.output(job).folder)
            self.turns.sends(self.key)
            raw, was_there = await apply.find_or_create(self.gateway, wanted.training_job)
            await self._note(raw, wanted.training_job, was_there=was_there)
            if was_there and not sent:
                self.turns.others_begin = True

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
        known = observed.ended(observed.leading(pods), container) is not None
        if known or job.meta.uid in self.looked_at:
            return
        selector = (
            f"{naming.JOB_UID_LABEL}={job.meta.parent_uid},"
            f"{naming.COMPONENT_LABEL}={job.meta.component}"
        )
        async for raw in self.gateway.items(PODS, job.meta.namespace, labelSelector=selector):
            self.cache.pods.put(observed.pod(raw))
        self.looked_at.add(job.meta.uid)


def is_given_up(job: FineTuningJob, found: BatchJob | None) -> bool:
    """Whether a Job would still begin though its job has failed without it."""
    failed = job.status.phase is Phase.FAILED and not training_status.is_trained(job.status)
    if not failed or found is None or found.finished:
        return False
    return found.deadline != apply.AT_ONCE if found.queued else not found.suspend


async def give_up(gateway: Gateway, cache: Cache, job: FineTuningJob) -> None:
    """Leave no Pod, and the quota to others; after the status, which says that it is over.

    A Job that is suspended before would look like one of a pause that has ended. One in a queue is
    ended: Kueue would let go again what anybody else suspends.
    """
    training = cache.children(
        (job.metadata.namespace, job.metadata.name), job.metadata.uid
    ).training
    if training is not None and is_given_up(job, training):
        try:
            changed = await _end(gateway, training)
        except apply.CannotApplyError as error:
            raise RetryLaterError(error.problem.message) from error
        cache.jobs.put(observed.batch_job(changed))


async def _end(gateway: Gateway, training: BatchJob) -> Raw:
    if training.queued:
        return await apply.end(gateway, training)
    return await apply.suspend(gateway, training, wanted=True)


async def expire(gateway: Gateway, cache: Cache, job: FineTuningJob) -> None:
    """Tell the Jobs of a job that is over when to go.

    Not when they are made: one that is deleted before its end was read would take its result along.
    """
    seconds = job.spec.ttl_seconds_after_finished
    for each in cache.jobs.of((job.metadata.namespace, job.metadata.name)):
        if each.meta.owner_uid == job.metadata.uid and each.finished and each.ttl != seconds:
            changed = await apply.expire(gateway, each, seconds)
            if changed is not None:
                cache.jobs.put(observed.batch_job(changed))


def _lacks(claim: Manifest, pods: tuple[Pod, ...]) -> bool:
    """Claims are not watched: the scheduler says which one a Pod misses."""
    missing = f'persistentvolumeclaim "{claim["metadata"]["name"]}" not found'
    mark = pods[0].unscheduled if pods and not pods[0].over else None
    return mark is not None and missing in mark.message


def waits_for(found: Children, workers: int = 1) -> Obstructed | None:
    """Whom to ask about; None where nothing waits.

    None for a Pod that waits for a node as well: it says so itself, however many of them wait.
    `workers` are the Pods that train together.
    """
    for job, pods, count in (
        (found.publishing, found.publishing_pods, 1),
        (found.validation, found.validation_pods, 1),
        (found.training, found.training_pods, workers),
    ):
        if job is None or job.finished or (job.suspend and not job.queued):
            continue
        if job.suspend or not pods:
            return Obstructed(job.meta, in_queue=job.suspend)
        if observed.lacks_a_pod(pods, count):
            return Obstructed(job.meta, since=_newest(pod for pod in pods if pod.over))
        pod = pods[0]
        started = any(each.started_at for each in pod.containers)
        waits = not (started or pod.over or pod.unscheduled is not None)
        claim = "" if pod.node else pod.folder.partition("/")[0]
        return Obstructed(pod.meta, claim=claim) if waits else None
    return None


def _newest(pods: Iterable[Pod]) -> datetime | None:
    return max((pod.meta.created for pod in pods if pod.meta.created), default=None)
