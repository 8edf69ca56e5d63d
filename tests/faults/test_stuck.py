"""Each way in which a stage of a job can be stuck shows in its status within 15 seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.node import FINAL, component
from tests.faults.obstacles import QUOTAS, Ban, Obstacle, Obstructing, bans
from tests.faults.scene import in_words

from finetuning.controller import naming
from finetuning.controller.gateway import CUSTOMS, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.scene import Raw, Site

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SECONDS = 15.0
STAGES = {
    naming.TRAINING: ("training", ()),
    naming.VALIDATION: ("validation", ("validation",)),
    naming.PUBLISHING: ("publishing", ("publish",)),
}
"""How people call it, and where in the status it stands."""
BEFORE = {naming.VALIDATION: naming.TRAINING, naming.PUBLISHING: naming.VALIDATION}
MINE = {"output": {"storage": {"claimName": "mine"}, "publish": {"s3": {"uri": "s3://models/x"}}}}
PUBLISH = {"output": {"publish": {"s3": {"uri": "s3://models/x", "secretName": "keys"}}}}

ON_A_NODE = (
    Obstacle(
        "no GPU is free", "Unschedulable", "amd.com/gpu",
        unscheduled="0/3 nodes: 3 Insufficient amd.com/gpu",
    ),
    Obstacle(
        "its claim is missing", "Unschedulable", "spec.output.storage.claimName",
        unscheduled='persistentvolumeclaim "mine" not found', spec=MINE,
    ),
    Obstacle(
        "its image cannot be pulled", "ImagePullFailed", "chart",
        waiting=("ImagePullBackOff", "not found"),
    ),
    Obstacle(
        "its Secret is missing", "ContainerConfigError", "keys",
        waiting=("CreateContainerConfigError", 'secret "keys" not found'),
    ),
    Obstacle(
        "its ConfigMap lacks the key", "ContainerConfigError", "train.jsonl",
        event="references non-existent config key: train.jsonl",
    ),
)  # fmt: skip


def told(status: Raw, stage: str) -> tuple[str, str]:
    """Reason and words of a stage; the line of `kubectl get ftj -o wide` has the words too."""
    found = status
    for name in STAGES[stage][1]:
        found = found.get(name) or {}
    words = found.get("message") or found.get("summary") or ""
    return found.get("reason", ""), words


async def shows(site: Site, stage: str, wanted: dict[str, tuple[str, str]]) -> dict[str, float]:
    """When each job's status had reason and words, on the monotonic clock."""
    seen: dict[str, float] = {}
    last: dict[str, Raw] = {}
    end = time.monotonic() + 60
    while len(seen) < len(wanted):
        with contextlib.suppress(ApiError):
            await site.node.look()
            last = await statuses(site)
        for name, (reason, words) in wanted.items():
            found = told(last.get(name, {}), stage)
            line = last.get(name, {}).get("message", "")
            if found[0] == reason and words in found[1] and words in line:
                seen.setdefault(name, time.monotonic())
        assert time.monotonic() < end, {
            name: (told(last.get(name, {}), stage), last.get(name, {}).get("message"), wanted[name])
            for name in wanted
            if name not in seen
        }
        await asyncio.sleep(0.2)
    return seen


async def statuses(site: Site) -> dict[str, Raw]:
    found = [raw async for raw in site.admin.items(CUSTOMS, site.namespace)]
    return {raw["metadata"]["name"]: raw.get("status") or {} for raw in found}


async def pods_that_wait(site: Site, stage: str) -> dict[str, float]:
    node = site.node = Obstructing(site.admin, site.namespace, stage)
    for number, each in enumerate(ON_A_NODE):
        node.obstacles[f"node-{number}"] = each
        await site.submit(f"node-{number}", **(PUBLISH | each.spec))
    wanted = {name: (each.reason, each.words) for name, each in node.obstacles.items()}
    seen = await shows(site, stage, wanted)
    for name in wanted:
        await site.remove(name)
    return {node.obstacles[name].title: seen[name] - node.told[name] for name in wanted}


async def no_pod(site: Site, stage: str, ban: Ban, number: int) -> float:
    """The stage before it waits until nothing more is allowed."""
    name, before = f"banned-{number}", BEFORE.get(stage)
    site.node.ending = ending(before)
    if before is not None:
        await site.submit(name, **PUBLISH)
        await site.until(f"{before} runs", runs(before), name=name)
    await ban.begin(site.admin, site.namespace)
    await asyncio.sleep(2)  # The admission's own caches.
    if before is None:
        await site.submit(name, **PUBLISH)
    site.node.ending = ending(None)
    begun = time.monotonic()
    seen = await shows(site, stage, {name: ("PodsForbidden", ban.words)})
    await site.remove(name)
    await ban.end(site.admin, site.namespace)
    return seen[name] - begun


def ending(held: str | None) -> Callable[[Raw], tuple[int, str] | None]:
    return lambda pod: None if component(pod) == held else (0, FINAL[component(pod)])


def runs(stage: str) -> Callable[[Raw], bool]:
    if stage == naming.TRAINING:
        return lambda status: status.get("phase") == "Running"
    return lambda status: (status.get("validation") or {}).get("phase") == "Running"


@pytest.mark.fault(
    "A quota, LimitRange, policy, missing GPU, claim, Secret, key or image stops a stage",
    "the reason shows within 15 s of being known",
)
@pytest.mark.parametrize("stage", STAGES)
async def test_every_obstacle_shows_in_time(site: Site, stage: str, record_property: Any) -> None:
    site.start_operator()
    await site.submit("first")
    await site.until("the operator", lambda status: bool(status.get("phase")), name="first")
    await site.remove("first")
    took = await pods_that_wait(site, stage)
    site.node = Obstructing(site.admin, site.namespace, stage)
    for number, ban in enumerate(bans(site.namespace)):
        took[ban.title] = await no_pod(site, stage, ban, number)
    record_property("happened", f"{STAGES[stage][0]}: {in_words(took)}")
    assert {title: each for title, each in took.items() if each > SECONDS} == {}


async def test_a_group_without_room_for_all_says_why_it_waits(site: Site) -> None:
    site.start_operator()
    await site.submit("first", suspend=True)  # Its start is no part of what is measured.
    await site.until("the operator", lambda status: bool(status.get("phase")), name="first")
    meta = {"name": "limit", "namespace": site.namespace}
    one = Ban("", "", ((QUOTAS, {"metadata": meta, "spec": {"hard": {"pods": "1"}}}),))
    await one.begin(site.admin, site.namespace)
    await asyncio.sleep(2)  # The admission's own caches.
    site.node.ending = ending(naming.TRAINING)
    begun = time.monotonic()
    await site.submit("pair", workers=2)
    wanted = {"pair": ("PodsForbidden", "exceeded quota")}
    seconds = (await shows(site, naming.TRAINING, wanted))["pair"] - begun
    assert len(site.node.started) == 1
    await one.end(site.admin, site.namespace)
    await site.until("both train", runs(naming.TRAINING), name="pair")
    assert len(site.node.started) == 2
    assert seconds <= SECONDS
