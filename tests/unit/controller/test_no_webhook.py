"""Somebody is to be asked before each write of a Job, and does not answer, or says no."""

from typing import Any

import pytest
from tests.unit.controller.story import STORY, events, tell
from tests.unit.controller.world import KEY, Process, World

from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import ApiError

pytestmark = pytest.mark.usefixtures("no_progress")

SILENT = ApiError(
    500,
    "InternalError",
    'Internal error occurred: failed calling webhook "mjob.kb.io": failed to call webhook: no '
    'endpoints available for service "kueue-webhook-service"',
)
DENIED = ApiError(403, "Forbidden", 'admission webhook "a.example" denied the request: not today')


def refuse(world: World, error: ApiError, *verbs: str) -> None:
    world.fail_with = lambda verb, plural: error if plural == "jobs" and verb in verbs else None


async def at_length(process: Process, seconds: float = 40) -> None:
    """Come to rest after the pause between two tries."""
    process.time += seconds
    await process.settle()


@pytest.mark.fault(
    "A webhook that has to be asked about Jobs does not answer",
    "the reason shows, of a start and of a pause; it goes on when the webhook is back",
)
async def test_a_job_whose_start_waits_for_a_webhook_says_so(
    world: World, process: Process
) -> None:
    refuse(world, SILENT, "create")
    world.apply()
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Pending", "Forbidden")
    assert "Job demo-train cannot be created: Internal error" in world.status["message"]
    assert "no endpoints available" in world.status["message"]
    assert events(world) == [("Warning", "Forbidden")]
    refuse(world, SILENT)
    await at_length(process)
    assert world.status["reason"] == "JobCreated"


@pytest.mark.parametrize("error", [SILENT, DENIED])
async def test_a_pause_that_nobody_may_make_is_no_pause(
    world: World, process: Process, error: ApiError
) -> None:
    await tell(world, process, STORY[:3])
    refuse(world, error, "patch")
    world.change(suspend=True)
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Running", "Forbidden")
    assert world.status["message"].startswith("Job demo-train cannot be paused: ")
    refuse(world, error)
    await at_length(process)
    world.run_jobs()
    await process.settle()
    assert world.status["phase"] == "Paused"
    refuse(world, error, "patch")
    world.change(suspend=False)
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Pending", "Forbidden")
    assert world.status["message"].startswith("Job demo-train cannot be let go on: ")


async def test_a_pause_waits_for_a_kueue_that_cannot_be_asked(
    world: World, process: Process
) -> None:
    words = "conversion webhook for kueue.x-k8s.io/v1beta1, Kind=Workload failed: no endpoints"
    down = ApiError(500, "InternalError", words)
    await tell(world, process, STORY[:3])
    world.fail_with = lambda _verb, plural: down if plural == "workloads" else None
    world.change(suspend=True)
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Running", "Forbidden")
    assert world.status["message"] == f"Job demo-train cannot be paused: {words}"
    assert world.get("jobs", "demo-train")["spec"]["suspend"] is False


@pytest.mark.parametrize("error", [SILENT, DENIED])
async def test_nor_is_one_of_the_validation(
    world: World, process: Process, error: ApiError
) -> None:
    await tell(world, process, STORY[:5])
    refuse(world, error, "patch")
    world.change(suspend=True)
    await process.settle()
    assert "Its validation waits: Job demo-validate cannot be paused: " in world.status["message"]
    found: dict[str, Any] = world.status["validation"]
    assert (found["phase"], found["reason"]) == ("Pending", "Forbidden")


async def test_a_job_that_has_failed_is_taken_out_of_the_way_when_it_may(
    world: World, process: Process
) -> None:
    await tell(world, process, STORY[:2])
    status = world.get("finetuningjobs", "demo")["status"]
    status |= {"phase": "Failed", "reason": "StartDeadlineExceeded"}
    refuse(world, DENIED, "patch")
    after = Process(world, process.http)
    after.watch()
    with pytest.raises(RetryLaterError, match="not today"):
        await after.reconciler.reconcile(KEY)
    refuse(world, DENIED)
    await after.settle()
    assert world.get("jobs", "demo-train")["spec"]["suspend"] is True
