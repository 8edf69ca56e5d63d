import pytest
from tests.unit.controller.objects import SETTINGS, job_body
from tests.unit.controller.world import KEY, FakeGateway, World

from finetuning.controller import observed
from finetuning.controller.cache import Cache
from finetuning.controller.observed import Key
from finetuning.controller.permissions import PERMISSIONS
from finetuning.controller.resync import Resync
from finetuning.controller.workqueue import WorkQueue


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def cache() -> Cache:
    return Cache()


@pytest.fixture
def queue() -> WorkQueue[Key]:
    return WorkQueue()


@pytest.fixture
def resync(world: World, cache: Cache, queue: WorkQueue[Key]) -> Resync:
    return Resync(cache, FakeGateway(world), queue, SETTINGS.watch_namespaces)


@pytest.mark.fault("Deletion that no watch told", "found by the sweep")
async def test_a_deletion_that_was_missed_is_found_and_looked_at(
    world: World, cache: Cache, queue: WorkQueue[Key], resync: Resync
) -> None:
    cache.customs.put(observed.custom(job_body()))
    await resync.sweep()
    assert cache.custom(KEY) is None
    assert await queue.get() == KEY


async def test_a_sweep_asks_for_a_look_at_every_job_that_is_there(
    world: World, cache: Cache, queue: WorkQueue[Key], resync: Resync
) -> None:
    world.create("finetuningjobs", job_body())
    cache.customs.put(observed.custom(world.get("finetuningjobs", "demo")))
    await resync.sweep()
    assert await queue.get() == KEY
    assert len(cache.customs) == 1


async def test_without_the_definition_there_are_no_jobs(
    world: World, cache: Cache, resync: Resync
) -> None:
    world.kinds.remove("finetuningjobs")
    cache.customs.put(observed.custom(job_body()))
    await resync.sweep()
    assert len(cache.customs) == 0


async def test_everything_that_is_listed_may_be_listed(world: World, resync: Resync) -> None:
    await resync.sweep()
    allowed = {(verb, each.resource) for each in PERMISSIONS for verb in each.verbs}
    assert set(world.reads) <= allowed
