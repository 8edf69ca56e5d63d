"""What Prometheus needs to find a running job is kept as it should be, and goes at the end."""

import copy
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from tests.unit.controller.objects import SETTINGS, job, job_body, running
from tests.unit.controller.story import FINAL, VALID
from tests.unit.controller.test_monitoring_modes import (
    REASONS,
    WANTED,
    in_mode,
    monitoring_objects,
    ready,
    run_in,
)
from tests.unit.controller.world import KEY, FakeGateway, Process, World
from typing_extensions import override

from finetuning.controller import naming
from finetuning.controller.desired import monitoring
from finetuning.controller.gateway import ApiError
from finetuning.controller.settings import MonitoringMode
from finetuning.controller.stock import Stock, holds

SPOILERS: dict[str, Callable[[World], None]] = {
    "a deleted Service": lambda world: world.delete("services", "demo-metrics"),
    "a deleted monitor": lambda world: world.delete("servicemonitors", "demo-metrics"),
    "a Service that selects nothing": lambda world: of(world, "services")["spec"].update(
        selector={"somebody": "elses"}
    ),
    "a selector with one word more": lambda world: of(world, "services")["spec"]["selector"].update(
        no="pod has this"
    ),
    "a monitor by another port": lambda world: of(world, "servicemonitors")["spec"].update(
        endpoints=[{"port": "else"}]
    ),
    "a label taken off": lambda world: of(world, "servicemonitors")["metadata"]["labels"].clear(),
}


def of(world: World, plural: str) -> dict[str, Any]:
    return world.objects[plural, "team", "demo-metrics"]


async def goes_on(process: Process, seconds: int) -> None:
    """Looks at the job whenever it asks for one."""
    end = process.time + seconds
    while process.time < end:
        process.watch()
        again = await process.reconciler.reconcile(KEY)
        process.time += min(again or 10, 10)


@pytest.mark.parametrize("what", SPOILERS)
async def test_what_is_deleted_or_changed_while_a_job_trains_is_put_right_within_a_minute(
    what: str, world: World, http: aiohttp.ClientSession
) -> None:
    process = await run_in(MonitoringMode.PER_JOB, world, http)
    before = [copy.deepcopy(of(world, plural)) for plural in ("services", "servicemonitors")]
    await goes_on(process, 100)
    # What others add is nobody's business here.
    for plural in ("services", "servicemonitors"):
        of(world, plural)["metadata"]["labels"]["of"] = "somebody"
        of(world, plural)["spec"]["filled-in"] = "by the API server"
    writes = len(world.writes)
    await goes_on(process, 100)
    assert len(world.writes) == writes
    SPOILERS[what](world)
    await goes_on(process, 60)
    for was in before:
        now = of(world, "services" if was["kind"] == "Service" else "servicemonitors")
        assert was["spec"].items() <= now["spec"].items()
        assert was["metadata"]["labels"].items() <= now["metadata"]["labels"].items()
    assert ready(world) == ("True", "ServiceMonitorCreated")
    made = [plural for verb, plural, _ in world.writes[writes:] if verb == "create"]
    assert len([plural for plural in made if plural != "events"]) == 1


async def test_whoever_changes_a_monitor_again_and_again_is_not_fought_for_ever(
    world: World, http: aiohttp.ClientSession
) -> None:
    process = await run_in(MonitoringMode.PER_JOB, world, http)
    for _ in range(60):
        of(world, "servicemonitors")["metadata"]["labels"].clear()
        await goes_on(process, 20)
    deleted = [name for verb, *name in world.writes if verb == "delete"]
    assert deleted == [["servicemonitors", "demo-metrics"]] * 2, "in 20 minutes"


@pytest.mark.parametrize(
    "changes",
    [
        {"monitoring_extra_labels": {"team": "b"}},
        {"monitoring_extra_labels": {}},
        {"monitoring_interval": "5s"},
    ],
)
async def test_new_settings_reach_the_monitors_of_running_jobs_with_the_next_start(
    changes: dict[str, Any], world: World, http: aiohttp.ClientSession
) -> None:
    first = Process(
        world, http, in_mode(MonitoringMode.PER_JOB, monitoring_extra_labels={"release": "a"})
    )
    world.apply()
    await first.settle()
    world.start(naming.TRAINING)
    await first.settle()
    assert of(world, "servicemonitors")["metadata"]["labels"]["release"] == "a"
    settings = in_mode(MonitoringMode.PER_JOB, **changes)
    for _ in range(2):
        await Process(world, http, settings).settle()
    found = of(world, "servicemonitors")
    labels = settings.monitoring_extra_labels
    assert labels.items() <= found["metadata"]["labels"].items()
    assert ("release" in found["metadata"]["labels"]) == ("release" in labels)
    assert found["spec"]["endpoints"][0]["interval"] == settings.monitoring_interval
    assert [verb for verb, plural, _ in world.writes if plural == "servicemonitors"] == [
        "create",
        "delete",
        "create",
    ]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (MonitoringMode.PER_JOB, "ServiceMonitorCRDMissing"),
        (MonitoringMode.SHARED, "ServiceMonitorCRDMissing"),
        (MonitoringMode.POD_MONITOR, "PodMonitorCRDMissing"),
    ],
)
async def test_a_definition_that_goes_away_is_told_within_a_minute_and_so_is_its_return(
    mode: MonitoringMode, reason: str, world: World, http: aiohttp.ClientSession
) -> None:
    process = await run_in(mode, world, http)
    await goes_on(process, 100)
    kinds = {"servicemonitors", "podmonitors"}
    world.kinds -= kinds
    for name in [each for each in world.objects if each[0] in kinds]:
        del world.objects[name]
    await process.keeper.attempt()
    await goes_on(process, 60)
    assert ready(world) == ("False", reason)
    world.kinds |= kinds
    await process.keeper.attempt()
    await goes_on(process, 60)
    assert ready(world) == REASONS[mode]
    assert monitoring_objects(world) == WANTED[mode]


