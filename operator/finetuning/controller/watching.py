"""The watches: every event only goes to the cache and asks for a look at its job.

A watch lists what is there and then follows what happens, from version to version. Where it cannot
go on from its version it lists again, and drops what is gone. It ends for one reason alone: that
the API server has refused it for minutes.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from typing_extensions import override

from finetuning.controller import heap, naming, wire
from finetuning.controller.cache import Cache, Store
from finetuning.controller.gateway import (
    CUSTOMS,
    JOBS,
    PODS,
    SILENT,
    TOO_LONG,
    ApiError,
    Gateway,
    Resource,
)
from finetuning.controller.observed import BatchJob, Key, Meta, Pod
from finetuning.controller.workqueue import Turn, WorkQueue

log = logging.getLogger(__name__)

Look = Callable[[Key], Awaitable[float | None]]

FIRST_DELAY, MAX_DELAY = 0.5, 10.0
"""Seconds; after an outage of the API server the longest is what jobs wait besides."""

AT_ONCE, SOON, LATER = 0.0, 0.1, 1.0
"""Seconds: events come in rows, as of a Pod that is made and bound and of a Job that closes."""

STEADY_SECONDS = 10.0
"""A watch that the server ended after so long was well, also where nothing happened in it."""

REFUSED_SECONDS = 300.0
"""Rights that come with the same chart as the operator are there by then,"""
DEAF_SECONDS = 300.0
"""and an API server that is started anew answers every watch by then;"""
UNSERVED_SECONDS = 10.0
"""and one namespace that refuses holds up the others at a start for no longer than this."""
UNKNOWN_SECONDS = 5.0
"""Until a job is asked for again whose namespace is not known as a whole."""

MOST_SILENCES = 4
"""In a row; then a list tells what a proxy on the way may keep back, as those do that buffer."""

_BAD_REQUEST, _UNAUTHORIZED, _NOT_FOUND, _GONE, _TOO_MANY, _SERVER = 400, 401, 404, 410, 429, 500
_ENDED, _GARBLED = "Ended", "Garbled"


@dataclass(frozen=True)
class Kind:
    """What is watched: where its events go, and whose job they are about."""

    resource: Resource
    read: Callable[[msgspec.Raw], Any]
    store: Store[Any]
    key_of: Callable[[Meta], Key]
    selectors: dict[str, str]
    patience: Callable[[Any], float]
    """Seconds that a look at news of an object may wait for the next ones."""


def kinds(cache: Cache) -> list[Kind]:
    """The jobs, and the Jobs and Pods that are ours by their labels."""
    ours = {"labelSelector": naming.CHILD_SELECTOR}
    return [
        Kind(CUSTOMS, wire.custom, cache.customs, _own_key, {}, lambda _: SOON),
        Kind(JOBS, wire.job, cache.jobs, _parent_key, ours, job_patience),
        Kind(PODS, wire.pod, cache.pods, _parent_key, ours, pod_patience),
    ]


def _own_key(meta: Meta) -> Key:
    return (meta.namespace, meta.name)


def _parent_key(meta: Meta) -> Key:
    return meta.parent_key


def job_patience(job: BatchJob) -> float:
    """That a Job has begun, or has a Pod more or less, is not what anybody waits for."""
    turns = (job.complete, job.failed, job.failing, job.suspended, job.failed_pods, job.suspend)
    return SOON if any(turns) or job.meta.deleting else LATER


def pod_patience(pod: Pod) -> float:
    """Nor are the ways of a Pod to its node, and to its end when all is well: the Job follows.

    Of one that ended otherwise the last words go with it, as soon as it is deleted.
    """
    bad = any(each.exit_code for each in pod.containers) or pod.phase == "Failed"
    runs = any(each.running_since for each in pod.containers) and not pod.over
    counts = pod.meta.component == naming.TRAINING and runs
    if bad:
        return AT_ONCE
    return SOON if counts or pod.disrupted or pod.meta.deleting else LATER


class Watch:
    """One kind, in one namespace or (None) in all."""

    def __init__(
        self,
        gateway: Gateway,
        kind: Kind,
        namespace: str | None,
        queue: WorkQueue[Key],
        clock: Callable[[], float] = time.monotonic,
        *,
        may_end: Callable[[], bool] = lambda: True,
        turned: Callable[[], None] = lambda: None,
        answers: Callable[[], bool] = lambda: False,
    ) -> None:
        """`may_end` is asked where a failure has lasted; `turned` hears that a state changed.

        `answers` says whether the server answers others meanwhile.
        """
        self._gateway, self._kind, self._namespace = gateway, kind, namespace
        self._queue, self._clock = queue, clock
        self._may_end, self._turned, self._answers = may_end, turned, answers
        self._version = ""
        """How far it has come; empty before a list."""
        self._failures, self._refused_since, self._deaf_since = 0, 0.0, 0.0
        self._silences = 0
        """Watches that ended without a word, since the last one that had any."""
        self.is_missing = False
        """Whether the server does not know the kind any more, or not yet again."""
        self.listed = asyncio.Event()
        """Set when everything that was there is in the cache."""

    @override
    def __str__(self) -> str:
        return f"watch of {self._kind.resource.plural} in {self._namespace or 'all namespaces'}"

    @property
    def is_refused(self) -> bool:
        return self._refused_since > 0

    @property
    def is_deaf(self) -> bool:
        """Whether it has been told nothing for minutes while others were."""
        return 0 < self._deaf_since < self._clock() - DEAF_SECONDS

    @property
    def is_given_up(self) -> bool:
        """Whether nobody should wait for it; it is tried for all that."""
        return self.is_refused and self._clock() - self._refused_since > UNSERVED_SECONDS

    async def forever(self) -> None:
        """Raises ApiError when the API server has said no for REFUSED_SECONDS, if it may end."""
        while True:
            error = None
            try:
                if not self._version:
                    await self._list()
                await self._follow()
            except ApiError as caught:
                error = caught
            await asyncio.sleep(self._after(error))

    async def _list(self) -> None:
        """Bring the cache up to date with a whole list, deletions included."""
        started = self._kind.store.now()
        found: set[str] = set()
        more = version = ""
        while not version or more:
            uids, version, more = await self._page(more, started)
            found |= uids
        heap.give_back()
        where = (self._namespace,) if self._namespace else ()
        for key in self._kind.store.sweep(found, started, where):
            self._queue.add(key)
        if self.is_refused:
            self._queue.hurry()
        self._version, self._deaf_since, self._silences = version, 0.0, 0
        self.is_missing = False
        log.debug("%s: %d listed at %s", self, len(found), version)
        self.listed.set()
        self._turned()

    async def _page(self, more: str, started: int) -> tuple[set[str], str, str]:
        """What `_put` gives, the list's version, and what asks for its next page.

        Megabytes that nobody holds any more while that one is on its way.
        """
        text = await self._gateway.page(
            self._kind.resource, self._namespace, more, **self._kind.selectors
        )
        page = _read(wire.page, text)
        if not page.metadata.version:
            raise ApiError(0, _GARBLED, "a list without resourceVersion")
        uids = self._put(page.items or (), started)
        return uids, page.metadata.version, page.metadata.more

    def _put(self, items: Iterable[msgspec.Raw], started: int) -> set[str]:
        """The uids of a page's objects."""
        found = set()
        for text in items:
            item = self._view(text)
            if item is not None:
                found.add(item.meta.uid)
                if self._kind.store.put(item, since=started):
                    self._queue.add(self._kind.key_of(item.meta), Turn.ROUTINE)
        return found

    async def _follow(self) -> None:
        """Until the server ends the watch; raises ApiError where anything else does."""
        begun = self._clock()
        events = self._gateway.watch(
            self._kind.resource, self._namespace, self._version, **self._kind.selectors
        )
        try:
            async with aclosing(events):
                async for line in events:
                    self._take(line)
                    self._goes_well()
                    self._silences = 0
        except ApiError as error:
            if error.reason != SILENT or await self._needs_a_list():
                raise
        if self._clock() - begun > STEADY_SECONDS:
            self._goes_well()

    async def _needs_a_list(self) -> bool:
        """Whether the server knows no version as new as ours: it was restored from a backup.

        Else nothing has happened to the kind, of which some send no bookmark, or the connection is
        dead: either way another watch goes on from the same version.
        """
        self._silences += 1
        if self._silences == MOST_SILENCES:
            return True
        found = await self._gateway.newest(
            self._kind.resource, self._namespace, **self._kind.selectors
        )
        return not self._version.isdecimal() or found < int(self._version)

    def _take(self, line: bytes) -> None:
        event = _read(wire.event, line)
        if event.type == "ERROR":
            raise _ended(_read(wire.status, event.object))
        if event.type == "BOOKMARK":
            self._version = _read(wire.bookmark, event.object).metadata.version or self._version
            return
        item = self._view(event.object)
        if item is None:
            return
        if item.meta.version:
            self._version = str(item.meta.version)
        if event.type == "DELETED":
            self._kind.store.drop(item.meta.uid)
        elif not self._kind.store.put(item):
            return
        key = self._kind.key_of(item.meta)
        if event.type == "ADDED" and self._kind.resource is CUSTOMS:
            self._queue.add(key, Turn.NEW)
        else:
            gone = event.type == "DELETED"
            self._queue.add_within(key, SOON if gone else self._kind.patience(item))

    def _view(self, text: msgspec.Raw) -> Any:
        """None for an object of a shape that no API server sends: the others still count."""
        try:
            return self._kind.read(text)
        except Exception:
            log.exception("%s: an object cannot be read; this is a bug", self)
            return None

    def _goes_well(self) -> None:
        if self._failures > 1:
            log.info("%s goes on", self)
        self._failures, self._refused_since, self._deaf_since = 0, 0.0, 0.0

    def _after(self, error: ApiError | None) -> float:
        """Seconds until the next try; raises `error` when there is none."""
        self._failures += 1
        if error is None:
            self._deaf_since = 0.0
        else:
            self._judge(error)
        longest = min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(self._failures - 1, 10))
        delay = longest * random.uniform(0.5, 1)  # noqa: S311 - jitter
        delay = max(delay, (error and error.after) or 0.0)
        if error is not None:
            level = logging.WARNING if self._failures in {2, 10} else logging.DEBUG
            log.log(level, "%s failed (%d): %s", self, self._failures, error)
        return delay

    def _judge(self, error: ApiError) -> None:
        """Forget the version where it is of no use; raise what has lasted for too long."""
        self.is_missing = error.code == _NOT_FOUND
        may_list = bool(self._version)
        if not goes_on(error):
            self._version = ""
        if not is_refusal(error):
            self._refused_since = 0.0
            self._judge_silence(error)
            return
        self._refused_since = self._refused_since or self._clock()
        self._turned()
        if self._clock() - self._refused_since <= REFUSED_SECONDS:
            return
        if self._may_end():
            raise ApiError(error.code, error.reason, f"{self}: {error.args[0]}")
        if not may_list:
            self._forget()

    def _judge_silence(self, error: ApiError) -> None:
        """Who hears nothing while others are answered leaves it to a new connection, or a replica.

        Not before the first list: nobody waits for one that is not ready.
        """
        fails = error.code == 0 or error.code >= _SERVER
        if not (fails and self.listed.is_set() and self._answers()):
            self._deaf_since = 0.0
            return
        self._deaf_since = self._deaf_since or self._clock()
        if self.is_deaf and self._may_end():
            raise ApiError(error.code, error.reason, f"{self}: {error.args[0]}")

    def _forget(self) -> None:
        """Of what nobody may see any more there is nothing to tell either."""
        if self._namespace is not None and self.listed.is_set():
            log.warning("%s is not allowed any more: nothing is served there", self)
            self.listed.clear()
            store = self._kind.store
            for key in store.sweep((), store.now(), (self._namespace,)):
                self._queue.add(key)


