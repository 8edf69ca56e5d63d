"""GPU time and energy of a job: counted once, over pauses, crashes and restarts of the operator."""

from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.controller.objects import ended, pod, running, trainer_says
from tests.unit.controller.story import FINAL, STORY, tell
from tests.unit.controller.world import KEY, Process, World

from finetuning.api.v1alpha1 import Usage
from finetuning.artifacts.models import TrainingState
from finetuning.controller import naming, observed, usage
from finetuning.controller.observed import Pod
from finetuning.controller.usage import Reading

TEN = datetime(2026, 1, 1, 10, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return TEN + timedelta(seconds=seconds)


def trained(begin: int, end: int | None, message: str = "", name: str = "x") -> Pod:
    """A training pod of that time, which still runs where it has no end."""
    times = {"startedAt": f"{at(begin):%FT%TZ}"}
    if end is None:
        return pod({"running": times}, name=name, phase="Running")
    times |= {"finishedAt": f"{at(end):%FT%TZ}"}
    state = {"terminated": {"exitCode": 1, "message": message, **times}}
    return pod(state, name=name, phase="Failed")


attempts = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 500)), min_size=1, max_size=4)
looks = st.lists(st.integers(0, 2500), max_size=12)


@given(attempts, looks)
def test_however_often_and_whenever_one_looks_the_sum_is_the_same(
    waits_and_lengths: list[tuple[int, int]], when: list[int]
) -> None:
    spans, begin = [], 0
    for wait, length in waits_and_lengths:
        spans.append((begin + wait, begin + wait + length))
        begin = spans[-1][1]
    used = None
    for now in (*sorted(when), 3000):
        pods = [
            trained(first, last if last <= now else None, name=f"pod-{first}")
            for first, last in spans
            if first <= now
        ]
        used = usage.counted(used, pods, 8, None, at(now))
    assert used is not None
    assert used.gpu_seconds == 8 * sum(last - first for first, last in spans)


def test_what_is_not_known_is_not_counted() -> None:
    assert usage.counted(None, [], 8, None, TEN) is None
    assert usage.counted(None, [pod()], 8, None, TEN) is None
    assert usage.counted(None, [trained(0, 9)], None, None, at(9)) is None
    lost = pod(running(), phase="Failed")
    assert usage.counted(None, [lost], 1, None, at(60)) is None
    before = Usage(gpu_seconds=40, counted_until=at(40))
    assert usage.counted(before, [lost], 1, None, at(60)) == before


def test_the_energy_of_each_pod_is_counted_once() -> None:
    used, sums = None, list[float]()
    for name, joules in (("a", 5.0), ("a", 5.0), ("a", 9.25), ("b", 1.0), ("b", 0.5), ("b", 3.0)):
        used = usage.counted(used, [], 1, Reading(name, joules), TEN)
        assert used is not None
        assert used.energy_joules is not None
        sums.append(used.energy_joules)
    assert sums == sorted(sums)
    assert sums[-1] == pytest.approx(9.25 + 3.0, abs=0.6)


@pytest.mark.parametrize(
    ("says", "live", "expected"),
    [
        ({"energyJoules": 7.5}, None, 7.5),
        ({}, 6.0, 6.0),
        ({"energyJoules": 7.5}, 6.0, 7.5),
        ({"energyJoules": 5.0}, 6.0, 6.0),
        ({}, None, None),
    ],
)
def test_the_last_words_or_the_live_state_tell_the_energy(
    says: dict[str, Any], live: float | None, expected: float | None
) -> None:
    state = TrainingState(updated_at=1, energy_joules=live)
    older = trained(0, 9, trainer_says(energyJoules=99.0), "older")
    newest = trained(10, 19, trainer_says(**says), "newest")
    found = usage.reading((newest, older), state, newest.meta.uid)
    assert (found.joules if found else None) == expected
    assert usage.reading((newest, older), state, "uid-of-none") == (
        Reading(newest.meta.uid, says["energyJoules"]) if "energyJoules" in says else None
    )


