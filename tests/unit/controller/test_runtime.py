import asyncio
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.ports import free_port
from tests.unit.controller.objects import SETTINGS
from tests.unit.controller.test_gateway import config
from tests.unit.controller.world import KEY, FakeGateway, World

from finetuning.controller import endpoints, runtime
from finetuning.controller.cache import Cache
from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import ApiError
from finetuning.controller.metrics import OperatorMetrics
from finetuning.controller.monitoring_mode import ModeKeeper
from finetuning.controller.runtime import NotInstalledError, Operator
from finetuning.controller.watching import Look
from finetuning.monitoring.operator_catalog import WORKQUEUE_DEPTH


def looks(answer: float | Exception | None) -> Look:
    async def look(_: tuple[str, str]) -> float | None:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return look


@pytest.fixture
async def operator() -> Operator:
    cache = Cache()
    return Operator(SETTINGS, cache, OperatorMetrics(cache, SETTINGS))


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (None, "ok"),
        (3600.0, "ok"),
        (ApiError(503, "Unavailable", "later"), "retry"),
        (RetryLaterError("not yet"), "retry"),
        (KeyError("a bug"), "error"),
    ],
)
async def test_no_look_ends_a_worker_and_every_failure_comes_back(
    operator: Operator, answer: float | Exception | None, outcome: str
) -> None:
    assert await operator._attempt(KEY, looks(answer)) == outcome
    assert (KEY in operator._queue._timers) is (answer is not None)
    operator._queue.close()


async def test_a_success_starts_the_delays_over(operator: Operator) -> None:
    for _ in range(10):
        await operator._attempt(KEY, looks(RetryLaterError("not yet")))
    await operator._attempt(KEY, looks(None))
    assert operator._queue._failures == {}
    operator._queue.close()


@pytest.mark.parametrize(("seconds", "looks_at_once"), [(0.0, 1), (5.0, 0)])
async def test_what_failed_while_nobody_answered_is_tried_when_somebody_does(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, seconds: float, looks_at_once: int
) -> None:
    monkeypatch.setattr(runtime, "AWAY_SECONDS", seconds)
    for code in (0, 503):
        for _ in range(10):
            await operator._attempt(KEY, looks(ApiError(code, "Unavailable", "later")))
            operator.requested("create", "jobs", code, 0.1)
    assert operator._queue.depth == 0
    operator.requested("watch", "pods", 200, 0.1)
    assert operator._queue.depth == looks_at_once
    operator._queue.close()


async def test_jobs_wait_for_a_look_only_where_one_leads(operator: Operator) -> None:
    registry, depths = operator._metrics.registry, list[float | None]()
    for number in range(20):
        operator._queue.add(("team", f"job-{number}"))

    async def look(_: tuple[str, str]) -> None:
        depths.append(registry.get_sample_value(WORKQUEUE_DEPTH.name))
        if len(depths) == 20:
            operator._queue.close()

    assert registry.get_sample_value(WORKQUEUE_DEPTH.name) == 0
    keeper = ModeKeeper(FakeGateway(World()), SETTINGS, lambda _: None)
    await asyncio.wait_for(operator._lead(keeper, look), 20)
    assert depths[0] == 19
    assert depths[-1] == 0


async def test_jobs_that_need_nothing_leave_time_for_everything_else(operator: Operator) -> None:
    """The Lease is renewed and probes are answered in between, however many there are."""
    for number in range(100):
        operator._queue.add(("team", f"job-{number}"))
    left = list[int]()

    async def other() -> None:
        while depth := operator._queue.depth:
            left.append(depth)
            await asyncio.sleep(0)
        operator._queue.close()

    work = asyncio.gather(operator._workers(looks(None)), other())
    await asyncio.wait_for(work, 20)
    assert len(left) >= 10
    assert left == sorted(left, reverse=True)


async def test_the_process_is_alive_before_it_is_ready() -> None:
    ready = False
    runner = await endpoints.serve(0, OperatorMetrics(Cache(), SETTINGS).registry, lambda: ready)
    port = next(address[1] for address in runner.addresses if address[0] == "0.0.0.0")  # noqa: S104
    base = f"http://127.0.0.1:{port}"

    async def code(path: str) -> int:
        async with aiohttp.ClientSession() as http, http.get(base + path) as response:
            return response.status

    assert (await code("/livez"), await code("/readyz")) == (200, 503)
    ready = True
    assert (await code("/readyz"), await code("/metrics"), await code("/other")) == (200, 200, 404)
    await runner.cleanup()


@pytest.mark.fault(
    "API server away while the operator begins",
    "it waits and answers probes, so that kubelet need not start it again later and later",
)
async def test_an_api_server_that_is_away_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime, "CRD_WAIT_SECONDS", 0.1)
    own, api = free_port(), free_port()
    (kubeconfig := tmp_path / "config").write_text(config(api))
    settings = SETTINGS.model_copy(update={"http_port": own})
    process = asyncio.create_task(runtime._serve(settings, str(kubeconfig)))
    async with asyncio.timeout(20), aiohttp.ClientSession() as http:
        while "waiting for the API server" not in caplog.text:  # noqa: ASYNC110 - a log
            await asyncio.sleep(0.05)
        for path, code in (("livez", 200), ("readyz", 503)):
            async with http.get(f"http://127.0.0.1:{own}/{path}") as response:
                assert response.status == code
        assert not process.done()
        runner = web.AppRunner(web.Application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", api).start()
        with pytest.raises(NotInstalledError, match="does not serve finetuningjobs"):
            await process
    await runner.cleanup()


async def test_the_metrics_are_compressed_for_a_client_that_asks() -> None:
    metrics = OperatorMetrics(Cache(), SETTINGS)
    metrics.leads()
    runner = await endpoints.serve(0, metrics.registry, lambda: True)
    port = next(address[1] for address in runner.addresses if address[0] == "0.0.0.0")  # noqa: S104
    url = f"http://127.0.0.1:{port}/metrics"
    async with aiohttp.ClientSession() as http:
        for wish, encoding in (("gzip", "gzip"), ("identity", None)):
            async with http.get(url, headers={"Accept-Encoding": wish}) as response:
                assert response.headers.get("Content-Encoding") == encoding
                assert response.content_type == "text/plain"
                assert "finetuning_operator_watched_jobs 0.0" in await response.text()
        async with http.get(url, params={"name[]": WORKQUEUE_DEPTH.name}) as response:
            text = await response.text()
    assert f"{WORKQUEUE_DEPTH.name} 0.0" in text
    assert "watched_jobs" not in text, "who asks for one series is told no other"
    await runner.cleanup()


async def test_a_port_in_use_is_one_message_with_the_remedy() -> None:
    registry = OperatorMetrics(Cache(), SETTINGS).registry
    first = await endpoints.serve(0, registry, lambda: True)
    port = next(address[1] for address in first.addresses if address[0] == "0.0.0.0")  # noqa: S104
    with pytest.raises(OSError, match=f"port {port} cannot be used: .*; choose another"):
        await endpoints.serve(port, registry, lambda: True)
    await first.cleanup()


async def test_a_stop_that_is_asked_for_twice_at_once_is_one(operator: Operator) -> None:
    """As a signal does: kopf stops the operator, and the end of its work does so again."""
    for _ in range(5):
        server = await endpoints.serve(0, OperatorMetrics(Cache(), SETTINGS).registry, lambda: True)
        stops = (operator._stop(server), operator._stop(server))
        assert set(await asyncio.gather(*stops, return_exceptions=True)) == {None}
