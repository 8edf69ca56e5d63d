"""A pause after the training takes the Pod of the stage that follows, with real controllers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from tests.faults.node import FINAL, component
from tests.faults.scene import judged

from finetuning.controller import naming
from finetuning.controller.gateway import PODS

if TYPE_CHECKING:
    from tests.faults.scene import Raw, Site

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

PUBLISH: Raw = {"output": {"publish": {"s3": {"uri": "s3://models/x"}}}}
PARTS = {naming.VALIDATION: "validation", naming.PUBLISHING: "publish"}


def published(status: Raw) -> bool:
    return bool((status.get("publish") or {}).get("phase") == "Published")


async def pods(site: Site, stage: str) -> list[Raw]:
    found = [pod async for pod in site.admin.items(PODS, site.namespace)]
    return [pod for pod in found if component(pod) == stage]


@pytest.mark.fault(
    "Paused while its model is judged or published (real API server)",
    "its pod goes, nothing comes while it is paused; then one other pod, and the same end",
)
@pytest.mark.parametrize("stage", PARTS)
async def test_a_pause_frees_what_the_stage_holds(site: Site, stage: str) -> None:
    site.start_operator()
    site.node.ending = lambda pod: None if component(pod) == stage else (0, FINAL[component(pod)])
    await site.submit(**PUBLISH)
    end = time.monotonic() + 60
    while not await pods(site, stage):
        await site.until("a status", bool)
        assert time.monotonic() < end
    await site.change(suspend=True)

    def paused(status: Raw) -> bool:
        return bool((status.get(PARTS[stage]) or {}).get("reason") == "Suspended")

    await site.until("a pause", paused)
    await asyncio.sleep(2)
    await site.until("still a pause", paused)
    assert [
        pod for pod in await pods(site, stage) if not pod["metadata"].get("deletionTimestamp")
    ] == []
    site.node.ending = lambda pod: (0, FINAL[component(pod)])
    await site.change(suspend=False)
    await site.until("the verdict", judged)
    await site.until("the copies", published)
    assert sum(f"-{PARTS[stage][:6]}" in name for name in site.node.started) == 2
