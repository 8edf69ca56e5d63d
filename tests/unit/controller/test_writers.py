"""One writer on an output folder, always: who has to wait for whom, and what is asked for it."""

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import pytest
from tests.unit.controller.objects import ENDED, job, job_body, trainer_says
from tests.unit.controller.story import STORY, tell
from tests.unit.controller.world import KEY, Process, World

from finetuning.controller import desired, naming, observed
from finetuning.controller.gateway import ApiError, Resource
from finetuning.controller.training_status import NODE_SILENT

OWN = {"output": {"storage": {"claimName": "shared", "subPath": "run"}}}
OTHER = ("team", "other")


pytestmark = pytest.mark.usefixtures("no_progress")


def linger(world: World, phase: str = "Running") -> str:
    """A Pod of a job that was deleted saves its last checkpoint."""
    (pod,) = world.of("pods")
    world.delete("finetuningjobs", "demo")
    world.objects["pods", "team", pod["metadata"]["name"]] = pod
    pod["status"]["phase"] = phase
    return str(pod["metadata"]["name"])


@pytest.mark.fault(
    "Deleted and created again while the old pod saves",
    "waits as PreviousRunTerminating",
)
async def test_a_job_created_again_waits_for_the_last_checkpoint_of_its_predecessor(
    world: World, process: Process
) -> None:
    world.apply(**OWN)
    await tell(world, process, STORY[1:3])
    pod = linger(world)
    world.apply(**OWN)
    await process.settle()
    assert (world.status["reason"], world.of("jobs")) == ("PreviousRunTerminating", [])
    assert pod in world.status["message"]
    world.delete("pods", pod)
    await process.settle()
    assert world.status["reason"] == "JobCreated"


@pytest.mark.parametrize("own_claim", [True, False])
async def test_of_a_predecessor_on_a_lost_node_the_command_is_told(
    world: World, process: Process, *, own_claim: bool
) -> None:
    spec = OWN if own_claim else {}
    world.apply(**spec)
    await tell(world, process, STORY[1:3])
    pod = world.objects["pods", "team", linger(world)]
    pod["spec"] = {"nodeName": "gpu-7"}
    pod["metadata"] |= {"deletionTimestamp": ENDED, "resourceVersion": "9999"}
    world.now = datetime.fromisoformat(ENDED) + NODE_SILENT + timedelta(seconds=1)
    world.apply(**spec)
    await process.settle()
    assert (world.status["reason"], world.of("jobs")) == ("NodeLost", [])
    assert "kubectl delete node gpu-7" in world.status["message"]
    world.delete("pods", pod["metadata"]["name"])
    process.time += 30
    await process.settle()
    assert world.status["reason"] == "JobCreated"


async def test_so_is_that_of_another_job_on_a_lost_node_in_the_same_folder(
    world: World, process: Process
) -> None:
    world.apply(**OWN)
    await tell(world, process, STORY[1:3])
    pod = world.objects["pods", "team", linger(world)]
    pod["spec"]["nodeName"] = "gpu-7"
    pod["metadata"] |= {"deletionTimestamp": ENDED, "resourceVersion": "9999"}
    pod["metadata"]["labels"] |= {naming.JOB_NAME_LABEL: "other"}
    world.apply(**OWN)
    await process.settle()
    assert world.status["reason"] == "OutputInUse"
    world.now = datetime.fromisoformat(ENDED) + NODE_SILENT + timedelta(seconds=1)
    process.time += 10
    await process.settle()
    assert (world.status["reason"], world.of("jobs")) == ("NodeLost", [])
    assert "kubectl delete node gpu-7" in world.status["message"]


def neighbour(world: World, process: Process, **spec: Any) -> None:
    """Another job's training Job, as this operator would have made it."""
    other = job(**{**OWN, **spec})
    other.metadata.name, other.metadata.uid = OTHER[1], "uid-other"
    world.create("jobs", desired.build(other, process.settings).training_job)


@pytest.mark.fault(
    "Two jobs with one output folder",
    "the second waits as OutputInUse",
)
async def test_two_jobs_never_write_to_one_folder_at_once(world: World, process: Process) -> None:
    neighbour(world, process)
    world.apply(**OWN)
    await process.settle()
    assert world.status["reason"] == "OutputInUse"
    assert "FineTuningJob other uses pvc://shared/run" in world.status["message"]
    assert [raw["metadata"]["name"] for raw in world.of("jobs")] == ["other-train"]
    world.patch(("jobs", "team", "other-train"), {"spec": {"suspend": True}})
    process.time += 10
    await process.settle()
    assert world.status["reason"] == "OutputInUse"
    suspended = {"type": "Suspended", "status": "True"}
    status = {"status": {"conditions": [suspended]}}
    world.patch(("jobs", "team", "other-train"), status, only_status=True)
    process.time += 10
    await process.settle()
    assert world.status["reason"] == "JobCreated"


