"""Kueue's contract for Jobs: it alone suspends and unsuspends what carries its label."""

from tests.unit.controller.objects import ended, trainer_says
from tests.unit.controller.story import STORY, tell
from tests.unit.controller.test_lifecycle import OWN, neighbour
from tests.unit.controller.world import Process, World

from finetuning.controller import naming

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
