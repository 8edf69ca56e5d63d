"""Which job to look at next: each key once, never by two workers, failures with growing delay."""

import asyncio
import random
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BASE_DELAY = 0.2
MAX_DELAY = 300.0


class ClosedError(Exception):
    """No more work: the process is stopping."""


class WorkQueue(Generic[K]):
    """A key that is added while a worker has it comes back when that worker is done."""

    def __init__(self, base_delay: float = BASE_DELAY, max_delay: float = MAX_DELAY) -> None:
        self._base, self._max = base_delay, max_delay
        self._urgent: deque[K] = deque()
        self._later: deque[K] = deque()
        self._waiting: dict[K, bool] = {}
        self._working: set[K] = set()
        self._dirty: dict[K, bool] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()
        self._closed = False

    @property
    def depth(self) -> int:
        """Keys that wait for a worker; those on a timer are not counted."""
        return len(self._waiting) + len(self._dirty)

    def add(self, key: K, *, urgent: bool = True) -> None:
        """Ask for a look at `key`; what a person just did goes before routine."""
        if key in self._working:
            self._dirty[key] = urgent or self._dirty.get(key, False)
        elif key not in self._waiting:
            self._enqueue(key, urgent=urgent)
        elif urgent and not self._waiting[key]:
            self._later.remove(key)
            self._enqueue(key, urgent=True)

    def _enqueue(self, key: K, *, urgent: bool) -> None:
        self._waiting[key] = urgent
        (self._urgent if urgent else self._later).append(key)
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
        self.add(key, urgent=False)

    def retry(self, key: K, after: float | None = None) -> float:
        """Ask for another look after a failure; says after how many seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        backoff = min(self._max, self._base * 2.0 ** min(failures, 30))
        delay = max(after or 0.0, backoff * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        self.add_after(key, delay)
        return delay

    def succeeded(self, key: K) -> None:
        """Start the delays of `key` over."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key, which is this worker's alone until `done`; raises ClosedError."""
        while not self._closed:
            queue = self._urgent or self._later
            if queue:
                key = queue.popleft()
                del self._waiting[key]
                self._working.add(key)
                return key
            self._wake.clear()
            await self._wake.wait()
        raise ClosedError

    def done(self, key: K) -> None:
        self._working.discard(key)
        if key in self._dirty:
            self._enqueue(key, urgent=self._dirty.pop(key))

    def close(self) -> None:
        """Wake every worker for the last time."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._wake.set()
