"""Kueue's contract for Jobs: it alone suspends and unsuspends what carries its label."""

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.controller.objects import STARTED, ended, trainer_says
from tests.unit.controller.story import STORY, tell
from tests.unit.controller.test_writers import OWN, neighbour
from tests.unit.controller.world import Process, World

from finetuning.controller import kueue, naming, observed
from finetuning.controller.gateway import ApiError

TRAIN = ("jobs", "team", "demo-train")


def admit(world: World, *, admitted: bool = True) -> None:
    world.patch(TRAIN, {"spec": {"suspend": not admitted}})


def touched_by_us(world: World) -> list[tuple[str, str, str]]:
    return [each for each in world.writes if each[:2] == ("patch", "jobs")]


async def test_a_queued_job_waits_runs_is_preempted_and_goes_on(
    world: World, process: Process
) -> None:
    world.apply(queueName="gpus")
    await process.settle()
    made = world.get("jobs", "demo-train")
    assert made["metadata"]["labels"][naming.QUEUE_LABEL] == "gpus"
    assert made["spec"]["suspend"] is True
    assert (world.status["phase"], world.status["reason"]) == ("Pending", "Queued")
    assert "LocalQueue gpus" in world.status["message"]
    admit(world)
    world.start(naming.TRAINING)
    await process.settle()
    assert world.status["phase"] == "Running"
    admit(world, admitted=False)
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Running", "Queued")
    assert "saving a checkpoint first" in world.status["message"]
    saved = trainer_says(result="paused", step=40, totalSteps=100)
    world.set_pods(naming.TRAINING, "Failed", ended(143, saved))
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Pending", "Queued")
    assert world.status["currentStep"] == 40
    assert "continues from its newest checkpoint" in world.status["message"]
    for raw in world.of("pods"):
        world.delete("pods", raw["metadata"]["name"])
    admit(world)
    world.start(naming.TRAINING)
    await process.settle()
    assert world.status["phase"] == "Running"
    await tell(world, process, STORY[3:])
    assert world.status["validation"]["phase"] == "Passed"
    assert touched_by_us(world) == []
    judge = world.get("jobs", "demo-validate")
    assert naming.QUEUE_LABEL not in judge["metadata"]["labels"]


async def test_the_folder_of_a_queued_job_is_taken_before_it_runs(
    world: World, process: Process
) -> None:
    neighbour(world, process, queueName="gpus")
    suspended = {"status": {"conditions": [{"type": "Suspended", "status": "True"}]}}
    world.patch(("jobs", "team", "other-train"), suspended, only_status=True)
    world.apply(**OWN)
    await process.settle()
    assert world.status["reason"] == "OutputInUse"


# What Kueue says


def condition(name: str, message: str, *, holds: bool) -> dict[str, Any]:
    return {"type": name, "status": "True" if holds else "False", "message": message}


LACKS = condition("QuotaReserved", "insufficient unused quota for amd.com/gpu", holds=False)
EVICTED = condition("Evicted", "Preempted to accommodate a workload", holds=True)
RESERVED = condition("QuotaReserved", "Quota reserved in ClusterQueue gpus", holds=True)
CHECKS = [{"name": "nodes", "state": "Pending", "message": "two more"}, {"state": "Ready"}]


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({}, ""),
        ({"conditions": [LACKS]}, "insufficient unused quota for amd.com/gpu."),
        (
            {"conditions": [LACKS, EVICTED]},
            "Preempted to accommodate a workload. insufficient unused quota for amd.com/gpu.",
        ),
        (
            {"conditions": [{**LACKS, "message": EVICTED["message"]}, EVICTED]},
            "Preempted to accommodate a workload.",
        ),
        (
            {"conditions": [RESERVED], "admissionChecks": CHECKS},
            "it has its quota and waits for the admission checks nodes (two more).",
        ),
        ({"conditions": [RESERVED, condition("Admitted", "It is.", holds=True)]}, ""),
    ],
)
def test_the_words_of_a_workload(status: dict[str, Any], says: str) -> None:
    assert kueue.words({"status": status}) == says


async def waited(world: World, process: Process) -> str:
    process.time += 9
    await process.settle()
    assert world.status["reason"] == "Queued"
    return str(world.status["message"])


async def test_a_queued_job_says_what_kueue_says(world: World, process: Process) -> None:
    world.apply(queueName="gpus")
    await process.settle()
    assert "kind workloads.kueue.x-k8s.io" in await waited(world, process)
    world.kinds.add("workloads")
    process.time += 9
    assert "Kueue: has made no Workload of Job demo-train" in await waited(world, process)
    uid = world.get("jobs", "demo-train")["metadata"]["uid"]
    meta = {"name": "job-demo-train", "namespace": "team", "labels": {kueue.JOB_UID_LABEL: uid}}
    world.create("workloads", {"metadata": meta, "status": {"conditions": [LACKS]}})
    process.time += 9
    message = await waited(world, process)
    assert message.endswith("Kueue: insufficient unused quota for amd.com/gpu.")
    written = len(world.writes)
    again = Process(world, process.http)
    await again.settle()
    assert world.status["message"] == message
    assert len(world.writes) == written
    admit(world)
    await process.settle()
    assert world.status["reason"] == "JobCreated"
    assert "Kueue" not in world.status["message"]


