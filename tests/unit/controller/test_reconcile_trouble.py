"""What the operator does where the API server refuses, lacks or does not know something."""

import itertools

import aiohttp
import pytest
from tests.unit.controller.objects import (
    ended,
    job_body,
    trainer_says,
)
from tests.unit.controller.story import STORY, conditions, events, tell
from tests.unit.controller.world import IDLE_SECONDS, KEY, Process, World

from finetuning.controller import naming
from finetuning.controller.gateway import ApiError
from finetuning.controller.reconcile import HINT_AFTER_SECONDS


@pytest.mark.fault(
    "No ServiceMonitor kind",
    "training goes on, a condition says so",
)
async def test_without_the_servicemonitor_kind_training_goes_on_and_one_event_says_so(
    http: aiohttp.ClientSession,
) -> None:
    world = World(with_monitoring=False)
    process = Process(world, http)
    calls: list[str] = []

    def note(verb: str, plural: str) -> None:
        if verb == "create" and plural.startswith("service"):
            calls.append(plural)

    world.fail_with = note
    await tell(world, process, STORY[:3])
    assert (world.status["phase"], conditions(world)["MonitoringReady"]) == ("Running", "False")
    for _ in range(5):
        process.time += 61
        await process.reconciler.reconcile(KEY)
    told = [each for each in world.of("events") if each["reason"] == "ServiceMonitorCRDMissing"]
    assert [each["type"] for each in told] == ["Normal"], "a choice of the admin, not a fault"
    assert calls == ["services", *["servicemonitors"] * 6]
    world.kinds.add("servicemonitors")
    process.time += 61
    await process.settle()
    assert conditions(world)["MonitoringReady"] == "True"
    assert [each["metadata"]["name"] for each in world.of("servicemonitors")] == ["demo-metrics"]


async def test_a_kind_that_is_missing_is_probed_once_for_all_jobs(
    http: aiohttp.ClientSession,
) -> None:
    world = World(with_monitoring=False)
    process = Process(world, http)
    await process.keeper.attempt()
    probes: list[str] = []

    def note(verb: str, plural: str) -> None:
        if (verb, plural) == ("create", "servicemonitors"):
            probes.append(plural)

    world.fail_with = note
    for name in ("demo", "other"):
        world.create("finetuningjobs", job_body(name=name, uid=f"uid-{name}"))
    for _ in range(3):
        for name in ("demo", "other"):
            process.watch()
            await process.reconciler.reconcile(("team", name))
        world.run_jobs()
    assert len(probes) == 1


@pytest.mark.parametrize(
    ("plural", "code", "expected"),
    [
        ("jobs", 422, ("Failed", "InvalidSpec")),
        ("jobs", 400, ("Failed", "InvalidSpec")),
        ("jobs", 403, ("Pending", "Forbidden")),
        ("persistentvolumeclaims", 403, ("Pending", "Forbidden")),
    ],
)
async def test_a_refused_child_says_why(
    world: World, process: Process, plural: str, code: int, expected: tuple[str, str]
) -> None:
    refusal = ApiError(code, "Refused", "exceeded quota: jobs")
    world.fail_with = lambda verb, kind: refusal if (verb, kind) == ("create", plural) else None
    world.apply()
    for _ in range(3):
        process.watch()
        await process.reconciler.reconcile(KEY)
        process.time += 10
    assert (world.status["phase"], world.status["reason"]) == expected
    assert "exceeded quota: jobs" in world.status["message"]


async def test_a_refused_service_does_not_stop_the_training(world: World, process: Process) -> None:
    refusal = ApiError(403, "Forbidden", "no right")
    world.fail_with = lambda _verb, kind: refusal if kind == "services" else None
    await tell(world, process, STORY)
    assert world.status["validation"]["phase"] == "Passed"
    assert conditions(world)["MonitoringReady"] == "False"


@pytest.mark.fault(
    "Namespace being deleted",
    "nothing blocks, nothing repeats",
)
async def test_a_namespace_that_is_going_is_left_in_peace(world: World, process: Process) -> None:
    gone = ApiError(403, "Forbidden", "namespace team is being terminated")
    world.fail_with = lambda verb, _kind: gone if verb == "create" else None
    world.apply()
    process.watch()
    assert await process.reconciler.reconcile(KEY) is None
    assert world.writes == []


async def test_an_invalid_spec_is_failed_once_and_creates_nothing(
    world: World, process: Process
) -> None:
    world.apply(dataset={"source": "a/b/c"})
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Failed", "InvalidSpec")
    assert "neither an absolute path" in world.status["message"]
    assert (world.of("jobs"), world.of("persistentvolumeclaims")) == ([], [])


async def test_a_spec_that_the_models_refuse_names_field_value_and_limit(
    world: World, process: Process
) -> None:
    world.apply(hyperparameters={"epochs": 0})
    await process.settle()
    message = world.status["message"]
    assert "spec.hyperparameters.epochs" in message
    assert "greater than or equal to 1 (got 0)" in message


