"""Jobs that come in a stream, what people do with each, and how each has to end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.faults.node import FINAL, component, parent
from tests.faults.scene import Raw, Site, judged

from finetuning.controller import naming
from finetuning.controller.gateway import CLAIMS, CUSTOMS, JOBS, ApiError

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

PATIENCE_SECONDS = 300.0
"""For one step of a life, through any outage; a job that takes longer counts as lost."""
COLLECTOR_SECONDS = 60.0
"""After which a person does what the status says of something left behind."""
_LEFT = re.compile(r"kubectl --namespace \S+ delete (job|persistentvolumeclaim) (\S+)$")
LONGEST_TRAINING = 8.0
RUNS = {"plain": 1, "crashes": 2, "invalid": 1, "paused": 2, "again": 2, "deleted": 1}
"""Kinds of lives, and how many trainers each needs where nobody disturbs it."""


class Lives:
    """Every job's name begins with its kind."""

    def __init__(self, site: Site, rng: random.Random, evicted: Counter[str]) -> None:
        """`evicted` counts the trainers by job that were evicted meanwhile."""
        self._site, self._rng, self._evicted = site, rng, evicted
        self.ended: Counter[str] = Counter()
        self.begun = 0
        self.problems: list[str] = []
        self.forgotten: list[str] = []
        """What Kubernetes' garbage collector left, and a person deleted as the status says."""
        self._seen: dict[str, Raw] = {}
        self._held = set[str]()
        self._crashed: dict[str, str] = {}
        self._until: dict[str, float] = {}
        site.node.ending = self._ending

    async def look(self) -> None:
        """At every job, once for all lives."""
        found = [raw async for raw in self._site.admin.items(CUSTOMS, self._site.namespace)]
        self._seen = {raw["metadata"]["name"]: raw for raw in found}

    async def live(self) -> None:
        """One job from its creation to its end, which is checked, and away with it."""
        kind = self._rng.choice(list(RUNS))
        self.begun += 1
        name = f"{kind}-{self.begun}"
        try:
            await self._live(kind, name)
        except TimeoutError as error:
            told = (self._seen.get(name) or {}).get("status")
            self.problems.append(f"{name}: {error} within {PATIENCE_SECONDS:.0f} s: {told}")

    async def _live(self, kind: str, name: str) -> None:
        if kind in {"paused", "again", "deleted"}:
            self._held.add(name)
        await self._surely(lambda: self._site.submit(name))
        if kind in {"paused", "again", "deleted"}:
            await self._until_seen(name, "training", _trains)
            await self._interfere(kind, name)
        if kind != "deleted":
            await self._until_seen(name, "the end", _failed if kind == "invalid" else judged)
            await self._check(kind, name)
            await self._surely(lambda: self._site.remove(name))
        await self._until_gone(name)
        self.ended[kind] += 1

    async def _interfere(self, kind: str, name: str) -> None:
        if kind == "paused":
            await self._surely(lambda: self._site.change(name, suspend=True))
            await self._until_seen(name, "a pause", lambda s: s.get("phase") == "Paused")
            await self._surely(lambda: self._site.change(name, suspend=False))
        else:
            await self._surely(lambda: self._site.remove(name))
        if kind == "again":
            await self._surely(lambda: self._site.submit(name))
        self._held.discard(name)

    async def _surely(self, act: Callable[[], Awaitable[object]]) -> None:
        """Again until the API server has done it: it may be down, or its answer lost."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            try:
                await act()
            except ApiError as error:
                if error.code in {404, 409}:
                    return
                await asyncio.sleep(1)
            else:
                return
        raise TimeoutError("no answer of the API server")

    async def _until_seen(self, name: str, what: str, probe: Callable[[Raw], bool]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        stuck = 0.0
        while not probe(status := (self._seen.get(name) or {}).get("status") or {}):
            left = _LEFT.search(status.get("message", ""))
            stuck = stuck + 0.5 if left else 0.0
            if left and stuck > COLLECTOR_SECONDS:
                stuck = 0.0
                await self._collect(*left.groups())
            if time.monotonic() > end:
                raise TimeoutError(f"not seen: {what}")
            await asyncio.sleep(0.5)

    async def _collect(self, kind: str, name: str) -> None:
        self.forgotten.append(f"{kind} {name}")
        resource = {"job": JOBS, "persistentvolumeclaim": CLAIMS}[kind]
        path = resource.path(self._site.namespace, name)
        body = {"propagationPolicy": "Background"}
        await self._surely(
            lambda: self._site.admin._call("delete", resource, "DELETE", path, body=body)
        )

    async def _until_gone(self, name: str) -> None:
        """With the Jobs that it owned."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(ApiError):
                if not await self._jobs_of(name):
                    return
            await asyncio.sleep(2)
        raise TimeoutError("not seen: its Jobs gone")

    async def _jobs_of(self, name: str) -> list[str]:
        selector = f"{naming.JOB_NAME_LABEL}={name}"
        items = self._site.admin.items(JOBS, self._site.namespace, labelSelector=selector)
        return sorted([raw["metadata"]["name"] async for raw in items])

    async def _check(self, kind: str, name: str) -> None:
        wanted = [f"{name}-train", *([] if kind == "invalid" else [f"{name}-validate"])]
        jobs: list[str] = []
        with contextlib.suppress(ApiError):
            jobs = await self._jobs_of(name)
        if jobs and jobs != wanted:
            self.problems.append(f"{name}: Jobs {jobs}")
        pods = sum(pod.startswith(f"{name}-train-") for pod in self._site.node.started)
        if pods > RUNS[kind] + self._evicted[name]:
            self.problems.append(f"{name}: {pods} trainers")

    def _ending(self, pod: Raw) -> tuple[int, str] | None:
        name, itself = parent(pod), pod["metadata"]["name"]
        if component(pod) != naming.TRAINING:
            return (0, FINAL[component(pod)])
        length = self._rng.uniform(1, LONGEST_TRAINING)
        over = self._until.setdefault(itself, time.monotonic() + length) < time.monotonic()
        if name in self._held or not over:
            return None
        if name.startswith("invalid"):
            return (2, "no rows")
        if name.startswith("crashes") and self._crashed.setdefault(name, itself) == itself:
            return (1, "Segmentation fault")
        return (0, FINAL[naming.TRAINING])


def _trains(status: Raw) -> bool:
    return bool(status.get("phase") == "Running")


def _failed(status: Raw) -> bool:
    return bool(status.get("phase") == "Failed")
