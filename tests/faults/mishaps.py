"""What goes wrong at random: on the way to the API server, with it, with operator and Pods."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from tests.faults.node import component, parent
from tests.faults.proxy import Fault

from finetuning.controller import naming
from finetuning.controller.gateway import PODS, ApiError

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from tests.faults.scene import Raw, Site

METHODS = ("GET", "POST", "PATCH", "")
ON_THE_WAY = {
    "429 with Retry-After": "429",
    "500": "500",
    "503": "503",
    "504": "504",
    "409": "409",
    "connection reset": "reset",
    "answer lost": "lost answer",
    "five seconds of latency": "slow",
    "watch cut in the middle of a line": "half line",
}
MOST_TIMES = 3
OUTAGE_SECONDS = 5.0
TWICE_SECONDS = 10.0


class Mishaps:
    """One at a time; how often each happened is counted."""

    def __init__(self, site: Site, rng: random.Random) -> None:
        self._site, self._rng = site, rng
        self.counted: Counter[str] = Counter()
        self.evicted: Counter[str] = Counter()
        """Trainers by the job that they belonged to."""
        self.exits: list[int] = []
        """Exit codes after SIGTERM."""
        self.spares_operator = False
        self._others: dict[str, Callable[[], Awaitable[bool]]] = {
            "watches cut": self._cut,
            "events of watches twice": self._twice,
            "trainer evicted": self._evict,
            "API server killed for five seconds": self._outage,
        }
        self._against_operator: dict[str, Callable[[], Awaitable[bool]]] = {
            "operator killed": self._kill,
            "operator told to stop": self._stop,
        }

    async def happen(self) -> None:
        """Any of them."""
        others = self._others | ({} if self.spares_operator else self._against_operator)
        title = self._rng.choice([*ON_THE_WAY, *others])
        done = await others[title]() if title in others else self._on_the_way(title)
        self.counted[title] += done

    def _on_the_way(self, title: str) -> bool:
        kind = ON_THE_WAY[title]
        method = "GET" if kind == "half line" else self._rng.choice(METHODS)
        path = "watch" if kind == "half line" else ""
        self._site.proxy.faults = [Fault(kind, method, path, self._rng.randint(1, MOST_TIMES))]
        return True

    async def _cut(self) -> bool:
        self._site.proxy.cut_watches()
        return True

    async def _twice(self) -> bool:
        self._site.proxy.told_twice = True
        await asyncio.sleep(TWICE_SECONDS)
        self._site.proxy.told_twice = False
        return True

    async def _kill(self) -> bool:
        self._site.kill_operator()
        return True

    async def _stop(self) -> bool:
        if self._site.process_is_gone():
            return False
        self.exits.append(await self._site.stop_operator(30))
        return True

    async def _outage(self) -> bool:
        self._site.plane.kill_api()
        await asyncio.sleep(OUTAGE_SECONDS)
        await asyncio.to_thread(self._site.plane.start_api)
        return True

    async def _evict(self) -> bool:
        """By the eviction API, as a drained node does; false where no trainer runs."""
        admin, namespace = self._site.admin, self._site.namespace
        pods = [pod async for pod in admin.items(PODS, namespace)]
        runs = [pod for pod in pods if _trains(pod)]
        if not runs:
            return False
        pod = self._rng.choice(runs)
        meta = {"name": pod["metadata"]["name"], "namespace": namespace}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
        self.evicted[parent(pod)] += 1
        with contextlib.suppress(ApiError):
            path = PODS.path(namespace, meta["name"], "eviction")
            await admin._call("create", PODS, "POST", path, body=body)
        return True


def _trains(pod: Raw) -> bool:
    return component(pod) == naming.TRAINING and pod["status"].get("phase") == "Running"