def goes_on(error: ApiError) -> bool:
    """Whether a watch that ended so may follow from where it was.

    Not when the server has forgotten that version. Nor when it knows no such version yet, as one
    that was restored from a backup does: it then waits in silence until the numbers come up to it.
    """
    if error.reason in {SILENT, _ENDED, _GARBLED, TOO_LONG}:
        return False
    return error.code in {0, _UNAUTHORIZED, _TOO_MANY} or error.code >= _SERVER


def is_refusal(error: ApiError) -> bool:
    """Whether the server answers, and says no."""
    passing = {_NOT_FOUND, _GONE, _TOO_MANY}
    return _BAD_REQUEST <= error.code < _SERVER and error.code not in passing


def _ended(status: wire.Status) -> ApiError:
    """What the last event of a watch says."""
    after = status.details.after if status.details else None
    reason = status.reason if status.code == _TOO_MANY else _ENDED
    return ApiError(status.code, reason, f"{status.reason} {status.message}", after)


def _read(decode: Callable[[Any], Any], text: bytes | msgspec.Raw) -> Any:
    """Raises ApiError for what is no JSON, or of no use."""
    try:
        return decode(text)
    except msgspec.MsgspecError as error:
        raise ApiError(0, _GARBLED, f"{error}: {bytes(text)[:100]!r}") from error


