"""One writer on an output folder, always: who may still write where a job is about to begin.

Seen from the Jobs and Pods themselves rather than from other FineTuningJobs: a Pod outlives the
resource that it was made for by as long as its last checkpoint takes.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from finetuning.api.v1alpha1 import FineTuningJob, Reason, WhenDeleted
from finetuning.controller import naming
from finetuning.controller.cache import Cache, Places, around
from finetuning.controller.desired import sources
from finetuning.controller.observed import BatchJob, Key, Meta
from finetuning.controller.training_status import Problem

_SAME_MOMENT = timedelta(seconds=2)
"""The API server tells times in whole seconds."""


def may_be_shared(job: FineTuningJob) -> bool:
    """A claim that goes with its job is kept by Kubernetes until its last Pod has ended."""
    storage = job.spec.output.storage
    return storage.claim_name is not None or storage.when_deleted is WhenDeleted.RETAIN


class Turns:
    """Who may look at the writers of a folder and then become one: of each folder one at a time."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._known: set[str] = set()
        self.others_begin = False
        """Another operator makes Jobs as well, of which only lists tell in time."""
        self._own = Places()
        self._since: datetime | None = None

    def sends(self, key: Key) -> None:
        """This process makes the Job of this name, whatever comes of it."""
        self._own.add(key, "")

    def meet(self, key: Key, training: BatchJob | None, now: datetime) -> None:
        """Look whether somebody else has made a Job since the first look of this process."""
        self._since = self._since or now
        if training is None or training.meta.created is None or self._own.has(key, ""):
            return
        if training.meta.created - self._since > _SAME_MOMENT:
            self.others_begin = True

    @asynccontextmanager
    async def of(self, job: FineTuningJob) -> AsyncIterator[None]:
        """Held from the look at who writes until this job is seen as a writer itself."""
        place = _in_common(sources.output(job).folder)
        async with self._lock((job.metadata.namespace, place)):
            yield

    @asynccontextmanager
    async def first_in(self, namespace: str) -> AsyncIterator[bool]:
        """Whether nobody has looked yet at who writes anywhere in a namespace.

        Held by one at a time; whoever leaves it without an error has looked.
        """
        async with self._lock((namespace, "")):
            yield namespace not in self._known
            self._known.add(namespace)

    def _lock(self, place: tuple[str, str]) -> asyncio.Lock:
        lock = self._locks.get(place)
        if lock is None:
            lock = self._locks[place] = asyncio.Lock()
        return lock


def _in_common(folder: str) -> str:
    """What folders inside each other have in common: the outermost of them.

    All of the claim where it may be the folder of the job that it was made for.
    """
    whole, *inside = [*around(folder), folder]
    is_of_a_job = whole.endswith(f"{naming.OWN_CLAIM}/")
    return whole if is_of_a_job or not inside else inside[0]


def in_the_way(job: FineTuningJob, cache: Cache, own: str) -> Problem | None:
    """What the job has to wait for before its trainer may start.

    `own` is the uid of its training Job, whose controller knows its Pods; empty when it has none.
    """
    return _predecessor(job, cache, own) or _neighbour(job, cache)


def _predecessor(job: FineTuningJob, cache: Cache, own: str) -> Problem | None:
    """A Pod of a Job that was deleted saves its last checkpoint."""
    for pod in cache.pods.of((job.metadata.namespace, job.metadata.name)):
        if pod.meta.owner_uid != own and not pod.over:
            words = f"Pod {pod.meta.name} of a Job that was deleted is still ending."
            return Problem(Reason.PREVIOUS_RUN_TERMINATING, words)
    return None


def _neighbour(job: FineTuningJob, cache: Cache) -> Problem | None:
    """Any claim can be named by several jobs, also one that was made for this job."""
    wanted, own = sources.output(job).folder, job.spec.output.storage.claim_name is None
    for user, folder in _users(wanted, job.metadata.namespace, cache):
        is_earlier = own and user.parent == job.metadata.name
        if user.parent_uid != job.metadata.uid and not is_earlier:
            overlap = "" if folder == wanted else f", which overlaps with pvc://{wanted},"
            other = "name" if own else "subPath"
            words = (
                f"spec.output.storage: FineTuningJob {user.parent} uses pvc://{folder}{overlap} at "
                "the moment. This job starts when that one is over or paused; to run both at once, "
                f"create this one again with another {other}."
            )
            return Problem(Reason.OUTPUT_IN_USE, words)
    return None


def _users(folder: str, namespace: str, cache: Cache) -> Iterator[tuple[Meta, str]]:
    for pod in cache.pods.over_folder(namespace, folder):
        if not pod.over:
            yield pod.meta, pod.folder
    for each in cache.jobs.over_folder(namespace, folder):
        if not each.idle:
            yield each.meta, each.folder