async def test_where_nobody_may_read_workloads_the_queue_is_named(
    world: World, process: Process
) -> None:
    refused = ApiError(403, "Forbidden", "no")
    world.fail_with = lambda _, plural: refused if plural == "workloads" else None
    world.apply(queueName="gpus")
    await process.settle()
    assert (await waited(world, process)).endswith("LocalQueue gpus.")


async def test_the_pods_of_a_job_have_its_priority(world: World, process: Process) -> None:
    world.apply(priorityClassName="urgent")
    await process.settle()
    await tell(world, process, STORY[1:])
    classes = [raw["spec"]["template"]["spec"].get("priorityClassName") for raw in world.of("jobs")]
    assert classes == ["urgent", "urgent"]


# Kueue takes Jobs that name no queue: where a LocalQueue is called `default`, or the manager is
# configured with manageJobsWithoutQueueName.


def takes(world: World, queue: str = "") -> None:
    """From now on, as its webhook and its controller do it."""
    world.kinds.add("workloads")

    def suspend(plural: str, new: dict[str, Any]) -> None:
        if plural != "jobs":
            return
        new["spec"]["suspend"] = True
        new["metadata"]["labels"] |= {naming.QUEUE_LABEL: queue} if queue else {}
        labels = {kueue.JOB_UID_LABEL: new["metadata"]["uid"]}
        meta = {"name": f"of-{new['metadata']['name']}", "namespace": "team", "labels": labels}
        world.create("workloads", {"metadata": meta, "status": {"conditions": [LACKS]}})

    world.admission = suspend


def taken_back(world: World) -> int:
    """How many Jobs run that Kueue has not admitted; it suspends them again."""
    seen = map(observed.batch_job, world.of("jobs"))
    names = [each.meta.name for each in seen if not (each.suspend or each.finished)]
    for name in names:
        world.patch(("jobs", "team", name), {"spec": {"suspend": True}})
    return len(names)


@pytest.mark.parametrize("queue", ["default", ""])
async def test_a_job_that_kueue_takes_unasked_is_left_to_it(
    queue: str, world: World, process: Process
) -> None:
    takes(world, queue)
    world.apply()
    await process.settle()
    process.time += 9
    await process.settle()
    assert world.status["reason"] == "Queued"
    says = "LocalQueue default" if queue else "create the job again with spec.queueName"
    assert says in world.status["message"]
    assert world.status["message"].endswith("Kueue: insufficient unused quota for amd.com/gpu.")
    await Process(world, process.http).settle()
    assert taken_back(world) == 0
    admit(world)
    world.start(naming.TRAINING)
    await process.settle()
    world.change(suspend=True)
    await process.settle()
    assert world.get("jobs", "demo-train")["spec"]["suspend"] is False
    assert (world.status["phase"], world.status["reason"]) == ("Running", "Queued")
    assert "spec.active" in world.status["message"]


async def test_a_validation_that_kueue_takes_unasked_is_left_to_it(
    world: World, process: Process
) -> None:
    await tell(world, process, STORY[:3])
    takes(world, "default")
    STORY[3](world)
    await process.settle()
    process.time += 9
    await process.settle()
    assert taken_back(world) == 0
    assert world.status["validation"]["reason"] == "Queued"
    assert "Its validation waits: Waiting for Kueue" in world.status["message"]
    world.patch(("jobs", "team", "demo-validate"), {"spec": {"suspend": False}})
    await tell(world, process, STORY[4:])
    assert world.status["validation"]["phase"] == "Passed"
    assert touched_by_us(world) == []


async def test_a_paused_job_that_kueue_took_meanwhile_is_left_to_it(
    world: World, process: Process
) -> None:
    """It was made suspended, as its pause wants it, so that nothing told of Kueue."""
    takes(world)
    world.apply(suspend=True)
    await process.settle()
    assert world.status["phase"] == "Paused"
    world.change(suspend=False)
    await process.settle()
    assert world.status["reason"] == "Queued"
    assert taken_back(world) == 0


async def test_a_job_that_starts_too_late_is_ended_where_kueue_would_let_it_go_again(
    world: World, process: Process
) -> None:
    takes(world, "default")
    world.apply(startDeadlineSeconds=300)
    await process.settle()
    admit(world)
    world.patch(TRAIN, {"status": {"startTime": STARTED}}, only_status=True)
    world.run_jobs()
    await process.settle()
    world.now += timedelta(seconds=400)
    await process.settle()
    assert world.status["reason"] == "StartDeadlineExceeded"
    await Process(world, process.http).settle()
    assert touched_by_us(world) == [("patch", "jobs", "demo-train")]
    spec = world.get("jobs", "demo-train")["spec"]
    assert (spec["activeDeadlineSeconds"], spec["suspend"]) == (1, False)
