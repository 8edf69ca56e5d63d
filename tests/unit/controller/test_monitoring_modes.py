"""One way for Prometheus to find the jobs at a time, whatever was there before."""

from collections.abc import AsyncIterator
from itertools import permutations
from typing import Any

import aiohttp
import pytest
from pydantic import BaseModel, ValidationError
from tests.unit.controller.objects import SETTINGS, job_body, running
from tests.unit.controller.story import STORY, tell
from tests.unit.controller.world import KEY, Process, World

from finetuning.artifacts.models import GpuState, TrainingState
from finetuning.controller import naming
from finetuning.controller.desired import monitoring
from finetuning.controller.gateway import ApiError
from finetuning.controller.monitoring_mode import PROBE_SECONDS, RECHECK_SECONDS
from finetuning.controller.settings import MonitoringMode, Settings
from finetuning.monitoring.collector import Identity, families
from finetuning.monitoring.source import Snapshot

SYSTEM = SETTINGS.deployment_namespace
SHARED = SETTINGS.shared_monitor_name
DEPLOYMENT = {"metadata": {"name": SETTINGS.deployment_name, "namespace": SYSTEM, "uid": "uid-op"}}
KINDS = ("services", "servicemonitors", "podmonitors")

WANTED = {
    MonitoringMode.PER_JOB: {
        ("services", "team", "demo-metrics"),
        ("servicemonitors", "team", "demo-metrics"),
    },
    MonitoringMode.SHARED: {
        ("services", "team", "demo-metrics"),
        ("servicemonitors", SYSTEM, SHARED),
    },
    MonitoringMode.POD_MONITOR: {("podmonitors", SYSTEM, SHARED)},
    MonitoringMode.NONE: set[tuple[str, str, str]](),
}
REASONS = {
    MonitoringMode.PER_JOB: ("True", "ServiceMonitorCreated"),
    MonitoringMode.SHARED: ("True", "ServiceMonitorShared"),
    MonitoringMode.POD_MONITOR: ("True", "PodMonitorShared"),
    MonitoringMode.NONE: ("False", "MonitoringDisabled"),
}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def world() -> World:
    world = World()
    world.create("deployments", DEPLOYMENT)
    return world


def in_mode(mode: MonitoringMode, **changes: Any) -> Settings:
    return SETTINGS.model_copy(update={"monitoring_mode": mode, **changes})


def monitoring_objects(world: World) -> set[tuple[str, str, str]]:
    return {name for name in world.objects if name[0] in KINDS}


def ready(world: World, name: str = "demo") -> tuple[str, str]:
    """Status and reason of MonitoringReady."""
    found = world.get("finetuningjobs", name).get("status") or {}
    conditions = {each["type"]: each for each in found.get("conditions", ())}
    condition = conditions.get("MonitoringReady", {})
    return (condition.get("status", ""), condition.get("reason", ""))


async def run_in(mode: MonitoringMode, world: World, http: aiohttp.ClientSession) -> Process:
    """A job in a fresh cluster, in training."""
    process = Process(world, http, in_mode(mode))
    world.apply()
    await process.settle()
    world.start(naming.TRAINING)
    await process.settle()
    return process


@pytest.mark.parametrize("mode", MonitoringMode)
async def test_each_mode_makes_its_own_objects_and_says_so(
    mode: MonitoringMode, world: World, http: aiohttp.ClientSession
) -> None:
    await run_in(mode, world, http)
    assert monitoring_objects(world) == WANTED[mode]
    assert ready(world) == REASONS[mode]


@pytest.mark.parametrize(
    ("mode", "own"),
    [
        (MonitoringMode.PER_JOB, {"services", "servicemonitors"}),
        (MonitoringMode.SHARED, {"services"}),
        (MonitoringMode.POD_MONITOR, set[str]()),
        (MonitoringMode.NONE, set[str]()),
    ],
)
async def test_a_job_costs_five_writes_and_one_for_each_object_that_its_mode_gives_it(
    mode: MonitoringMode, own: set[str], world: World, http: aiohttp.ClientSession
) -> None:
    process = Process(world, http, in_mode(mode))
    await process.keeper.attempt()
    world.apply(output={"storage": {"claimName": "results"}})
    process.watch()
    await process.reconciler.reconcile(KEY)
    await tell(world, process, STORY[2:])
    assert world.status["phase"] == "Succeeded"
    made = [plural for verb, plural, name in world.writes
            if name.startswith("demo") and plural != "events" and verb != "delete"]  # fmt: skip
    statuses = made.count("finetuningjobs")
    assert sorted(made) == sorted([*own, "jobs", "jobs", *["finetuningjobs"] * statuses])
    assert statuses == 3


@pytest.mark.parametrize(("old", "new"), list(permutations(MonitoringMode, 2)))
async def test_a_switch_leaves_one_mode_also_on_a_running_job(
    old: MonitoringMode, new: MonitoringMode, world: World, http: aiohttp.ClientSession
) -> None:
    await run_in(old, world, http)
    successor = Process(world, http, in_mode(new))
    await successor.settle()
    assert monitoring_objects(world) == WANTED[new]
    assert ready(world) == REASONS[new]
    before = len(world.writes)
    await Process(world, http, in_mode(new)).settle()
    assert len(world.writes) == before


