"""Two operators on one real API server: one leads, is frozen, killed or stopped; or both work."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.install import OPERATOR, RELEASE
from tests.faults.proxy import Fault
from tests.faults.scene import Site, in_words, judged

from finetuning.controller.election import LEASE_SECONDS, RENEW_DEADLINE_SECONDS
from finetuning.controller.gateway import LEASES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.scene import Raw

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

AFTER_A_KILL, AFTER_A_STOP = 20.0, 3.0
SOON = """
import runpy
from finetuning.controller import watching
watching.DEAF_SECONDS = 5.0
runpy.run_module("finetuning.controller", run_name="__main__")
"""
"""An operator whose five minutes are seconds."""
HEARS = r"/(finetuningjobs|jobs|pods)\?"


@pytest.fixture
async def other(site: Site) -> AsyncIterator[Site]:
    """A second replica for the same namespace, behind a proxy of its own."""
    found = Site(site.plane, site.admin, site.namespace)
    await found.proxy.start()
    yield found
    await found.close()


def begun(status: Raw) -> bool:
    return bool(status.get("phase"))


async def lead(first: Site, second: Site) -> None:
    """The first leads, and the second knows every job as well."""
    lease = await first.admin.get(LEASES, RELEASE, OPERATOR)
    if lease is not None:
        await first.admin.delete(LEASES, RELEASE, OPERATOR, lease["metadata"]["uid"])
    first.start_operator(LEADER_ELECTION="true")
    await first.submit("first")
    await first.until("who leads", begun, name="first")
    second.start_operator(LEADER_ELECTION="true")
    end = time.monotonic() + 60
    while second.log.read_text().count("jobs known") < 2:  # Both write into one log.
        await asyncio.sleep(0.2)
        assert time.monotonic() < end, second.log.read_text()[-2000:]


async def follows(site: Site, name: str) -> float:
    """Seconds until a new job is seen by whoever leads now."""
    since = time.monotonic()
    await site.submit(name)
    await site.until(f"{name} is seen", begun, name=name)
    return time.monotonic() - since


@pytest.mark.fault(
    "Leader frozen, killed, told to stop (two processes)",
    "another leads after 20 s, 20 s, 3 s at most; the frozen one wakes up, writes nothing and ends",
)
@pytest.mark.parametrize("how", ["frozen", "killed", "told to stop"])
async def test_another_leads(site: Site, other: Site, how: str, record_property: Any) -> None:
    await lead(site, other)
    process = site.process
    assert process is not None
    if how == "told to stop":
        process.send_signal(signal.SIGTERM)
    else:
        process.send_signal(signal.SIGSTOP if how == "frozen" else signal.SIGKILL)
    took = await follows(site, "second")
    assert took <= (AFTER_A_STOP if how == "told to stop" else AFTER_A_KILL)
    record_property("happened", in_words({how: took}))
    if how == "frozen":
        before = len(site.proxy.writes)
        process.send_signal(signal.SIGCONT)
        assert await site.dies(RENEW_DEADLINE_SECONDS + LEASE_SECONDS)
        assert process.returncode != 0
        assert not site.proxy.writes[before:]
    for name in ("first", "second"):
        await site.until(f"{name} is judged", judged, name=name)
    assert made(site, other) == 4
    assert site.node.most_writers == 1
    assert await other.stop_operator() == 0


@pytest.mark.fault(
    "Leader told to stop while it renews its Lease, which was done (two processes)",
    "another leads after 3 s at most",
)
async def test_another_leads_at_once_where_a_renewal_is_cut_short(
    site: Site, other: Site, record_property: Any
) -> None:
    await lead(site, other)
    site.proxy.faults = [renewal := Fault("late answer", "PATCH", "/leases/")]
    before, end = len(site.proxy.writes), time.monotonic() + 10
    # Then it is done, and its answer comes later.
    while not (renewal.happened and any("/leases/" in w for w in site.proxy.writes[before:])):
        await asyncio.sleep(0.05)
        assert time.monotonic() < end
    assert site.process is not None
    site.process.send_signal(signal.SIGTERM)
    took = await follows(site, "second")
    record_property("happened", in_words({"told to stop": took}))
    assert took <= AFTER_A_STOP
    assert await other.stop_operator() == 0


@pytest.mark.fault(
    "Leader that gets 503 for each list and watch, while its Lease is renewed (two processes)",
    "after five minutes it ends, and the other leads",
)
async def test_a_leader_that_hears_nothing_ends(
    site: Site, other: Site, record_property: Any
) -> None:
    site.program = ["-c", SOON]
    await lead(site, other)
    site.proxy.faults = [Fault("503", "GET", HEARS, times=1_000_000)]
    site.proxy.cut_watches()
    begun_at = time.monotonic()
    took = await follows(site, "second")
    record_property("happened", in_words({"with five seconds in place of minutes": took}))
    assert await site.dies(5)
    assert site.process is not None
    assert site.process.returncode == 1
    assert time.monotonic() - begun_at < 60
    await site.until("second is judged", judged, name="second")
    assert await other.stop_operator() == 0


@pytest.mark.fault(
    "Two operators work at once, no Lease (two processes)",
    "no child twice, one end and one verdict each",
)
async def test_two_that_work_at_once(site: Site, other: Site, record_property: Any) -> None:
    site.start_operator()
    other.start_operator()
    names = [f"job-{number}" for number in range(8)]
    for name in names:
        await site.submit(name)
    for name in names:
        await site.until(f"{name} is judged", judged, name=name)
    assert made(site, other) == 2 * len(names)
    assert site.node.most_writers == 1
    writes = sum(each.endswith("/status") for each in site.proxy.writes + other.proxy.writes)
    record_property("happened", f"{len(names)} jobs, {writes} statuses written")
    assert site.process_is_gone() == other.process_is_gone() is False


def made(*sites: Site) -> int:
    """Jobs that were made by any of them."""
    return sum(each.endswith("/jobs") for site in sites for each in site.proxy.writes)
