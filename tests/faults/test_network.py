"""What the way to the API server does: refusals, lost answers, broken watches, an outage."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.faults.proxy import Fault
from tests.faults.scene import Site, in_words, judged

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

STATUS, JOBS = "finetuningjobs/.*/status", r"/jobs\?"
REQUESTS = {
    "429 with Retry-After": Fault("429", "POST", JOBS, times=2),
    "500": Fault("500", "POST", JOBS, times=2),
    "503 on the status": Fault("503", "PATCH", STATUS, times=2),
    "504": Fault("504", "POST", "persistentvolumeclaims"),
    "connection reset": Fault("reset", "POST", JOBS),
    "answer lost after a create": Fault("lost answer", "POST", JOBS),
    "answer lost after a status": Fault("lost answer", "PATCH", STATUS, times=2),
    "409 on the status": Fault("409", "PATCH", STATUS),
    "five seconds of latency": Fault("slow", "POST", JOBS),
}


def creates(site: Site, name: str) -> int:
    return sum(1 for each in site.proxy.writes if each.endswith("/jobs"))


@pytest.mark.fault(
    "429, 500, 503, 504, 409, reset, lost answer, latency",
    "tried again with back-off; nothing twice, nothing lost",
)
async def test_requests_that_go_wrong_double_nothing_and_lose_nothing(
    site: Site, record_property: Any
) -> None:
    site.start_operator()
    took = {}
    for number, (title, fault) in enumerate(REQUESTS.items()):
        name = f"job-{number}"
        site.proxy.faults = [fault]
        site.proxy.writes.clear()
        begun = time.monotonic()
        await site.submit(name)
        await site.until(title, judged, 120, name=name)
        took[title] = round(time.monotonic() - begun, 1)
        assert fault.happened == fault.times, title
        assert creates(site, name) == 2, title
    record_property("happened", "verdict after " + in_words(took))
    assert site.node.most_writers == 1
    assert site.starts == 1
    assert await site.stop_operator() == 0


@pytest.mark.parametrize("how", ["cut", "half line", "told twice"])
@pytest.mark.fault(
    "Watch cut, cut in the middle of a line, events twice",
    "watched anew; nothing twice",
)
async def test_a_watch_that_breaks_off_or_repeats_itself(site: Site, how: str) -> None:
    site.proxy.told_twice = how == "told twice"
    if how == "half line":
        site.proxy.faults = [Fault("half line", "GET", "watch", times=6)]
    site.start_operator()
    await site.submit()
    if how == "cut":
        await site.until("training", lambda s: s.get("phase") == "Running", restart=True)
        site.proxy.cut_watches()
    await site.until("a verdict", judged, 120, restart=True)
    assert creates(site, "demo") == 2


@pytest.mark.fault(
    "API server killed for ten seconds",
    "training untouched; caught up within 60 s",
)
async def test_an_api_server_that_is_gone_for_ten_seconds(site: Site) -> None:
    site.start_operator()
    site.node.ending = lambda _pod: None
    await site.submit()
    await site.until("training", lambda s: s.get("phase") == "Running")
    site.plane.kill_api()
    await asyncio.sleep(10)
    await asyncio.to_thread(site.plane.start_api)
    back = time.monotonic()
    site.node = type(site.node)(site.admin, site.namespace)
    await site.until("a verdict", judged, 90, restart=True)
    assert time.monotonic() - back < 60
    assert creates(site, "demo") == 2