@pytest.mark.parametrize("theirs", ["run/checkpoints", "team"])
async def test_folders_inside_each_other_have_one_writer(
    world: World, process: Process, theirs: str
) -> None:
    mine = {"run/checkpoints": "run", "team": "team/run"}[theirs]
    neighbour(world, process, output={"storage": {"claimName": "shared", "subPath": theirs}})
    world.apply(output={"storage": {"claimName": "shared", "subPath": mine}})
    await process.settle()
    assert world.status["reason"] == "OutputInUse"
    told = f"uses pvc://shared/{theirs}, which overlaps with pvc://shared/{mine}, at the moment"
    assert told in world.status["message"]


@pytest.mark.fault(
    "A job that names the claim which another one was made",
    "the second of the two waits as OutputInUse, whichever it is",
)
@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        ({}, {"claimName": "other-output", "subPath": "checkpoints"}),
        ({"claimName": "demo-output", "subPath": "checkpoints"}, {}),
        ({"claimName": "demo-output", "subPath": "checkpoints"}, {"whenDeleted": "Retain"}),
    ],
)
async def test_a_claim_that_was_made_for_a_job_is_its_folder_as_a_whole(
    world: World, process: Process, theirs: dict[str, Any], mine: dict[str, Any]
) -> None:
    neighbour(world, process, output={"storage": theirs})
    world.apply(output={"storage": mine})
    await process.settle()
    assert world.status["reason"] == "OutputInUse"
    assert "FineTuningJob other uses pvc://" in world.status["message"]
    world.end_job("other-train", "Complete")
    process.time += 10
    await process.settle()
    assert world.status["reason"] == "JobCreated"


async def test_a_paused_job_waits_for_the_other_that_took_its_folder(
    world: World, process: Process
) -> None:
    world.apply(**OWN, suspend=True)
    await process.settle()
    neighbour(world, process)
    world.change(suspend=False)
    await process.settle()
    assert world.status["reason"] == "OutputInUse"
    assert world.get("jobs", "demo-train")["spec"]["suspend"] is True
    world.end_job("other-train", "Complete")
    process.time += 10
    await process.settle()
    assert world.get("jobs", "demo-train")["spec"]["suspend"] is False


async def test_another_folder_of_the_claim_is_no_obstacle(world: World, process: Process) -> None:
    neighbour(world, process, output={"storage": {"claimName": "shared", "subPath": "run-2"}})
    world.apply(**OWN)
    await process.settle()
    assert world.status["reason"] == "JobCreated"


@pytest.mark.fault(
    "Node lost with a running trainer",
    "NodeLost with the command; no second pod",
)
async def test_a_pod_whose_node_is_lost_is_told_with_what_to_do_and_not_replaced(
    world: World, process: Process
) -> None:
    await tell(world, process, STORY[:3])
    (pod,) = world.of("pods")
    pod["spec"] = {"nodeName": "gpu-7"}
    pod["metadata"] |= {"deletionTimestamp": ENDED, "resourceVersion": "9999"}
    ends = observed.meta(pod).deletes_at
    assert ends is not None
    world.now = ends + NODE_SILENT
    process.time += 60
    await process.settle()
    assert world.status["reason"] == "Training"
    world.now += timedelta(seconds=1)
    process.time += 60
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Pending", "NodeLost")
    assert "kubectl delete node gpu-7" in world.status["message"]
    world.delete("pods", pod["metadata"]["name"])
    world.start(naming.TRAINING)
    await process.settle()
    assert world.status["phase"] == "Running"
    world.finish(naming.TRAINING, trainer_says(step=1, totalSteps=1))
    await process.settle()
    assert world.status["phase"] == "Succeeded"


# What the watches have not told yet

ELSEWHERE = {"output": {"storage": {"claimName": "shared", "subPath": "elsewhere"}}}
LISTS = {("list", "jobs"), ("list", "pods")}


async def begins_unseen(world: World, process: Process, **spec: Any) -> bool:
    """Look at a new job while the watches are silent; whether it begins."""
    body = world.create("finetuningjobs", job_body(name="other", uid="another uid", **spec))
    process.cache.customs.put(observed.custom(body))
    await process.reconciler.reconcile(OTHER)
    return "other-train" in {raw["metadata"]["name"] for raw in world.of("jobs")}


async def test_where_nobody_ever_was_nothing_is_listed_but_once_a_namespace(
    world: World, process: Process
) -> None:
    world.apply(**OWN)
    await process.settle()
    assert set(world.reads) >= LISTS
    world.reads.clear()
    assert await begins_unseen(world, process, **ELSEWHERE)
    assert LISTS.isdisjoint(world.reads)


async def look_at(process: Process, name: str, **spec: Any) -> None:
    """As an operator whose watch has told of this job, and of nothing that others made of it."""
    world = process.world
    found = world.objects.get(("finetuningjobs", "team", name))
    raw = found or world.create("finetuningjobs", job_body(name=name, uid=f"uid-{name}", **spec))
    process.cache.customs.put(observed.custom(raw))
    await process.reconciler.reconcile(("team", name))