class Watches:
    """All of them, in every namespace that is served."""

    def __init__(
        self,
        gateway: Gateway,
        cache: Cache,
        queue: WorkQueue[Key],
        namespaces: Iterable[str],
        answers: Callable[[], bool] = lambda: False,
    ) -> None:
        """`answers` says whether the server has answered somebody lately."""
        self._cache = cache
        self._turn = asyncio.Event()

        def begin(kind: Kind, where: str | None) -> Watch:
            told = self._turn.set
            asked = self._serves_nobody
            return Watch(gateway, kind, where, queue, may_end=asked, turned=told, answers=answers)

        where: list[str | None] = [*namespaces] or [None]
        self._of = {one: [begin(kind, one) for kind in kinds(cache)] for one in where}

    async def listed(self) -> None:
        """Return when everything that was there at the start is in the cache.

        Of several namespaces those that refuse are waited for a little, and then not any more.
        """
        while not self._are_listed():
            self._turn.clear()
            await self._turn.wait()

    def _are_listed(self) -> bool:
        unknown = [one for one, watches in self._of.items() if not _are_known(watches)]
        rest = [watch for one in unknown for watch in self._of[one]]
        some = len(unknown) < len(self._of)
        return some and all(each.listed.is_set() or each.is_given_up for each in rest)

    def lacks_a_kind(self) -> bool:
        """Whether the definition was deleted: what is not known cannot be served."""
        return any(each.is_missing for watches in self._of.values() for each in watches)

    def _serves_nobody(self) -> bool:
        lost = (any(each.is_refused or each.is_deaf for each in one) for one in self._of.values())
        return all(lost)

    def guarded(self, look: Look) -> Look:
        """Look at no job of a namespace of which not all is known: a child could just be unseen."""

        async def guarded(key: Key) -> float | None:
            watches = self._of.get(key[0]) or self._of.get(None, [])
            if self._cache.custom(key) is not None and not _are_known(watches):
                return UNKNOWN_SECONDS
            return await look(key)

        return guarded

    def parts(self) -> list[Coroutine[Any, Any, None]]:
        """To be run side by side; each raises ApiError when it is refused for good."""
        return [watch.forever() for watches in self._of.values() for watch in watches]


def _are_known(watches: Iterable[Watch]) -> bool:
    return all(each.listed.is_set() for each in watches)
