"""The load client: creates the objects and notes when it hears of each step, by its own clock."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import aiohttp
import yaml
from bench.operator.workload import CUSTOMS, JOBS

from finetuning.api.v1alpha1 import PLURAL
from finetuning.controller import naming

if TYPE_CHECKING:
    from bench.operator.plane import Plane

CONCURRENT = 16
"""Creations under way at a time in a burst."""
BUFFER = 2**20
POD = f"{naming.TRAINING} pod"
GONE = f"{POD} gone"
"""A deleted job is done with its pod gone, wherever it had got to."""
AGAIN_SECONDS = 0.2
AWAY_SECONDS = 60
"""An API server that restarts is back by then."""
Steps = Callable[[dict[str, Any]], list[str]]
Stamps = dict[str, dict[str, float]]
"""Job: step: time.monotonic() when it was first heard of."""


class Client:
    """A connection to the API server."""

    def __init__(self, plane: Plane) -> None:
        connector = aiohttp.TCPConnector(ssl=plane.tls(), limit=64)
        self.http = aiohttp.ClientSession(plane.url, connector=connector, read_bufsize=BUFFER)

    async def close(self) -> None:
        await self.http.close()

    async def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """What was made; raises RuntimeError with the API server's words when it refuses."""
        return await self._send("POST", path, manifest, fine=409)

    async def replace(self, path: str, manifest: dict[str, Any]) -> None:
        """Raises RuntimeError as `create` does."""
        await self._send("PUT", path, manifest, fine=409)

    async def delete(self, path: str) -> None:
        """With all that belongs to it; raises RuntimeError as `create` does."""
        await self._send("DELETE", path, {"propagationPolicy": "Background"}, fine=404)

    async def _send(self, verb: str, path: str, body: dict[str, Any], fine: int) -> dict[str, Any]:
        """Again while the API server is away; `fine` answers what it had done before it went."""
        number = 0
        while True:
            try:
                async with self.http.request(verb, path, json=body) as answer:
                    status, said = answer.status, await answer.text()
            except aiohttp.ClientError as error:
                status, said = 503, str(error)
            if status < 400 or (number and status == fine):  # noqa: PLR2004
                found: dict[str, Any] = json.loads(said)
                return found
            if status < 500 or number * AGAIN_SECONDS > AWAY_SECONDS:  # noqa: PLR2004
                raise RuntimeError(f"{verb} {path}: {status} {said}")
            number += 1
            await asyncio.sleep(AGAIN_SECONDS)

    async def create_text(self, path: str, manifest: str) -> None:
        """The same for YAML."""
        await self.create(path, yaml.safe_load(manifest))

    async def until(
        self, path: str, ready: Callable[[dict[str, Any]], bool], limit: float = 60
    ) -> None:
        """Wait until every object there is ready; raises TimeoutError."""
        deadline = time.monotonic() + limit
        while not all(map(ready, (await self.get(path))["items"])):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path}: not ready after {limit:.0f} s")
            await asyncio.sleep(0.2)

    async def text(self, path: str, accept: str) -> bytes:
        """What the API server answers in a form that `accept` names."""
        async with self.http.get(path, headers={"Accept": accept}) as answer:
            answer.raise_for_status()
            return await answer.read()

    async def get(self, path: str) -> dict[str, Any]:
        async with self.http.get(path) as answer:
            answer.raise_for_status()
            found: dict[str, Any] = await answer.json()
            return found


def usable(node: dict[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and not node["spec"].get("taints")


def established(definition: dict[str, Any]) -> bool:
    return any(each["type"] == "Established" and each["status"] == "True"
               for each in (definition.get("status") or {}).get("conditions") or ())  # fmt: skip


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
    failed = found.get("phase") == "Failed"
    trained = failed or found.get("phase") == "Succeeded" or found.get("reason") == "Validating"
    return [
        "custom",
        *(["trained"] if trained else []),
        *(["validated"] if trained and (failed or holds(item, "Validated")) else []),
    ]


class Watcher:
    """Follows one namespace."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client, self.namespace = client, namespace
        self.stamps: Stamps = defaultdict(dict)
        self._tasks: list[asyncio.Task[None]] = []
        self.news = asyncio.Event()

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this meanwhile: what breaks it ends a wait, and it ends with the watcher."""
        self._tasks.append(asyncio.create_task(work))

    async def start(self, *, customs: bool) -> None:
        await self._follow(f"{JOBS}/namespaces/{self.namespace}/jobs", job_steps)
        await self._follow(f"/api/v1/namespaces/{self.namespace}/pods", pod_steps)
        if customs:
            path = f"{CUSTOMS}/namespaces/{self.namespace}/{PLURAL}"
            await self._follow(path, custom_steps)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def count(self, step: str) -> int:
        return sum(step in steps or GONE in steps for steps in self.stamps.values())

    async def wait(self, step: str, count: int, tell: Callable[[], None], limit: float) -> None:
        """Until `count` jobs got there; raises TimeoutError, or what broke a watch or the like."""
        deadline = time.monotonic() + limit
        told = time.monotonic()
        while self.count(step) < count:
            for task in self._tasks:
                if task.done():
                    task.result()
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

    async def _follow(self, path: str, steps: Steps) -> None:
        version = (await self._client.get(f"{path}?limit=1"))["metadata"]["resourceVersion"]
        self._tasks.append(asyncio.create_task(self._stay(path, version, steps)))

    async def _stay(self, path: str, version: str, steps: Steps) -> None:
        """Watch; after the API server was away, look at all that is there and watch on."""
        there: dict[str, str] = {}
        while True:
            try:
                await self._watch(f"{path}?watch=1&resourceVersion={version}", steps, there)
            except aiohttp.ClientError:
                await asyncio.sleep(AGAIN_SECONDS)
            version = await self._look(path, steps, there)

    async def _watch(self, url: str, steps: Steps, there: dict[str, str]) -> None:
        """Until the API server ends it."""
        forever = aiohttp.ClientTimeout(total=None)
        async with self._client.http.get(f"{url}&timeoutSeconds=7200", timeout=forever) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise RuntimeError(f"watch {url}: {event['object']}")
                if event["type"] == "DELETED":
                    self._miss(event["object"]["metadata"]["name"], steps, there)
                else:
                    self._hear(event["object"], steps, there)

    async def _look(self, path: str, steps: Steps, there: dict[str, str]) -> str:
        """The version of a list of everything; raises what it met when it stays away too long."""
        deadline = time.monotonic() + AWAY_SECONDS
        while True:
            try:
                found = await self._client.get(path)
                break
            except aiohttp.ClientError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)
        for name in there.keys() - {each["metadata"]["name"] for each in found["items"]}:
            self._miss(name, steps, there)
        for item in found["items"]:
            self._hear(item, steps, there)
        return str(found["metadata"]["resourceVersion"])

    def _hear(self, item: dict[str, Any], steps: Steps, there: dict[str, str]) -> None:
        there[item["metadata"]["name"]] = key_of(item)
        self._note(key_of(item), steps(item))

    def _miss(self, name: str, steps: Steps, there: dict[str, str]) -> None:
        job = there.pop(name, "")
        if steps is pod_steps and "deleted" in self.stamps[job]:
            self._note(job, [GONE])

    def _note(self, job: str, steps: list[str]) -> None:
        now, known = time.monotonic(), self.stamps[job]
        for step in steps:
            if step not in known:
                known[step] = now
                self.news.set()