async def test_a_failed_dataset_fails_the_job(world: World, process: Process) -> None:
    said = trainer_says(result="failed", reason="DatasetInvalid", message="line 17 is no JSON")
    await tell(world, process, STORY[:3])
    world.finish(naming.TRAINING, said, code=2)
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Failed", "DatasetInvalid")
    assert world.status["message"] == "line 17 is no JSON"
    assert events(world) == [("Normal", "TrainingStarted"), ("Warning", "DatasetInvalid")]


async def test_validation_that_is_turned_off_ends_with_the_training(
    world: World, process: Process
) -> None:
    world.apply(validation={"enabled": False})
    await process.settle()
    await tell(world, process, STORY[2:4])
    assert world.status["validation"]["phase"] == "Skipped"
    assert len(world.of("jobs")) == 1


def forbids(world: World, message: str, when: str) -> None:
    uid = world.get("jobs", "demo-train")["metadata"]["uid"]
    event = {
        "metadata": {"generateName": "e.", "namespace": "team"},
        "involvedObject": {"uid": uid},
        "reason": "FailedCreate",
        "message": message,
        "lastTimestamp": when,
    }
    world.create("events", event)


async def test_a_job_whose_pod_does_not_come_reads_why_from_events(
    world: World, process: Process
) -> None:
    world.apply()
    await process.settle()
    forbids(world, "pods is forbidden: exceeded quota: gpus", "2099-01-01T00:00:00Z")
    await process.reconciler.reconcile(KEY)
    process.time += 16
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Pending", "PodsForbidden")
    assert "exceeded quota: gpus" in world.status["message"]
    world.run_jobs()
    await process.settle()
    assert world.status["reason"] == "ContainerStarting"
    await tell(world, process, STORY[2:])
    assert world.status["validation"]["phase"] == "Passed"


async def test_a_pod_that_crashed_and_may_not_come_again_says_why(
    world: World, process: Process
) -> None:
    await tell(world, process, STORY[:3])
    (raw,) = world.of("pods")
    raw["metadata"]["creationTimestamp"] = "2098-01-01T00:00:00Z"
    forbids(world, "pods is forbidden: of the first start", "2097-01-01T00:00:00Z")
    world.set_pods(naming.TRAINING, "Failed", ended(137, "killed"))
    await process.settle()
    process.time += 9
    await process.settle()
    assert world.status["reason"] == "Restarting"
    forbids(world, "pods is forbidden: exceeded quota: gpus", "2099-01-01T00:00:00Z")
    process.time += 12
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Pending", "PodsForbidden")
    assert "exceeded quota: gpus" in world.status["message"]
    world.run_jobs()
    await process.settle()
    await tell(world, process, STORY[2:])
    assert world.status["validation"]["phase"] == "Passed"


async def test_what_stands_in_the_way_is_read_within_fifteen_seconds_and_then_less_often(
    world: World, process: Process
) -> None:
    world.apply()
    reads: list[float] = []

    def note(verb: str, plural: str) -> None:
        if (verb, plural) == ("list", "events"):
            reads.append(process.time)

    world.fail_with = note
    process.watch()
    begun = process.time
    while process.time < begun + 300:
        again = await process.reconciler.reconcile(KEY)
        assert again is not None
        process.time += max(again, 0.5)
        process.watch()
    gaps = [later - earlier for earlier, later in itertools.pairwise([begun, *reads])]
    soon = [gap for gap, at in zip(gaps, reads, strict=True) if at <= begun + 75]
    assert len(soon) >= 5
    assert max(soon) <= 15
    assert max(gaps) <= 61
    assert len(reads) <= 12


@pytest.mark.fault(
    "A thousand jobs stuck at once",
    "Events are read once for all jobs of a namespace, and within a budget",
)
async def test_events_are_read_within_a_budget(world: World, process: Process) -> None:
    world.apply()
    await process.settle()
    budget = process.reconciler._complaints.budget
    while budget.take():
        pass
    process.time += HINT_AFTER_SECONDS - IDLE_SECONDS
    budget._filled = process.time
    again = await process.reconciler.reconcile(KEY)
    assert ("list", "events") not in world.reads
    assert again == pytest.approx(1.0)


async def test_what_events_said_outlives_a_restart_of_the_operator(
    world: World, process: Process, http: aiohttp.ClientSession
) -> None:
    world.apply()
    await process.settle()
    told = "spec.resources: FailedCreate: exceeded quota; ask for less."
    said = {"reason": "PodsForbidden", "message": told}
    held = [
        each | ({"reason": said["reason"]} if each["type"] == "Ready" else {})
        for each in world.status["conditions"]
    ]
    status = {"status": said | {"conditions": held}}
    world.patch(("finetuningjobs", *KEY), status, only_status=True)
    before = len(world.writes)
    await Process(world, http).settle()
    assert len(world.writes) == before
    assert (world.status["reason"], world.status["message"]) == ("PodsForbidden", told)


async def test_errors_of_the_server_reach_the_queue(world: World, process: Process) -> None:
    world.fail_with = lambda _verb, _kind: ApiError(503, "Unavailable", "try later", after=5)
    world.apply()
    process.watch()
    with pytest.raises(ApiError) as caught:
        await process.reconciler.reconcile(KEY)
    assert caught.value.after == 5