async def test_at_no_moment_of_a_switch_two_modes_hold(
    world: World, http: aiohttp.ClientSession
) -> None:
    await run_in(MonitoringMode.PER_JOB, world, http)
    seen: list[set[str]] = []

    def look(_verb: str, _plural: str) -> None:
        monitors = {name for name in monitoring_objects(world) if name[0] != "services"}
        seen.append({name[2] for name in monitors})

    world.fail_with = look
    await Process(world, http, in_mode(MonitoringMode.SHARED)).settle()
    assert {SHARED, "demo-metrics"} not in seen
    assert {SHARED} in seen


async def test_jobs_wait_until_the_other_modes_monitor_can_be_removed(
    world: World, http: aiohttp.ClientSession
) -> None:
    await Process(world, http, in_mode(MonitoringMode.SHARED)).settle()
    refusal = ApiError(403, "Forbidden", "servicemonitors cannot be deleted")
    world.fail_with = lambda verb, _kind: refusal if verb == "delete" else None
    process = await run_in(MonitoringMode.PER_JOB, world, http)
    assert ready(world) == ("False", "Forbidden")
    assert world.status["phase"] == "Running"
    assert monitoring_objects(world) == {("servicemonitors", SYSTEM, SHARED)}
    world.fail_with = lambda _verb, _kind: None
    process.time += 61
    await process.settle()
    assert monitoring_objects(world) == WANTED[MonitoringMode.PER_JOB]
    assert ready(world)[0] == "True"


@pytest.mark.parametrize("mode", [MonitoringMode.POD_MONITOR, MonitoringMode.NONE])
async def test_what_only_looks_like_ours_is_left_alone(
    mode: MonitoringMode, world: World, http: aiohttp.ClientSession
) -> None:
    labels = {naming.MANAGED_BY_LABEL: naming.MANAGED_BY, naming.COMPONENT_LABEL: naming.METRICS}
    pod = {"kind": "Pod", "uid": "uid-of-a-pod", "name": "x", "controller": True}
    world.create(
        "services",
        {
            "metadata": {
                "name": "a",
                "namespace": "team",
                "labels": labels,
                "ownerReferences": [pod],
            }
        },
    )
    world.create("servicemonitors", {"metadata": {"name": "b", "namespace": "x", "labels": labels}})
    world.create("servicemonitors", {"metadata": {"name": SHARED, "namespace": SYSTEM}})
    before = monitoring_objects(world)
    await Process(world, http, in_mode(mode)).settle()
    assert before <= monitoring_objects(world)


async def test_somebody_elses_monitor_of_that_name_is_told_to_every_job(
    world: World, http: aiohttp.ClientSession
) -> None:
    foreign = world.create("servicemonitors", {"metadata": {"name": SHARED, "namespace": SYSTEM}})
    await run_in(MonitoringMode.SHARED, world, http)
    assert ready(world) == ("False", "NameConflict")
    assert world.objects["servicemonitors", SYSTEM, SHARED] == foreign


async def test_new_settings_reach_the_shared_monitor_with_the_next_start(
    world: World, http: aiohttp.ClientSession
) -> None:
    for labels in ({"release": "a"}, {"team": "b"}):
        settings = in_mode(MonitoringMode.SHARED, monitoring_extra_labels=labels)
        await Process(world, http, settings).settle()
        found = world.objects["servicemonitors", SYSTEM, SHARED]
        wanted = monitoring.shared_monitor(settings, "uid-op")
        assert found["metadata"]["labels"] == wanted["metadata"]["labels"]
        assert labels.items() <= found["metadata"]["labels"].items()
        assert found["metadata"]["ownerReferences"][0]["uid"] == "uid-op"
    before = len(world.writes)
    await Process(world, http, settings).settle()
    assert len(world.writes) == before


async def test_a_shared_monitor_that_somebody_deletes_comes_back(
    world: World, http: aiohttp.ClientSession
) -> None:
    process = await run_in(MonitoringMode.POD_MONITOR, world, http)
    world.objects.pop(("podmonitors", SYSTEM, SHARED))
    process.time += RECHECK_SECONDS
    await process.settle()
    assert monitoring_objects(world) == WANTED[MonitoringMode.POD_MONITOR]


async def test_outside_a_cluster_nobody_owns_the_shared_monitor(
    http: aiohttp.ClientSession,
) -> None:
    world = World()
    await Process(world, http, in_mode(MonitoringMode.SHARED)).settle()
    assert "ownerReferences" not in world.objects["servicemonitors", SYSTEM, SHARED]["metadata"]


