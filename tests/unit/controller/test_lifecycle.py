"""The ends of a job's life: deadlines, what stays and what goes."""

from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from tests.unit.controller.objects import ENDED, STARTED
from tests.unit.controller.story import STORY, conditions, tell
from tests.unit.controller.world import KEY, Crash, Process, World

from finetuning.controller import naming
from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import ApiError

RETAINED = {"output": {"storage": {"whenDeleted": "Retain"}}}


pytestmark = pytest.mark.usefixtures("no_progress")


def acknowledge(world: World, since: str = STARTED) -> None:
    """The Job controller has seen the Job."""
    world.patch(("jobs", "team", "demo-train"), {"status": {"startTime": since}}, only_status=True)


def count_anew_if_suspended(world: World) -> None:
    """As the Job controller does for a Job that goes on later."""
    if world.get("jobs", "demo-train")["spec"]["suspend"]:
        acknowledge(world, world.now.isoformat())


# The first start


@pytest.mark.fault(
    "No start within startDeadlineSeconds",
    "failed with the obstacle; nothing left in the queue",
)
async def test_a_job_that_does_not_start_in_time_fails_with_its_obstacle_and_frees_its_place(
    world: World, process: Process
) -> None:
    world.apply(startDeadlineSeconds=60)
    await process.settle()
    world.run_jobs()
    acknowledge(world)
    mark = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    waits = {"conditions": [{**mark, "message": "0/3 nodes have enough amd.com/gpu"}]}
    (pod,) = world.of("pods")
    world.patch(("pods", "team", pod["metadata"]["name"]), {"status": waits}, only_status=True)
    await process.settle()
    assert world.status["reason"] == "Unschedulable"
    world.now += timedelta(seconds=29)
    await process.settle()
    assert world.status["phase"] == "Pending"
    world.now += timedelta(seconds=1)
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Failed", "StartDeadlineExceeded")
    assert "startDeadlineSeconds (60 s)" in world.status["message"]
    assert "enough amd.com/gpu" in world.status["message"]
    assert world.get("jobs", "demo-train")["spec"]["suspend"] is True
    world.run_jobs()
    assert world.of("pods") == []


async def test_a_status_that_is_refused_at_its_deadline_starts_no_clock_anew(
    world: World, process: Process
) -> None:
    world.apply(startDeadlineSeconds=60)
    await process.settle()
    world.run_jobs()
    acknowledge(world)
    await process.settle()
    world.now += timedelta(seconds=60)
    refusals = [ApiError(409, "Conflict", "somebody was faster")]

    def refuse(verb: str, plural: str) -> ApiError | None:
        return (
            refusals.pop() if (verb, plural) == ("patch", "finetuningjobs") and refusals else None
        )

    world.fail_with = refuse
    process.watch()
    with pytest.raises(RetryLaterError):
        await process.reconciler.reconcile(KEY)
    count_anew_if_suspended(world)
    await process.settle()
    assert not refusals
    assert world.status["reason"] == "StartDeadlineExceeded"
    assert world.get("jobs", "demo-train")["spec"]["suspend"] is True


async def test_a_job_is_given_up_by_whoever_comes_after_a_crash(
    world: World, process: Process, http: aiohttp.ClientSession
) -> None:
    world.apply(startDeadlineSeconds=60)
    await process.settle()
    world.run_jobs()
    acknowledge(world)
    await process.settle()
    world.now += timedelta(seconds=60)
    world.crash_after = len(world.writes) + 1
    process.watch()
    with pytest.raises(Crash):
        await process.reconciler.reconcile(KEY)
    count_anew_if_suspended(world)
    await Process(world, http).settle()
    assert world.status["reason"] == "StartDeadlineExceeded"
    assert world.get("jobs", "demo-train")["spec"]["suspend"] is True


async def test_a_pod_that_waits_for_a_node_costs_no_request_however_long_it_waits(
    world: World, process: Process
) -> None:
    world.apply()
    await process.settle()
    world.run_jobs()
    (pod,) = world.of("pods")
    mark = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full"}
    name = pod["metadata"]["name"]
    world.patch(("pods", "team", name), {"status": {"conditions": [mark]}}, only_status=True)
    await process.settle()
    assert world.status["reason"] == "Unschedulable"
    before = (len(world.reads), len(world.writes))
    for _ in range(10):
        process.time += 60
        process.watch()
        assert await process.reconciler.reconcile(KEY) is None
    assert (len(world.reads), len(world.writes)) == before
    # Once it has a node, events are what tells why it does not start.
    world.patch(("pods", "team", name), {"status": {"conditions": []}}, only_status=True)
    await process.settle()
    process.time += 16
    await process.settle()
    assert ("list", "events") in world.reads[before[0] :]


async def test_the_next_look_is_when_the_time_to_start_is_over(
    world: World, process: Process
) -> None:
    world.apply(startDeadlineSeconds=40)
    await process.settle()
    acknowledge(world)
    process.watch()
    process.time += 100
    assert await process.reconciler.reconcile(KEY) == pytest.approx(10)


@pytest.mark.parametrize("since", ["started", "paused", "released a moment ago"])
async def test_no_clock_runs_for_one_that(world: World, process: Process, since: str) -> None:
    world.apply(startDeadlineSeconds=31, suspend=since != "started")
    await process.settle()
    if since == "started":
        world.start(naming.TRAINING)
        acknowledge(world)
    elif since == "released a moment ago":
        # Its controller has not seen it yet: the time of an earlier start still stands there.
        acknowledge(world)
        world.patch(
            ("jobs", "team", "demo-train"),
            {"status": {"conditions": [{"type": "Suspended", "status": "True"}]}},
            only_status=True,
        )
        world.change(suspend=False)
    world.now += timedelta(days=1)
    await process.settle()
    assert world.status["phase"] != "Failed"


