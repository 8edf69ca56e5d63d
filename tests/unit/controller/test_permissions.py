"""The rights of the operator: all that it uses, nothing that it does not, nothing dangerous."""

import aiohttp
from tests.unit.controller.objects import trainer_says, validator_says
from tests.unit.controller.world import KEY, Process, World

from finetuning.controller import naming
from finetuning.controller.gateway import ApiError
from finetuning.controller.permissions import PERMISSIONS

WATCHED = {("watch", kind) for kind in ("finetuningjobs", "jobs", "pods")}
BY_THE_RESYNC = {("list", kind) for kind in ("finetuningjobs", "jobs", "pods")}
BY_KOPF = {(verb, "customresourcedefinitions") for verb in ("list", "watch")}


def allowed() -> set[tuple[str, str]]:
    return {(verb, each.resource.partition("/")[0]) for each in PERMISSIONS for verb in each.verbs}


async def used() -> set[tuple[str, str]]:
    """What a life with every kind of trouble calls."""
    world = World()
    calls: set[tuple[str, str]] = set()

    def note(verb: str, plural: str) -> ApiError | None:
        calls.add((verb, plural))
        return None

    world.fail_with = note
    async with aiohttp.ClientSession() as http:
        for name, plural in (
            ("demo-metrics", "services"),
            ("demo-output", "persistentvolumeclaims"),
        ):
            world.create(plural, {"metadata": {"name": name, "namespace": "team"}})
        world.apply()
        await Process(world, http).settle()
        world.delete("finetuningjobs", "demo")
        world.delete("persistentvolumeclaims", "demo-output")
        world.create("servicemonitors", {"metadata": {"name": "demo-metrics", "namespace": "team"}})
        process = Process(world, http)
        world.apply()
        await process.settle()
        process.time += 16
        await process.settle()
        world.start(naming.TRAINING)
        await process.settle()
        world.delete("services", "demo-metrics")
        process.time += 61
        await process.settle()
        world.change(suspend=True)
        await process.settle()
        world.change(suspend=False)
        process.time += 20
        await process.settle()
        await Process(world, http).settle()
        for known in list(process.cache.jobs):
            process.cache.jobs.drop(known.meta.uid)
        await process.reconciler.reconcile(KEY)
        world.start(naming.TRAINING)
        process.watch()
        for pod in list(process.cache.pods):
            process.cache.pods.drop(pod.meta.uid)
        world.finish(naming.TRAINING, trainer_says())
        await process.settle()
        world.start(naming.VALIDATION)
        world.finish(naming.VALIDATION, validator_says())
        await process.settle()
    assert world.status["validation"]["phase"] == "Passed"
    return calls


async def test_every_right_is_used_and_every_call_is_allowed() -> None:
    assert await used() | WATCHED | BY_THE_RESYNC | BY_KOPF == allowed()


def test_nothing_dangerous_is_asked_for() -> None:
    for each in PERMISSIONS:
        assert "*" not in (each.group, each.resource, *each.verbs)
        assert each.resource not in {"secrets", "configmaps", "nodes", "pods/log", "pods/exec"}
        assert not {"delete", "deletecollection", "update", "escalate"} & set(each.verbs)