async def test_a_hundred_running_jobs_are_looked_at_by_one_list_of_each_kind(
    world: World, http: aiohttp.ClientSession
) -> None:
    process = Process(world, http, in_mode(MonitoringMode.PER_JOB))
    names = [f"job-{number}" for number in range(100)]
    for name in names:
        world.create("finetuningjobs", job_body(name=name, uid=f"uid-{name}"))
    await process.keeper.attempt()
    for _ in range(3):
        process.watch()
        for name in names:
            await process.reconciler.reconcile((KEY[0], name))
        world.run_jobs()
        world.set_pods(naming.TRAINING, "Running", running())
        process.time += 3
    world.reads.clear()
    for _ in range(30):
        process.watch()
        for name in names:
            await process.reconciler.reconcile((KEY[0], name))
        process.time += 10
    assert set(world.reads) == {("list", "services"), ("list", "servicemonitors")}
    assert len(world.reads) <= 2 * 300 / 30


async def test_where_nothing_may_be_listed_jobs_are_monitored_all_the_same(
    world: World, http: aiohttp.ClientSession
) -> None:
    refusal = ApiError(403, "Forbidden", "no right")
    world.fail_with = lambda verb, _kind: refusal if verb == "list" else None
    process = await run_in(MonitoringMode.PER_JOB, world, http)
    assert ready(world) == REASONS[MonitoringMode.PER_JOB]
    await goes_on(process, 100)
    assert ready(world) == REASONS[MonitoringMode.PER_JOB]
    assert monitoring_objects(world) == WANTED[MonitoringMode.PER_JOB]


async def test_the_monitor_goes_when_all_is_said_and_what_is_there_is_not_asked_for(
    world: World, http: aiohttp.ClientSession
) -> None:
    process = await run_in(MonitoringMode.PER_JOB, world, http)
    world.finish(naming.TRAINING, FINAL)
    await process.settle()
    assert monitoring_objects(world) == WANTED[MonitoringMode.PER_JOB], "it is being validated"
    refusal = ApiError(403, "Forbidden", "no right")
    world.fail_with = lambda verb, _kind: refusal if verb == "delete" else None
    world.start(naming.VALIDATION)
    world.finish(naming.VALIDATION, VALID)
    await process.settle()
    assert world.status["phase"] == "Succeeded"
    assert monitoring_objects(world) == WANTED[MonitoringMode.PER_JOB]
    world.fail_with = lambda _verb, _kind: None
    # Another life of the operator finds it, too.
    process = Process(world, http, in_mode(MonitoringMode.PER_JOB))
    await process.settle()
    await process.reconciler.reconcile(KEY)
    assert monitoring_objects(world) == {("services", "team", "demo-metrics")}
    reads, writes = len(world.reads), len(world.writes)
    await process.reconciler.reconcile(KEY)
    assert (len(world.reads), len(world.writes)) == (reads, writes)


async def test_the_monitor_of_a_failed_job_goes_too(
    world: World, http: aiohttp.ClientSession
) -> None:
    process = await run_in(MonitoringMode.PER_JOB, world, http)
    world.finish(naming.TRAINING, "", code=2)
    await process.settle()
    assert world.status["phase"] == "Failed"
    assert monitoring_objects(world) == {("services", "team", "demo-metrics")}


class Slow(FakeGateway):
    """Somebody makes `other` after the server has read what it answers to a list."""

    def __init__(self, world: World, other: dict[str, Any]) -> None:
        super().__init__(world)
        self.other, self.stock = other, Stock(self, SETTINGS, lambda: 1000.0)

    @override
    async def _call(self, verb: str, resource: Any, *call: Any, **more: Any) -> dict[str, Any]:
        found = await super()._call(verb, resource, *call, **more)
        if (verb, resource.plural) == ("list", "services"):
            await self.stock.make(self.other)
        return found


async def test_what_is_made_during_a_list_is_not_taken_for_deleted(world: World) -> None:
    made = monitoring.service(job())
    stock = Slow(world, made).stock
    await stock.renew()
    found = stock.find(made)
    assert found is not None
    assert holds(found, made)
    await stock.remove(made)
    assert (stock.find(made), world.of("services")) == (None, [])
