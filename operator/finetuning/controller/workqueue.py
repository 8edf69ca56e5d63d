"""Which job to look at next: each key once, never by two workers, failures with growing delay."""

import asyncio
import random
from collections import deque
from collections.abc import Hashable
from enum import IntEnum
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BASE_DELAY = 0.2
MAX_DELAY = 300.0


class Turn(IntEnum):
    """Who goes first; those of one kind in the order in which they came."""

    NEW = 0
    """A job that nobody has looked at: of a thousand, the last waits for no first one's status."""
    NEWS = 1
    """Something happened to it."""
    ROUTINE = 2


class ClosedError(Exception):
    """No more work: the process is stopping."""


class WorkQueue(Generic[K]):
    """A key that is added while a worker has it comes back when that worker is done."""

    def __init__(self, base_delay: float = BASE_DELAY, max_delay: float = MAX_DELAY) -> None:
        self._base, self._max = base_delay, max_delay
        self._lanes: dict[Turn, deque[K]] = {turn: deque() for turn in Turn}
        self._waiting: dict[K, Turn] = {}
        self._working: set[K] = set()
        self._dirty: dict[K, Turn] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._gathering: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()
        self._closed = False

    @property
    def depth(self) -> int:
        """Keys that wait for a worker; those on a timer are not counted."""
        return len(self._waiting) + len(self._dirty)

    def add(self, key: K, turn: Turn = Turn.NEWS) -> None:
        """Ask for a look at `key`; one that waits already may only come sooner."""
        if key in self._working:
            self._dirty[key] = min(turn, self._dirty.get(key, turn))
        elif key not in self._waiting:
            self._enqueue(key, turn)
        elif turn < self._waiting[key]:
            self._lanes[self._waiting[key]].remove(key)
            self._enqueue(key, turn)

    def add_within(self, key: K, seconds: float) -> None:
        """Ask for one look at what comes within so many seconds; any look before it will do."""
        if key in self._waiting or seconds <= 0:
            self.add(key)
            return
        loop, known = asyncio.get_running_loop(), self._gathering.get(key)
        if known is not None:
            if known.when() <= loop.time() + seconds:
                return
            known.cancel()
        self._gathering[key] = loop.call_later(seconds, self._gathered, key)

    def _gathered(self, key: K) -> None:
        del self._gathering[key]
        self.add(key)

    def _enqueue(self, key: K, turn: Turn) -> None:
        if timer := self._gathering.pop(key, None):
            timer.cancel()
            turn = min(turn, Turn.NEWS)
        self._waiting[key] = turn
        self._lanes[turn].append(key)
        self._wake.set()

    def add_after(self, key: K, delay: float) -> None:
        """Ask for a look after `delay` seconds; of several wishes the earliest counts."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + delay:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self._expire, key)

    def _expire(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key, Turn.ROUTINE)

    def retry(self, key: K, after: float | None = None) -> float:
        """Ask for another look after a failure; says after how many seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        backoff = min(self._max, self._base * 2.0 ** min(failures, 30))
        delay = max(after or 0.0, backoff * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        self.add_after(key, delay)
        return delay

    def hurry(self) -> None:
        """What failed for want of an answer need not wait for as long as it was in vain."""
        for key in list(self._failures):
            del self._failures[key]
            if timer := self._timers.pop(key, None):
                timer.cancel()
                self.add(key, Turn.ROUTINE)

    def succeeded(self, key: K, again: float | None = None) -> None:
        """Start the delays of `key` over, and ask for another look after `again` seconds.

        A look sees everything: what earlier ones asked for is of no use any more.
        """
        self._failures.pop(key, None)
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if again is not None:
            self.add_after(key, again)

    async def get(self) -> K:
        """The next key, which is this worker's alone until `done`; raises ClosedError."""
        while not self._closed:
            lane = next(filter(None, self._lanes.values()), None)
            if lane:
                key = lane.popleft()
                del self._waiting[key]
                self._working.add(key)
                return key
            self._wake.clear()
            await self._wake.wait()
        raise ClosedError

    def done(self, key: K) -> None:
        self._working.discard(key)
        if key in self._dirty:
            self._enqueue(key, self._dirty.pop(key))

    def close(self) -> None:
        """Wake every worker for the last time."""
        self._closed = True
        for timers in (self._timers, self._gathering):
            for timer in timers.values():
                timer.cancel()
            timers.clear()
        self._wake.set()
