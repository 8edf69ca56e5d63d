"""Of several namespaces that are served, one that goes, or its rights, takes none of the others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.unit.controller.answering import answering
from tests.unit.controller.objects import job_body
from tests.unit.controller.test_gateway import config
from tests.unit.controller.test_monitoring_modes import REASONS, in_mode, ready
from tests.unit.controller.test_watching import sends, status
from tests.unit.controller.world import FakeGateway, Process, World

from finetuning.controller import naming, observed, watching
from finetuning.controller.cache import Cache
from finetuning.controller.gateway import ApiError, Gateway
from finetuning.controller.namespaces import in_each
from finetuning.controller.observed import Key
from finetuning.controller.resync import Resync
from finetuning.controller.settings import MonitoringMode
from finetuning.controller.watching import UNKNOWN_SECONDS, Watches
from finetuning.controller.workqueue import WorkQueue

NAMES = ("team", "gone")
REFUSAL = ApiError(403, "Forbidden", "no such right")


class Server:
    """Has a job in each namespace, and ends each watch soon."""

    def __init__(self) -> None:
        self.port = 0
        self.refused: set[tuple[str, str]] = set()
        """Namespaces and kinds that nobody may see."""

    def refuse(self, namespace: str) -> None:
        self.refused |= {(namespace, kind) for kind in ("finetuningjobs", "jobs", "pods")}

    async def reply(self, request: web.Request) -> web.StreamResponse:
        *_, namespace, kind = request.path.split("/")
        if (namespace, kind) in self.refused:
            return web.json_response(status(403, "Forbidden"), status=403)
        if "watch" in request.query:
            stream = web.StreamResponse(headers={"Content-Type": "application/json"})
            await stream.prepare(request)
            await sends(then=0.05)(stream)
            return stream
        items = [job_in(namespace)] if kind == "finetuningjobs" else []
        return web.json_response({"metadata": {"resourceVersion": "100"}, "items": items})


def job_in(namespace: str) -> dict[str, Any]:
    found = job_body(uid=f"uid-{namespace}")
    found["metadata"]["namespace"] = namespace
    return found


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    async with answering(found.reply) as found.port:
        yield found


class Life:
    """One life of the watches, with what they know."""

    def __init__(self, api: Gateway) -> None:
        self.cache, self.queue = Cache(), WorkQueue[Key]()
        self.watches = Watches(api, self.cache, self.queue, NAMES)
        self.looked_at: list[str] = []
        self.tasks = [asyncio.create_task(part) for part in self.watches.parts()]

    async def look(self, namespace: str) -> float | None:
        async def look(key: Key) -> None:
            self.looked_at.append(key[0])

        return await self.watches.guarded(look)((namespace, "demo"))

    def known(self) -> set[str]:
        return {each.meta.namespace for each in self.cache.customs}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                for task in self.tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.01)


@pytest.fixture
async def life(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Life]:
    monkeypatch.setattr(watching, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(watching, "MAX_DELAY", 0.05)
    monkeypatch.setattr(watching, "UNSERVED_SECONDS", 0.1)
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(config(server.port))
    api = await Gateway.connect(str(kubeconfig), lambda *_: None)
    found = Life(api)
    yield found
    for task in found.tasks:
        task.cancel()
    await asyncio.wait(found.tasks)
    await api.close()


@pytest.mark.fault(
    "One of the namespaces that are served goes, or its rights",
    "the others are served, also by an operator that begins anew; it is served when it may be",
)
async def test_at_a_start_who_refuses_is_not_waited_for(server: Server, life: Life) -> None:
    server.refuse("gone")
    async with asyncio.timeout(10):
        await life.watches.listed()
    assert life.known() == {"team"}
    assert await life.look("team") is None
    server.refused.clear()
    await life.until(lambda: life.known() == set(NAMES))
    async with asyncio.timeout(10):
        while await life.look("gone"):  # noqa: ASYNC110 - the event is elsewhere
            await asyncio.sleep(0.01)
    assert life.looked_at == ["team", "gone"]


async def test_a_job_whose_pods_nobody_may_see_is_not_looked_at(server: Server, life: Life) -> None:
    server.refused.add(("gone", "pods"))
    async with asyncio.timeout(10):
        await life.watches.listed()
    assert life.known() == set(NAMES)
    assert (await life.look("gone"), life.looked_at) == (UNKNOWN_SECONDS, [])


async def test_what_is_known_of_a_namespace_goes_with_the_right_to_see_it(
    server: Server, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "REFUSED_SECONDS", 0.3)
    await life.until(lambda: life.known() == set(NAMES))
    server.refuse("gone")
    await life.until(lambda: life.known() == {"team"})
    assert await life.look("gone") is None, "what is gone is forgotten"
    server.refused.clear()
    await life.until(lambda: life.known() == set(NAMES))


async def test_where_all_refuse_the_process_ends(
    server: Server, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "REFUSED_SECONDS", 0.3)
    for each in NAMES:
        server.refuse(each)
    listed = asyncio.create_task(life.watches.listed())
    with pytest.raises(ApiError, match="403"):
        await life.until(listed.done)
    listed.cancel()


async def test_only_where_all_refuse_it_is_an_error() -> None:
    refused = {"gone"}

    async def ask(namespace: str | None) -> AsyncIterator[str | None]:
        if namespace in refused:
            raise REFUSAL
        yield namespace

    assert [each async for each in in_each(("gone", "team"), ask)] == ["team"]
    assert [each async for each in in_each((), ask)] == [None]
    refused.add("team")
    with pytest.raises(ApiError):
        _ = [each async for each in in_each(("gone", "team"), ask)]


async def test_a_sweep_passes_over_what_it_may_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, gateway = Cache(), FakeGateway(World())
    for each in NAMES:
        cache.customs.put(observed.custom(job_in(each)))
    refuse(gateway, monkeypatch)
    await Resync(cache, gateway, WorkQueue(), NAMES).sweep()
    assert [each.meta.namespace for each in cache.customs] == ["gone"]


@pytest.mark.parametrize("mode", MonitoringMode)
async def test_jobs_elsewhere_are_monitored_for_all_that(
    mode: MonitoringMode,
    http: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    process = Process(world, http, in_mode(mode, watch_namespaces=NAMES))
    refuse(process.gateway, monkeypatch)
    world.apply()
    await process.settle()
    world.start(naming.TRAINING)
    await process.settle()
    assert ready(world) == REASONS[mode]


async def test_what_another_mode_left_where_nobody_might_look_goes_when_somebody_may(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = in_mode(MonitoringMode.POD_MONITOR, watch_namespaces=NAMES)
    process = Process(World(), http, settings)

    async def looks() -> int:
        process.world.reads.clear()
        await process.keeper.attempt()
        assert process.keeper.ready, "nobody else waits for it"
        return process.world.reads.count(("list", "servicemonitors"))

    with monkeypatch.context() as patch:
        refuse(process.gateway, patch)
        assert [await looks() for _ in range(2)] == [1, 1]
    assert [await looks() for _ in range(2)] == [2, 0]


def refuse(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in one of the namespaces."""
    call = gateway._call

    async def refused(verb: str, resource: Any, method: str, path: str, **rest: Any) -> Any:
        if "/namespaces/gone/" in path:
            raise REFUSAL
        return await call(verb, resource, method, path, **rest)

    monkeypatch.setattr(gateway, "_call", refused)
