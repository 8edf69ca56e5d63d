"""Deleted, told to stop or taken back in time, at moments of which people think last."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.install import NAMESPACES
from tests.faults.scene import judged

from finetuning.controller.gateway import CUSTOMS, JOBS, PODS, ApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.scene import Raw, Site

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

GONE_SECONDS = 60.0
STOP_SECONDS = 10.0


def trains(status: Raw) -> bool:
    return status.get("phase") == "Running"


async def until(site: Site, what: str, there: Callable[[], Awaitable[bool]]) -> float:
    """Play the kubelet until it is so; the seconds that it took."""
    begun = time.monotonic()
    while not await there():
        assert time.monotonic() - begun < GONE_SECONDS, f"{what}\n{site.log.read_text()[-2000:]}"
        with contextlib.suppress(ApiError):
            await site.node.look()
        await asyncio.sleep(0.2)
    return time.monotonic() - begun


async def pods(site: Site) -> list[Raw]:
    return [raw async for raw in site.admin.items(PODS, site.namespace)]


@pytest.mark.fault(
    "Namespace deleted under a running training (real API server)",
    "nothing blocks it, nothing is made anew, no storm of refused calls",
)
async def test_a_namespace_that_is_deleted_goes(site: Site, record_property: Any) -> None:
    site.start_operator()
    site.node.ending = lambda _pod: None
    for name in ("one", "two"):
        await site.submit(name)
        await site.until("training", trains, name=name)
    before = len(site.plane.audited())
    path = NAMESPACES.path(None, site.namespace)
    await site.admin._call("delete", NAMESPACES, "DELETE", path)

    async def is_gone() -> bool:
        return await site.admin._find("get", NAMESPACES, path) is None

    took = await until(site, "the namespace goes", is_gone)
    await asyncio.sleep(5)
    calls = len(site.plane.audited()) - before
    record_property("happened", f"gone after {took:.0f} s, {calls} calls meanwhile")
    assert calls <= 10 * (took + 5)
    assert "this is a bug" not in site.log.read_text()
    assert await site.stop_operator() == 0


@pytest.mark.fault(
    "Training Job deleted by hand, before and after its end (real API server)",
    "JobDeleted; after its end nothing",
)
async def test_a_training_job_that_somebody_deletes(site: Site) -> None:
    site.start_operator()
    await site.submit("done")
    await site.until("a verdict", judged, name="done")
    site.node.ending = lambda _pod: None
    await site.submit("cut")
    await site.until("training", trains, name="cut")
    before = await site.status("done")
    for raw in await site.jobs():
        meta = raw["metadata"]
        if meta["name"].endswith("-train"):
            await site.admin.delete(JOBS, site.namespace, meta["name"], meta["uid"])
    found = await site.until("an end", lambda s: s.get("phase") == "Failed", name="cut")
    assert found["reason"] == "JobDeleted"
    await asyncio.sleep(2)
    assert await site.status("done") == before
    assert [raw["metadata"]["name"] for raw in await site.jobs()] == ["done-validate"]


@pytest.mark.fault(
    "Deleted while the operator is down (real API server)",
    "gone at once, with all that it owned, and nothing of it comes back",
)
async def test_a_job_is_deleted_while_nobody_serves_it(site: Site) -> None:
    site.start_operator()
    site.node.ending = lambda _pod: None
    await site.submit()
    await site.until("training", trains)
    # The garbage collector looks for new kinds every thirty seconds.
    await asyncio.sleep(40)
    site.kill_operator()
    assert await site.dies()
    await site.remove()
    assert await site.admin.get(CUSTOMS, site.namespace, "demo") is None

    async def nothing() -> bool:
        return not (await site.jobs() or await pods(site))

    await until(site, "all goes", nothing)
    site.start_operator()
    await site.submit("other")
    await site.until("training", trains, name="other")
    assert [raw["metadata"]["name"] for raw in await site.jobs()] == ["other-train"]


@pytest.mark.fault(
    "Operator told to stop in the middle of a look (real API server)",
    "it ends with 0 within 10 s; the next one goes on, with nothing twice",
)
@pytest.mark.parametrize("write", [1, 2, 3])
async def test_a_look_that_is_under_way_when_it_is_told_to_stop(site: Site, write: int) -> None:
    def tell(count: int) -> None:
        if count == write and site.process is not None:
            site.process.send_signal(signal.SIGTERM)

    site.proxy.after_write = tell
    site.start_operator()
    await site.submit()
    assert await site.dies(STOP_SECONDS + 20)
    assert site.process is not None
    assert site.process.returncode == 0
    site.proxy.after_write = lambda _count: None
    site.start_operator()
    await site.until("a verdict", judged)
    assert sorted(raw["metadata"]["name"] for raw in await site.jobs()) == [
        "demo-train",
        "demo-validate",
    ]
    assert site.node.most_writers == 1
