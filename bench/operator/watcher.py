"""The load client: creates the objects and notes when it hears of each step, by its own clock."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import aiohttp
import yaml
from bench.operator.workload import CUSTOMS, JOBS

from finetuning.api.v1alpha1 import PLURAL
from finetuning.controller import naming

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.operator.plane import Plane

CONCURRENT = 16
"""Creations under way at a time in a burst."""
BUFFER = 2**20
Stamps = dict[str, dict[str, float]]
"""Job: step: time.monotonic() when it was first heard of."""


class Client:
    """A connection to the API server."""

    def __init__(self, plane: Plane) -> None:
        connector = aiohttp.TCPConnector(ssl=plane.tls(), limit=64)
        self.http = aiohttp.ClientSession(plane.url, connector=connector, read_bufsize=BUFFER)

    async def close(self) -> None:
        await self.http.close()

    async def create(self, path: str, manifest: dict[str, Any]) -> None:
        """Raises RuntimeError with the API server's words when it refuses."""
        async with self.http.post(path, json=manifest) as answer:
            if answer.status >= 400:  # noqa: PLR2004
                raise RuntimeError(f"POST {path}: {answer.status} {await answer.text()}")

    async def create_text(self, path: str, manifest: str) -> None:
        """The same for YAML."""
        await self.create(path, yaml.safe_load(manifest))

    async def until_usable(self, path: str, limit: float = 60) -> None:
        """Wait until the scheduler may use every node; raises TimeoutError."""
        deadline = time.monotonic() + limit
        while not all(map(usable, (await self.get(path))["items"])):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the nodes are not ready after {limit:.0f} s")
            await asyncio.sleep(0.2)

    async def get(self, path: str) -> dict[str, Any]:
        async with self.http.get(path) as answer:
            answer.raise_for_status()
            found: dict[str, Any] = await answer.json()
            return found


def usable(node: dict[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and not node["spec"].get("taints")


def key_of(item: dict[str, Any]) -> str:
    """The job that an object belongs to."""
    labels = item["metadata"].get("labels") or {}
    return str(labels.get(naming.JOB_NAME_LABEL) or item["metadata"]["name"])


def part_of(item: dict[str, Any]) -> str:
    return str((item["metadata"].get("labels") or {}).get(naming.COMPONENT_LABEL, ""))


def holds(item: dict[str, Any], kind: str) -> bool:
    """Whether a condition is decided: true or false, but known."""
    found = (item.get("status") or {}).get("conditions") or []
    return any(each["type"] == kind and each["status"] != "Unknown" for each in found)


def job_steps(item: dict[str, Any]) -> list[str]:
    part = part_of(item)
    ended = holds(item, "Complete") or holds(item, "Failed")
    return [f"{part} job", *([f"{part} job ended"] if ended else [])]


def pod_steps(item: dict[str, Any]) -> list[str]:
    part, phase = part_of(item), item["status"].get("phase")
    ended = phase in {"Succeeded", "Failed"}
    return [f"{part} pod", *([f"{part} pod ended"] if ended else [])]


def custom_steps(item: dict[str, Any]) -> list[str]:
    found = item.get("status") or {}
    trained = found.get("phase") in {"Succeeded", "Failed"} or found.get("reason") == "Validating"
    return [
        "custom",
        *(["trained"] if trained else []),
        *(["validated"] if trained and holds(item, "Validated") else []),
    ]


class Watcher:
    """Follows one namespace."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client, self._namespace = client, namespace
        self.stamps: Stamps = defaultdict(dict)
        self._tasks: list[asyncio.Task[None]] = []
        self.news = asyncio.Event()

    async def start(self, *, customs: bool) -> None:
        await self._follow(f"{JOBS}/namespaces/{self._namespace}/jobs", job_steps)
        await self._follow(f"/api/v1/namespaces/{self._namespace}/pods", pod_steps)
        if customs:
            path = f"{CUSTOMS}/namespaces/{self._namespace}/{PLURAL}"
            await self._follow(path, custom_steps)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def count(self, step: str) -> int:
        return sum(step in steps for steps in self.stamps.values())

    async def wait(self, step: str, count: int, tell: Callable[[], None], limit: float) -> None:
        """Until `count` jobs got there; raises TimeoutError, or what broke a watch."""
        deadline = time.monotonic() + limit
        told = time.monotonic()
        while self.count(step) < count:
            for task in self._tasks:
                if task.done():
                    task.result()
                    raise RuntimeError("the API server closed a watch")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.count(step)} of {count} jobs are at {step!r}")
            self.news.clear()
            try:
                async with asyncio.timeout(1):
                    await self.news.wait()
                    # One look at the counts for a handful of news, not for each.
                    await asyncio.sleep(0.02)
            except TimeoutError:
                pass
            if time.monotonic() - told > 5:  # noqa: PLR2004
                told = time.monotonic()
                tell()

    async def _follow(self, path: str, steps: Callable[[dict[str, Any]], list[str]]) -> None:
        version = (await self._client.get(f"{path}?limit=1"))["metadata"]["resourceVersion"]
        self._tasks.append(asyncio.create_task(self._watch(f"{path}?watch=1", version, steps)))

    async def _watch(
        self, path: str, version: str, steps: Callable[[dict[str, Any]], list[str]]
    ) -> None:
        forever = aiohttp.ClientTimeout(total=None)
        url = f"{path}&resourceVersion={version}&timeoutSeconds=7200"
        async with self._client.http.get(url, timeout=forever) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise RuntimeError(f"watch {path}: {event['object']}")
                if event["type"] != "DELETED":
                    self._note(event["object"], steps)

    def _note(self, item: dict[str, Any], steps: Callable[[dict[str, Any]], list[str]]) -> None:
        now, known = time.monotonic(), self.stamps[key_of(item)]
        for step in steps(item):
            if step not in known:
                known[step] = now
                self.news.set()
