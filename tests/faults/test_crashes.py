"""The operator is killed after each of its writes, in every scenario: the next one goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.faults.node import FINAL, component
from tests.faults.scene import Raw, Site, judged, over

from finetuning.controller import naming

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


async def trained(site: Site) -> Raw:
    await site.submit()
    return await site.until("a verdict", judged, restart=True)


async def paused(site: Site) -> Raw:
    site.node.ending = lambda _pod: None
    await site.submit()
    await site.until("training", lambda s: s.get("phase") == "Running", restart=True)
    await site.change(suspend=True)
    await site.until("a pause", lambda s: s.get("phase") == "Paused", restart=True)
    site.node.ending = lambda pod: (0, FINAL[component(pod)])
    await site.change(suspend=False)
    return await site.until("a verdict", judged, restart=True)


async def invalid(site: Site) -> Raw:
    site.node.ending = lambda _pod: (2, "no rows")
    await site.submit()
    return await site.until("a failure", over, restart=True)


async def crashed_once(site: Site) -> Raw:
    def ending(pod: Raw) -> tuple[int, str]:
        first = component(pod) == naming.TRAINING and len(site.node.started) == 1
        return (1, "Segmentation fault") if first else (0, FINAL[component(pod)])

    site.node.ending = ending
    await site.submit()
    return await site.until("a verdict", judged, restart=True)


async def created_again(site: Site) -> Raw:
    site.node.ending = lambda _pod: None
    await site.submit()
    await site.until("training", lambda s: s.get("phase") == "Running", restart=True)
    await site.remove()
    await site.submit()
    site.node.ending = lambda pod: (0, FINAL[component(pod)])
    return await site.until("a verdict", judged, 150, restart=True)


SCENARIOS: dict[Callable[[Site], Awaitable[Raw]], tuple[str, list[str]]] = {
    trained: ("Succeeded", ["demo-train", "demo-validate"]),
    paused: ("Succeeded", ["demo-train", "demo-validate"]),
    invalid: ("Failed", ["demo-train"]),
    crashed_once: ("Succeeded", ["demo-train", "demo-validate"]),
    created_again: ("Succeeded", ["demo-train", "demo-validate"]),
}


@pytest.mark.parametrize("write", range(1, 8))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.fault(
    "Operator killed after each of its writes, in five scenarios",
    "the next one goes on: one Job of each kind, one writer, the same end",
)
async def test_killed_after_a_write(
    site: Site, scenario: Callable[[Site], Awaitable[Raw]], write: int
) -> None:
    site.proxy.after_write = lambda count: site.kill_operator() if count == write else None
    site.start_operator()
    status = await scenario(site)
    phase, jobs = SCENARIOS[scenario]
    assert status["phase"] == phase
    assert sorted(raw["metadata"]["name"] for raw in await site.jobs()) == jobs
    assert site.node.most_writers == 1
    creates = [each for each in site.proxy.writes if each.endswith("/jobs")]
    runs = 2 if scenario is created_again else 1
    assert len(creates) == runs + (len(jobs) - 1)
    # After the last of all writes there is nothing left to start again for.
    assert site.starts == 2 or len(site.proxy.writes) < write or await site.dies()
