"""What keeps jobs from starting is read once for all of them."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.controller.world import FakeGateway, World

from finetuning.api.v1alpha1 import KIND
from finetuning.controller import observed
from finetuning.controller.complaints import (
    FRESH_SECONDS,
    READS_BURST,
    Complaints,
    Obstructed,
)
from finetuning.controller.gateway import ApiError

RECENT = "2099-01-01T00:00:00Z"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def complaints(world: World, clock: Clock) -> Complaints:
    return Complaints(FakeGateway(world), clock)


def waiting(uid: str, namespace: str = "team", owner: str = KIND) -> Obstructed:
    owners = [{"kind": owner, "name": "x", "uid": "u", "controller": True}]
    meta = {"name": uid, "namespace": namespace, "uid": uid, "ownerReferences": owners}
    return Obstructed(observed.meta({"metadata": meta}))


def say(world: World, uid: str, message: str, **more: Any) -> None:
    event = {
        "metadata": {"generateName": "e.", "namespace": "team"},
        "involvedObject": {"uid": uid},
        "reason": "FailedCreate",
        "message": message,
        "lastTimestamp": RECENT,
    }
    world.create("events", event | more)


async def test_a_thousand_jobs_of_a_namespace_cost_one_read(
    world: World, complaints: Complaints
) -> None:
    for number in range(1000):
        say(world, f"uid-{number}", f"quota {number}")
    asked = [complaints.about(waiting(f"uid-{number}")) for number in range(1000)]
    answers = await asyncio.gather(*asked)
    assert answers == [f"FailedCreate: quota {number}" for number in range(1000)]
    assert Counter(world.reads) == {("list", "events"): 1}


async def test_what_is_said_later_is_heard_by_whoever_asks_later(
    world: World, clock: Clock, complaints: Complaints
) -> None:
    assert await complaints.about(waiting("a")) == ""
    say(world, "a", "no room")
    clock.now += FRESH_SECONDS
    assert await complaints.about(waiting("a")) == "FailedCreate: no room"


async def test_pods_and_jobs_and_namespaces_are_asked_apart(
    world: World, complaints: Complaints
) -> None:
    for waits in (waiting("a"), waiting("b", owner="Job"), waiting("c", "other")):
        assert await complaints.about(waits) == ""
    assert len(world.reads) == 3


async def test_namespaces_beyond_the_budget_wait_and_no_place_is_kept(
    world: World, clock: Clock, complaints: Complaints
) -> None:
    many = [waiting("a", f"team-{number}") for number in range(int(READS_BURST) + 10)]
    answers = [await complaints.about(each) for each in many]
    assert answers.count(None) == 10
    clock.now += FRESH_SECONDS
    assert await complaints.about(many[-1]) == ""
    assert len(complaints._reads) == 1


async def test_who_may_not_read_events_says_where_to_look_and_does_not_ask_again_for_each(
    world: World, complaints: Complaints
) -> None:
    asked = []

    def refuse(verb: str, plural: str) -> ApiError:
        asked.append((verb, plural))
        return ApiError(403, "Forbidden", "events is forbidden")

    world.fail_with = refuse
    see = "No pod appears; see: kubectl -n team describe job a"
    assert await complaints.about(waiting("a")) == see
    assert await complaints.about(waiting("a")) == see
    assert await complaints.about(waiting("p", owner="Job")) == ""
    assert len(asked) == 2


async def test_an_error_is_no_answer(world: World, complaints: Complaints) -> None:
    world.fail_with = lambda _verb, _plural: ApiError(503, "Unavailable", "later")
    with pytest.raises(ApiError, match="later"):
        await complaints.about(waiting("a"))
    world.fail_with = lambda _verb, _plural: None
    say(world, "a", "no room")
    assert await complaints.about(waiting("a")) == "FailedCreate: no room"


async def test_other_warnings_and_old_ones_are_no_answer(
    world: World, complaints: Complaints
) -> None:
    say(world, "a", "on strike", reason="Unhealthy")
    say(world, "a", "long ago", lastTimestamp="2026-01-01T00:00:00Z")
    say(world, "a", "never", lastTimestamp="soon")
    assert await complaints.about(waiting("a")) == ""


async def test_a_clock_that_is_wrong_here_makes_no_complaint_old(
    world: World, complaints: Complaints
) -> None:
    """By the API server's clock it was said ten seconds ago, whatever the one here says."""
    said = world.now - timedelta(seconds=10)
    say(world, "a", "no room", lastTimestamp=f"{said:%FT%TZ}")
    assert await complaints.about(waiting("a")) == "FailedCreate: no room"
