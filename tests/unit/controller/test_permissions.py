"""The rights of the operator: all that it uses, nothing that it does not, nothing dangerous."""

import aiohttp
import pytest
from tests.unit.controller.objects import SETTINGS, publisher_says, trainer_says, validator_says
from tests.unit.controller.world import KEY, Process, World

from finetuning.controller import naming
from finetuning.controller.election import Election
from finetuning.controller.gateway import ApiError
from finetuning.controller.permissions import PERMISSIONS
from finetuning.controller.settings import MonitoringMode, Settings

ENDS = {
    naming.TRAINING: trainer_says(),
    naming.VALIDATION: validator_says(),
    naming.PUBLISHING: publisher_says("s3://m"),
}
SERVE = {"image": "aim-base", "create": "Service"}
WATCHED = {("watch", kind) for kind in ("finetuningjobs", "jobs", "pods")}
BY_THE_RESYNC = {("list", kind) for kind in ("finetuningjobs", "jobs", "pods")}


def allowed(mode: MonitoringMode) -> set[tuple[str, str]]:
    return {
        (verb, each.resource.partition("/")[0])
        for each in PERMISSIONS
        if mode in each.modes
        for verb in each.verbs
    }


def leave_behind(world: World) -> None:
    """What every other mode could have left."""
    names = {naming.MANAGED_BY_LABEL: naming.MANAGED_BY, naming.COMPONENT_LABEL: naming.METRICS}
    where = {"name": SETTINGS.shared_monitor_name, "namespace": SETTINGS.deployment_namespace}
    owner = {"kind": "FineTuningJob", "uid": "uid-of-a-job", "name": "old", "controller": True}
    for plural in ("servicemonitors", "podmonitors"):
        world.create(plural, {"metadata": {**where, "labels": names}})
    for plural in ("servicemonitors", "services"):
        of_a_job = {"name": "old-metrics", "namespace": "team", "ownerReferences": [owner]}
        world.create(plural, {"metadata": {**of_a_job, "labels": names}})


async def used(mode: MonitoringMode) -> set[tuple[str, str]]:
    """What a life with every kind of trouble calls."""
    world = World()
    leave_behind(world)
    calls: set[tuple[str, str]] = set()

    def note(verb: str, plural: str) -> ApiError | None:
        calls.add((verb, plural))
        return None

    world.fail_with = note
    world.kinds |= {"aimmodels", "aimservices"}
    await live(world, SETTINGS.model_copy(update={"monitoring_mode": mode}))
    assert world.status["validation"]["phase"] == "Passed"
    assert world.status["serving"]["reason"] == "ServingCreated"
    return calls


def deletes(world: World) -> None:
    """Somebody, and what stood in the way besides."""
    for plural, name in (
        ("services", "demo-metrics"),
        ("services", "demo-workers"),
        ("servicemonitors", "demo-metrics"),
    ):
        if world.objects.get((plural, "team", name)):
            world.delete(plural, name)


def changes(world: World) -> None:
    for plural in ("services", "servicemonitors"):
        if ours := world.objects.get((plural, "team", "demo-metrics")):
            ours["spec"]["selector"] = {"changed": "by-hand"}


async def waits_in_a_queue(world: World, process: Process) -> None:
    world.apply(queueName="gpus")
    await process.settle()
    process.time += 9
    await process.settle()
    world.delete("finetuningjobs", "demo")


async def live(world: World, settings: Settings) -> None:
    async with aiohttp.ClientSession() as http:
        for name, plural in (
            ("demo-metrics", "services"),
            ("demo-workers", "services"),
            ("demo-output", "persistentvolumeclaims"),
        ):
            world.create(plural, {"metadata": {"name": name, "namespace": "team"}})
        world.apply(workers=2)
        first = Process(world, http, settings)
        leader = Election(first.gateway, "finetuning-system", "finetuning-operator", "first")
        await leader.win()
        await first.settle()
        await leader.release()
        world.delete("finetuningjobs", "demo")
        world.delete("persistentvolumeclaims", "demo-output")
        world.delete("services", "demo-workers")
        await waits_in_a_queue(world, Process(world, http, settings))
        world.create("servicemonitors", {"metadata": {"name": "demo-metrics", "namespace": "team"}})
        process = Process(world, http, settings)
        world.apply(workers=2)
        await process.settle()
        process.time += 16
        await process.settle()
        world.change(output={"publish": {"form": "Both", "s3": {"uri": "s3://m"}}, "serve": SERVE})
        world.start(naming.TRAINING)
        await process.settle()
        for interferes in (deletes, changes):
            interferes(world)
            process.time += 301
            await process.settle()
        world.change(suspend=True)
        await process.settle()
        world.change(suspend=False)
        process.time += 20
        await process.settle()
        await Process(world, http, settings).settle()
        for known in list(process.cache.jobs):
            process.cache.jobs.drop(known.meta.uid)
        await process.reconciler.reconcile(KEY)
        world.start(naming.TRAINING)
        process.watch()
        for pod in list(process.cache.pods):
            process.cache.pods.drop(pod.meta.uid)
        for part, said in ENDS.items():
            world.start(part)
            world.finish(part, said)
            await process.settle()
        # What is there already is looked at.
        world.annotate("again", naming.SERVE_ANNOTATION)
        await process.settle()


@pytest.mark.parametrize("mode", MonitoringMode)
async def test_every_right_is_used_and_every_call_is_allowed(mode: MonitoringMode) -> None:
    assert await used(mode) | WATCHED | BY_THE_RESYNC == allowed(mode)


def test_nothing_dangerous_is_asked_for() -> None:
    for each in PERMISSIONS:
        assert "*" not in (each.group, each.resource, *each.verbs)
        assert each.resource not in {"secrets", "configmaps", "nodes", "pods/log", "pods/exec"}
        assert not {"deletecollection", "update", "escalate"} & set(each.verbs)


def test_only_what_tells_prometheus_of_a_job_is_ever_deleted() -> None:
    assert {each.resource for each in PERMISSIONS if "delete" in each.verbs} == {
        "services",
        "servicemonitors",
        "podmonitors",
    }