@pytest.mark.fault(
    "Two operators work at once, and one hears late of what the other makes",
    "it lists before it begins in a claim that others can mount: one writer",
)
async def test_who_is_not_the_only_operator_lists_before_each_job(
    world: World, process: Process, http: aiohttp.ClientSession
) -> None:
    other = Process(world, http)
    await look_at(process, "first", output={"storage": {"claimName": "shared"}})
    await look_at(other, "demo", **OWN)
    # The same Job again, which is there: somebody else has made it.
    await look_at(process, "demo")
    await look_at(other, "third", **ELSEWHERE)
    world.reads.clear()
    assert not await begins_unseen(world, process, **ELSEWHERE)
    assert set(world.reads) >= LISTS


@pytest.mark.parametrize(("seconds", "begins"), [(0, True), (60, False)])
async def test_a_job_of_another_operator_is_told_from_one_that_was_there_before(
    world: World, process: Process, http: aiohttp.ClientSession, seconds: int, *, begins: bool
) -> None:
    other = Process(world, http)
    await look_at(process, "first", output={"storage": {"claimName": "shared"}})
    await look_at(other, "demo", **OWN)
    made = world.get("jobs", "demo-train")["metadata"]
    made["creationTimestamp"] = (world.now + timedelta(seconds=seconds)).isoformat()
    process.cache.jobs.put(observed.batch_job(world.get("jobs", "demo-train")))
    await look_at(process, "demo")
    await look_at(other, "third", **ELSEWHERE)
    assert await begins_unseen(world, process, **ELSEWHERE) is begins


async def test_a_refused_list_is_made_again(world: World, process: Process) -> None:
    refusal = ApiError(403, "Forbidden", "no")
    world.fail_with = lambda verb, kind: refusal if (verb, kind) == ("list", "pods") else None
    with pytest.raises(ApiError, match="no"):
        await begins_unseen(world, process, **OWN)
    assert world.of("jobs") == []
    world.fail_with = lambda _verb, _kind: None
    world.reads.clear()
    await process.reconciler.reconcile(OTHER)
    assert set(world.reads) >= LISTS
    assert len(world.of("jobs")) == 1


async def test_what_an_earlier_operator_made_last_is_seen_before_its_pod(
    world: World, process: Process
) -> None:
    world.apply(**OWN)
    process.watch()
    neighbour(world, process)
    await process.reconciler.reconcile(KEY)
    assert [raw["metadata"]["name"] for raw in world.of("jobs")] == ["other-train"]


@pytest.mark.parametrize("answered", [True, False])
async def test_a_pod_is_seen_whose_job_came_and_went_between_two_events(
    world: World, process: Process, monkeypatch: pytest.MonkeyPatch, *, answered: bool
) -> None:
    """Also where the Job was made, and the API server's answer got lost."""
    create = process.gateway.create

    async def lose(resource: Resource, manifest: dict[str, Any]) -> dict[str, Any]:
        await create(resource, manifest)
        raise ApiError(0, "Unreachable", "the connection broke")

    world.apply(**OWN)
    process.watch()
    with contextlib.ExitStack() as stack:
        if not answered:
            monkeypatch.setattr(process.gateway, "create", lose)
            stack.enter_context(pytest.raises(ApiError))
        await process.reconciler.reconcile(KEY)
    monkeypatch.setattr(process.gateway, "create", create)
    world.run_jobs()
    linger(world)
    for known in list(process.cache.jobs):
        process.cache.jobs.drop(known.meta.uid)
    assert not await begins_unseen(world, process, **OWN)


async def both(world: World, process: Process, other: dict[str, Any]) -> list[str]:
    """Two jobs that are looked at for the first time at the same time; the Jobs that come of it."""
    world.apply(**OWN)
    world.create("finetuningjobs", job_body(name="other", uid="another uid", **other))
    process.watch()
    await asyncio.gather(*(process.reconciler.reconcile(key) for key in (KEY, OTHER)))
    return sorted(raw["metadata"]["name"] for raw in world.of("jobs"))


async def test_of_two_that_want_one_folder_at_once_only_one_begins(
    world: World, process: Process
) -> None:
    assert await both(world, process, OWN) == ["demo-train"]


async def test_who_waits_for_the_api_server_holds_up_nobody_with_another_folder(
    world: World, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, other_is_there = process.gateway.create, asyncio.Event()

    async def slow(resource: Resource, manifest: dict[str, Any]) -> dict[str, Any]:
        name = manifest["metadata"]["name"]
        if name == "demo-train":
            await asyncio.wait_for(other_is_there.wait(), 5)
        found = await create(resource, manifest)
        if name == "other-train":
            other_is_there.set()
        return found

    monkeypatch.setattr(process.gateway, "create", slow)
    assert await both(world, process, ELSEWHERE) == ["demo-train", "other-train"]


async def test_of_a_job_and_one_that_names_its_claim_only_one_begins(
    world: World, process: Process
) -> None:
    world.apply(output={"storage": {"claimName": "other-output", "subPath": "checkpoints"}})
    world.create("finetuningjobs", job_body(name="other", uid="another uid"))
    process.watch()
    await asyncio.gather(*(process.reconciler.reconcile(key) for key in (KEY, OTHER)))
    assert len(world.of("jobs")) == 1
