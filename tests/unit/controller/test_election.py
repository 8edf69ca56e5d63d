"""One Lease, several candidates, on the API server in memory: each with a clock of its own."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.controller.world import FakeGateway, World

from finetuning.controller import election
from finetuning.controller.election import Election, LostError, Term, claim, read
from finetuning.controller.gateway import ApiError

LEASE = ("leases", "finetuning-system", "finetuning-operator")
NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second becomes a hundredth."""
    for name in ("POLL_SECONDS", "RENEW_SECONDS", "RENEW_DEADLINE_SECONDS", "CALL_SECONDS"):
        monkeypatch.setattr(election, name, getattr(election, name) / 100)


def candidate(world: World, me: str) -> Election:
    return Election(FakeGateway(world), *LEASE[1:], me)


def spec(world: World) -> dict[str, Any]:
    return dict(world.objects[LEASE]["spec"])


def term(**changes: Any) -> Term:
    facts: dict[str, Any] = {
        "holder": "a",
        "seconds": 15.0,
        "transitions": 3,
        "version": "7",
        "seen": 100.0,
    }
    return Term(**(facts | changes))


@pytest.mark.parametrize(
    ("found", "now", "free"),
    [
        (term(), 100.0, False),
        (term(), 115.0, False),
        (term(), 115.1, True),
        (term(holder=""), 100.0, True),
        (term(holder="me"), 100.0, True),
        (term(seconds=60.0), 120.0, False),
    ],
)
def test_a_lease_is_free_when_released_ours_or_silent_for_a_term(
    found: Term, now: float, *, free: bool
) -> None:
    assert found.free("me", now) is free


@pytest.mark.fault("Clocks of two replicas apart", "a lease ages by the own monotonic clock")
def test_the_age_of_a_lease_is_what_this_process_saw_not_what_it_says() -> None:
    raw = {"metadata": {"resourceVersion": "7"}, "spec": {"holderIdentity": "a"}}
    first = read(raw, None, 100.0)
    assert read(raw, first, 110.0).seen == 100.0
    raw["metadata"]["resourceVersion"] = "8"
    assert read(raw, first, 110.0).seen == 110.0


def test_taking_counts_a_transition_and_keeping_does_not() -> None:
    taken = claim(term(), "me", NOW)
    assert taken["leaseTransitions"] == 4
    assert taken["acquireTime"] == taken["renewTime"] == "2026-01-02T03:04:05.000678Z"
    assert not {"leaseTransitions", "acquireTime"} & claim(term(), "a", NOW).keys()


async def test_the_first_makes_the_lease_and_the_second_waits_for_its_release(
    world: World,
) -> None:
    first, second = candidate(world, "first"), candidate(world, "second")
    await first.win()
    waiting = asyncio.create_task(second.win())
    await asyncio.sleep(0.05)
    assert (spec(world)["holderIdentity"], waiting.done()) == ("first", False)
    await first.release()
    await asyncio.wait_for(waiting, 5)
    assert (spec(world)["holderIdentity"], spec(world)["leaseTransitions"]) == ("second", 1)


@pytest.mark.fault("Leader frozen", "another leads after its term")
async def test_a_silent_holder_is_followed_after_its_term(world: World) -> None:
    await candidate(world, "first").win()
    world.patch(LEASE, {"spec": {"leaseDurationSeconds": 0.1}})
    second = candidate(world, "second")
    assert not await second._take()
    await asyncio.wait_for(second.win(), 5)
    assert spec(world)["holderIdentity"] == "second"


async def test_a_container_that_comes_back_goes_on_at_once(world: World) -> None:
    await candidate(world, "first").win()
    assert await candidate(world, "first")._take()
    assert spec(world)["leaseTransitions"] == 0


async def test_a_holder_renews_with_one_write_and_no_read(world: World) -> None:
    first = candidate(world, "first")
    await first.win()
    keeping = asyncio.create_task(first.keep())
    world.writes.clear()
    world.reads.clear()
    await asyncio.sleep(0.2)
    keeping.cancel()
    assert len(world.writes) >= 2
    assert world.reads == []


@pytest.mark.fault("Leader that wakes up when another leads", "stops")
async def test_a_holder_stops_when_another_has_the_lease(world: World) -> None:
    first = candidate(world, "first")
    await first.win()
    world.patch(LEASE, {"spec": {"holderIdentity": "second"}})
    with pytest.raises(LostError, match="was taken by another operator"):
        await asyncio.wait_for(first.keep(), 5)
    await first.release()
    assert spec(world)["holderIdentity"] == "second"


async def test_nobody_gives_back_what_another_has_taken_meanwhile(world: World) -> None:
    first = candidate(world, "first")
    await first.win()
    world.patch(LEASE, {"spec": {"holderIdentity": "second"}})
    await first.release()
    assert spec(world)["holderIdentity"] == "second"


async def test_a_holder_makes_a_deleted_lease_again(world: World) -> None:
    first = candidate(world, "first")
    await first.win()
    del world.objects[LEASE]
    assert await first._tried(first._renew())
    assert spec(world)["holderIdentity"] == "first"


async def test_a_holder_stops_when_the_api_server_is_silent_for_too_long(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    first = candidate(world, "first")
    await first.win()
    world.fail_with = lambda _verb, _plural: ApiError(0, "Unreachable", "no route")
    with pytest.raises(LostError, match="could not be renewed in time"):
        await asyncio.wait_for(first.keep(), 5)
    assert caplog.text.count("no route") == 1


async def test_a_holder_that_ends_while_it_renews_leaves_the_lease_to_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written then is a version that it has never seen."""
    first = candidate(world, "first")
    await first.win()
    written = asyncio.Event()
    patch = FakeGateway.patch

    async def unanswered(*given: Any) -> Any:
        await patch(*given)
        written.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(FakeGateway, "patch", unanswered)
    keeping = asyncio.create_task(first.keep())
    await asyncio.wait_for(written.wait(), 5)
    keeping.cancel()
    await asyncio.wait([keeping])
    monkeypatch.setattr(FakeGateway, "patch", patch)
    await first.release()
    assert spec(world)["holderIdentity"] == ""


@pytest.mark.fault("Call of the leader that hangs", "stops at its deadline")
async def test_a_call_that_hangs_does_not_outlive_the_deadline(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = candidate(world, "first")
    await first.win()

    async def hang(*_: Any) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(FakeGateway, "patch", hang)
    with pytest.raises(LostError, match="could not be renewed in time"):
        await asyncio.wait_for(first.keep(), 5)


async def test_of_two_that_see_a_free_lease_one_gets_it(world: World) -> None:
    both = [candidate(world, "first"), candidate(world, "second")]
    assert sorted([await each._create() for each in both]) == [False, True]
    world.patch(LEASE, {"spec": {"holderIdentity": ""}})
    raw = world.objects[LEASE]
    for each in both:
        each._term = read(raw, None, 0.0)
    won = [await each._write({"holderIdentity": each._me}) for each in both]
    assert won == [True, False]


async def test_the_deployment_owns_the_lease(world: World) -> None:
    await candidate(world, "first").win()
    assert world.objects[LEASE]["metadata"]["ownerReferences"] == []
    del world.objects[LEASE]
    _, namespace, name = LEASE
    made = world.create("deployments", {"metadata": {"namespace": namespace, "name": name}})
    await candidate(world, "first").win()
    (owner,) = world.objects[LEASE]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Deployment", made["metadata"]["uid"])