async def test_a_job_whose_children_cannot_be_made_fails_in_time_too(
    world: World, process: Process
) -> None:
    world.create("jobs", {"metadata": {"name": "demo-train", "namespace": "team"}})
    world.get("jobs", "demo-train")["metadata"]["deletionTimestamp"] = ENDED
    world.apply(startDeadlineSeconds=60)
    await process.settle()
    assert world.status["reason"] == "PreviousRunTerminating"
    world.now += timedelta(minutes=1)
    await process.settle()
    assert world.status["reason"] == "StartDeadlineExceeded"
    assert "PreviousRunTerminating" in world.status["message"]


# What goes after the end, and what stays


def lives(world: World) -> dict[str, Any]:
    return {
        raw["metadata"]["name"]: raw["spec"].get("ttlSecondsAfterFinished")
        for raw in world.of("jobs")
    }


@pytest.mark.fault(
    "Time to live shorter than an outage of the operator",
    "no result lost: it is set after the last status",
)
async def test_jobs_get_their_time_to_live_only_after_their_end_is_told(
    world: World, process: Process, http: aiohttp.ClientSession
) -> None:
    world.apply(ttlSecondsAfterFinished=600)
    await tell(world, process, STORY[1:])
    assert world.status["validation"]["phase"] == "Passed"
    assert lives(world) == {"demo-train": 600, "demo-validate": 600}
    told = world.writes.index(("patch", "jobs", "demo-train"))
    assert world.writes.index(("create", "jobs", "demo-validate")) < told
    assert ("patch", "finetuningjobs", "demo") not in world.writes[told:]
    for name in ("demo-train", "demo-validate"):
        world.delete("jobs", name)
    before = dict(world.status)
    await process.settle()
    await Process(world, http).settle()
    assert world.status == before
    assert world.get("persistentvolumeclaims", "demo-output")


async def test_the_time_to_live_may_change_and_be_taken_back(
    world: World, process: Process
) -> None:
    await tell(world, process, STORY)
    assert lives(world) == {"demo-train": None, "demo-validate": None}
    world.change(ttlSecondsAfterFinished=60)
    await process.settle()
    await process.settle()
    assert lives(world) == {"demo-train": 60, "demo-validate": 60}
    world.change(ttlSecondsAfterFinished=None)
    await process.settle()
    await process.settle()
    assert lives(world) == {"demo-train": None, "demo-validate": None}


async def test_a_model_whose_jobs_are_gone_is_judged_again(world: World, process: Process) -> None:
    world.apply(ttlSecondsAfterFinished=0)
    await tell(world, process, STORY[1:])
    for name in ("demo-train", "demo-validate"):
        world.delete("jobs", name)
    world.annotate("again")
    await process.settle()
    assert [raw["metadata"]["name"] for raw in world.of("jobs")] == ["demo-validate-2"]
    await tell(world, process, STORY[4:])
    assert (world.status["phase"], world.status["validation"]["attempt"]) == ("Succeeded", 2)


@pytest.mark.fault(
    "Job with a retained claim deleted",
    "the claim stays and is taken up",
)
async def test_a_retained_claim_outlives_its_job_and_is_taken_up_by_the_next(
    world: World, process: Process
) -> None:
    world.apply(**RETAINED)
    await tell(world, process, STORY[1:])
    uid = world.get("persistentvolumeclaims", "demo-output")["metadata"]["uid"]
    world.delete("finetuningjobs", "demo")
    assert world.of("jobs") == world.of("pods") == []
    world.apply(**RETAINED)
    await process.settle()
    assert world.status["reason"] == "JobCreated"
    assert world.get("persistentvolumeclaims", "demo-output")["metadata"]["uid"] == uid


async def test_a_claim_of_that_name_that_no_job_left_is_nobodys_to_take(
    world: World, process: Process
) -> None:
    world.create(
        "persistentvolumeclaims", {"metadata": {"name": "demo-output", "namespace": "team"}}
    )
    world.apply(**RETAINED)
    await process.settle()
    assert world.status["reason"] == "NameConflict"
    assert "whenDeleted" not in world.status["message"]


async def test_a_job_that_finds_a_kept_claim_is_told_how_to_go_on_in_it(
    world: World, process: Process
) -> None:
    world.apply(**RETAINED)
    await tell(world, process, STORY[1:])
    world.delete("finetuningjobs", "demo")
    world.apply()
    await process.settle()
    assert world.status["reason"] == "NameConflict"
    assert "spec.output.storage.whenDeleted: Retain" in world.status["message"]


@pytest.mark.parametrize("moment", [3, 4, len(STORY)])
async def test_a_job_that_has_begun_is_served_to_its_end_whatever_later_rules_say(
    moment: int, world: World, process: Process
) -> None:
    await tell(world, process, STORY[:moment])
    # As an earlier definition let it in.
    world.patch(("finetuningjobs", *KEY), {"spec": {"output": {"storage": {"size": "50"}}}})
    after = Process(world, process.http)
    await after.settle()
    world.change(suspend=True)
    await after.settle()
    assert moment != 3 or world.get("jobs", "demo-train")["spec"]["suspend"]
    world.change(suspend=False)
    await after.settle()
    await tell(world, after, STORY[moment:])
    assert world.status["validation"]["phase"] == "Passed"
    assert conditions(world)["ConfigValid"] == "True"