@pytest.mark.parametrize(
    ("spec", "of_pod", "of_job"),
    [
        ({}, 1, 1),
        ({"workers": 4}, 1, 4),
        ({"workers": 2, "resources": {"limits": {"amd.com/gpu": "8"}}}, 8, 16),
        ({"workers": 2, "resources": {"limits": {"amd.com/gpu": "500m"}}}, None, None),
    ],
)
def test_the_gpus_of_a_job_are_those_of_all_its_pods(
    spec: dict[str, Any], of_pod: int | None, of_job: int | None
) -> None:
    found = (usage.gpus_of_pod(spec, "amd.com/gpu"), usage.gpus_of_job(spec, "amd.com/gpu"))
    assert found == (of_pod, of_job)


@pytest.fixture
def clock(world: World) -> World:
    """It tells the time, whatever the clock of this machine says."""
    world.now = TEN
    return world


def used(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.status["usage"]
    return found


async def test_a_pause_and_a_restart_of_the_operator_lose_and_invent_nothing(
    world: World, process: Process, http: aiohttp.ClientSession, clock: World
) -> None:
    await tell(world, process, STORY[:3])  # It trains from 10:00:00 on.
    assert used(world)["gpuSeconds"] == 0
    clock.now = at(200)
    world.change(suspend=True)
    await process.settle()
    assert used(world)["gpuSeconds"] == 200  # Saving is said, and this goes along.
    saved = trainer_says(result="paused", step=40, totalSteps=100, energyJoules=1000.0)
    world.set_pods(naming.TRAINING, "Running", ended(143, saved))  # At 10:05:00.
    clock.now = at(302)
    await process.settle()
    assert (world.status["phase"], used(world)["gpuSeconds"]) == ("Paused", 300)
    assert used(world)["energyJoules"] == 1000

    world.run_jobs()  # The pod goes,
    clock.now = at(5000)
    again = Process(world, http)  # and the operator is another one.
    await again.settle()
    world.change(suspend=False)
    await again.settle()
    world.run_jobs()
    started = {"running": {"startedAt": f"{at(6000):%FT%TZ}"}}
    world.set_pods(naming.TRAINING, "Running", started)
    clock.now = at(6040)
    await again.settle()
    assert used(world)["gpuSeconds"] == 340
    state = ended(0, trainer_says(step=100, totalSteps=100, loss=0.5, energyJoules=500.0))
    state["terminated"] |= {
        "startedAt": f"{at(6000):%FT%TZ}",
        "finishedAt": f"{at(6100):%FT%TZ}",
    }
    world.set_pods(naming.TRAINING, "Succeeded", state)
    world.end_job("demo-train", "Complete")
    clock.now = at(6107)
    await again.settle()
    assert (world.status["phase"], used(world)["gpuSeconds"]) == ("Succeeded", 400)
    assert used(world)["energyJoules"] == 1500

    await tell(world, again, STORY[4:])
    clock.now = at(90_000)
    await Process(world, http).settle()
    assert (used(world)["gpuSeconds"], used(world)["energyJoules"]) == (400, 1500)


async def test_time_that_passes_is_no_reason_to_write(
    world: World, process: Process, clock: World
) -> None:
    await tell(world, process, STORY[:3])
    before = len(world.writes)
    for seconds in range(10, 600, 10):
        clock.now = at(seconds)
        process.time += 10
        process.watch()
        await process.reconciler.reconcile(KEY)
    assert len(world.writes) == before


async def test_a_pod_that_vanished_unseen_counts_up_to_the_last_look(
    world: World, process: Process, clock: World
) -> None:
    """Nothing was written between, but this process has looked."""
    await tell(world, process, STORY[:3])
    clock.now = at(250)
    process.watch()
    await process.reconciler.reconcile(KEY)
    (name,) = (observed.pod(raw).meta.name for raw in world.of("pods"))
    world.delete("pods", name)
    clock.now = at(256)
    await process.settle()
    assert used(world)["gpuSeconds"] == 250


async def test_a_job_of_several_pods_tells_its_time_and_no_energy(
    world: World, process: Process, clock: World
) -> None:
    claim = {"claimName": "shared"}
    world.apply(workers=2, output={"storage": claim})
    await process.settle()
    world.start(naming.TRAINING)
    await process.settle()
    clock.now = at(302)
    world.finish(naming.TRAINING, FINAL.replace("}", ', "energyJoules": 9.0}'))
    await process.settle()
    assert used(world)["gpuSeconds"] == 600
    assert "energyJoules" not in used(world)
