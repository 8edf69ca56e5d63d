"""Asks the metrics sidecars how far their trainings are, beside the looks at the jobs.

A sidecar that nobody can reach answers after a time limit. A look that waited for it would hold one
of a few workers: with a network policy in the way of a hundred pods, nothing else would get done.
So the question goes its own way, and its answer asks for another look.
"""

import asyncio
from collections.abc import Callable

from finetuning.controller import last_words, naming, observed, sidecar, training_status
from finetuning.controller.memory import Memory, left
from finetuning.controller.observed import Children, Key, Pod

AT_ONCE = 1000
"""Connections: each is a file, and those to sidecars that nobody can reach stay for seconds."""


class Listener:
    """The questions that are under way, at most one for each job."""

    def __init__(
        self,
        interval: float,
        clock: Callable[[], float],
        wake: Callable[[Key], None],
    ) -> None:
        """`interval` are the seconds between two questions to one sidecar."""
        self._interval, self._clock, self._wake = interval, clock, wake
        self._room = asyncio.Semaphore(AT_ONCE)
        self._asked: dict[Key, asyncio.Task[None]] = {}

    def ask(self, key: Key, found: Children, memory: Memory) -> None:
        """Ask if it is time to; the answer will be in `memory`."""
        pods = observed.leading(found.training_pods)
        pod = next((p for p in pods if training_status.trainer_runs(p) or _was_killed(p)), None)
        if pod is None or not pod.ip:
            return
        killed = _was_killed(pod)
        if memory.live_pod != pod.meta.uid:
            memory.live, memory.live_pod = None, pod.meta.uid
        elif self._is_early(memory, killed=killed):
            return
        if key not in self._asked:
            memory.last_asked = pod.meta.uid if killed else ""
            memory.fetched = self._clock()
            self._asked[key] = asyncio.create_task(self._question(key, pod, memory))

    def _is_early(self, memory: Memory, *, killed: bool) -> bool:
        """A sidecar that is about to go is asked at once, and once."""
        if killed:
            return memory.last_asked == memory.live_pod
        return self._clock() - memory.fetched < self._interval

    def next_question(self, memory: Memory) -> float:
        """In how many seconds a running job's sidecar should be asked again."""
        return left(self._interval, memory.fetched, self._clock())

    def waits(self, key: Key) -> bool:
        """Whether a better figure than the last one is on its way."""
        return key in self._asked

    async def _question(self, key: Key, pod: Pod, memory: Memory) -> None:
        try:
            async with self._room:
                found = await sidecar.fetch(pod.ip)
        finally:
            self._asked.pop(key, None)
        known = memory.live
        if memory.live_pod == pod.meta.uid:
            memory.live = found or known
        if memory.withheld or memory.live != known:
            self._wake(key)

    async def close(self) -> None:
        """Wait for no answer any more."""
        asked = list(self._asked.values())
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        self._asked.clear()


def _was_killed(pod: Pod) -> bool:
    """Its trainer left no words, and the sidecar, which lingers, knows how far it was."""
    trainer = pod.container(naming.TRAINING_CONTAINER)
    if trainer is None or pod.over or not trainer.exit_code:
        return False
    return last_words.training_result(trainer) is None