async def seconds_until_noticed(process: Process, world: World, appears: int) -> int:
    """Seconds from the appearance of the kinds until both jobs are monitored."""
    begun, keep = process.time, process.time
    looks = {(KEY[0], name): process.time for name in ("demo", "other")}
    while process.time < begun + appears + 300:
        if process.time >= begun + appears:
            world.kinds |= {"servicemonitors", "podmonitors"}
        if process.time >= keep:
            keep = process.time + await process.keeper.attempt()
        process.watch()
        for key, due in looks.items():
            if process.time >= due:
                again = await process.reconciler.reconcile(key)
                looks[key] = process.time + (3600 if again is None else again)
        if all(ready(world, name)[0] == "True" for _, name in looks):
            return int(process.time - begun) - appears
        process.time += 1
    raise AssertionError("never noticed")


@pytest.mark.parametrize(
    "mode", [MonitoringMode.PER_JOB, MonitoringMode.SHARED, MonitoringMode.POD_MONITOR]
)
@pytest.mark.parametrize("appears", [5, 9, 10, 11, 33, 47, 61])
async def test_a_definition_that_comes_later_is_noticed_in_twice_the_time_between_two_looks(
    mode: MonitoringMode, appears: int, http: aiohttp.ClientSession
) -> None:
    world = World(with_monitoring=False)
    world.create("deployments", DEPLOYMENT)
    settings = in_mode(mode, progress_interval_seconds=3600)
    process = Process(world, http, settings)
    for name in ("demo", "other"):
        body = job_body(name=name, uid=f"uid-{name}")
        world.create("finetuningjobs", body)
    for _ in range(3):
        process.watch()
        for name in ("demo", "other"):
            await process.reconciler.reconcile((KEY[0], name))
        world.run_jobs()
        world.set_pods(naming.TRAINING, "Running", running())
        process.time += 3
    assert await seconds_until_noticed(process, world, appears) <= 2 * PROBE_SECONDS + 1


@pytest.mark.parametrize("mode", MonitoringMode)
async def test_what_stands_in_the_way_is_counted_by_its_reason(
    mode: MonitoringMode, http: aiohttp.ClientSession
) -> None:
    process = await run_in(mode, World(with_monitoring=False), http)
    counted = {
        sample.labels["reason"]
        for family in process.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "finetuning_operator_monitor_errors_total" and sample.value
    }
    expected = {
        MonitoringMode.PER_JOB: {"ServiceMonitorCRDMissing"},
        MonitoringMode.SHARED: {"ServiceMonitorCRDMissing"},
        MonitoringMode.POD_MONITOR: {"PodMonitorCRDMissing"},
        MonitoringMode.NONE: set[str](),
    }
    assert counted == expected[mode]


async def test_an_api_server_that_fails_is_tried_again(
    world: World, http: aiohttp.ClientSession
) -> None:
    down = ApiError(503, "ServiceUnavailable", "later")
    world.fail_with = lambda _verb, kind: down if kind == "podmonitors" else None
    process = Process(world, http, in_mode(MonitoringMode.POD_MONITOR))
    assert await process.keeper.attempt() == 10
    world.fail_with = lambda _verb, _kind: None
    assert await process.keeper.attempt() == RECHECK_SECONDS


def test_the_selectors_reach_the_services_and_pods_of_every_job() -> None:
    watched = in_mode(MonitoringMode.SHARED, watch_namespaces=("a", "b"))
    everywhere = monitoring.shared_monitor(in_mode(MonitoringMode.SHARED), None)["spec"]
    assert everywhere["namespaceSelector"] == {"any": True}
    named = monitoring.shared_monitor(watched, None)["spec"]
    assert named["namespaceSelector"] == {"matchNames": ["a", "b"]}


def filled(model: type[BaseModel], **given: Any) -> dict[str, Any]:
    """Every number of a model, so that whatever the exporter can show is there."""
    kinds = {name: str(field.annotation) for name, field in model.model_fields.items()}
    numbers = {name for name, kind in kinds.items() if "int" in kind or "float" in kind}
    lists = {name for name, kind in kinds.items() if "list" in kind}
    return {name: [1] if name in lists else 1 for name in numbers} | given


def test_the_limits_are_never_reached_by_our_own_exporter() -> None:
    long = {"uuid": "u" * 64, "name": "n" * 128}
    gpus = [filled(GpuState, index=index, **long) for index in range(64)]
    state = TrainingState.model_validate(filled(TrainingState, state="training", gpus=gpus))
    identity = Identity("j" * 400, "m" * 400, "lora", "1", "3")
    samples = [each for family in families(Snapshot(state, 0), identity) for each in family.samples]
    assert len(samples) > 64 * 4
    added = 7  # namespace, pod, service, container, endpoint, job, instance
    needed = {
        "monitoring_sample_limit": len(samples),
        "monitoring_label_limit": max(len(each.labels) for each in samples) + added,
        "monitoring_label_value_length_limit": max(
            len(value.encode()) for each in samples for value in each.labels.values()
        ),
    }
    for field, most in needed.items():
        # Whoever sets the least that the settings allow still loses no scrape.
        with pytest.raises(ValidationError):
            Settings(operator_image="o", trainer_image="t", **{field: most - 1})
