"""What serves a model is created once for each wish, of a good model alone, and then left alone."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from tests.unit.controller.objects import SETTINGS, publisher_says
from tests.unit.controller.story import events
from tests.unit.controller.test_publishing import BAD, DONE, FINAL, GOOD, S3, SHA, trained
from tests.unit.controller.test_publishing import published as copied
from tests.unit.controller.world import KEY, FakeGateway, Process, World

from finetuning.controller import images, naming
from finetuning.controller.gateway import ApiError, Resource
from finetuning.controller.settings import Settings

AIM = ("aimmodels", "aimservices")
SERVE = {"image": "example/aim-base:0.9", "create": "Service"}
PUBLISH = {"form": "Both", "s3": S3}
OUTPUT = {"publish": PUBLISH, "serve": SERVE}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def with_aim() -> World:
    world = World()
    world.kinds |= set(AIM)
    return world


async def published(
    http: aiohttp.ClientSession, world: World | None = None, **serve: Any
) -> Process:
    """A job whose good model is published, of which something is to be created."""
    there = Process(world or with_aim(), http)
    process = await trained(there, publish=PUBLISH, serve={**SERVE, **serve})
    await copied(process)
    return process


def condition(world: World) -> tuple[str, str] | None:
    found = {each["type"]: each for each in world.status["conditions"]}.get("ServingCreated")
    return (found["status"], found["reason"]) if found else None


def ready(world: World) -> str:
    found: str = {e["type"]: e["status"] for e in world.status["conditions"]}["Ready"]
    return found


def there(world: World) -> list[str]:
    return [kind for kind in AIM if world.of(kind)]


async def test_model_and_service_are_created_after_the_copy_is_there(
    http: aiohttp.ClientSession,
) -> None:
    process = await trained(Process(with_aim(), http), publish=PUBLISH, serve=SERVE)
    world = process.world
    assert there(world) == []
    await copied(process)
    assert there(world) == list(AIM)
    model, service = (world.get(kind, KEY[1]) for kind in AIM)
    assert model["apiVersion"] == "aim.eai.amd.com/v1alpha2"
    assert service["spec"] == {"model": {"name": "demo"}}
    for each in (model, service):
        assert "ownerReferences" not in each["metadata"], "it outlives the job"
        assert each["metadata"]["annotations"] == {naming.MANIFEST_ANNOTATION: SHA}
    assert condition(world) == ("True", "ServingCreated")
    assert ready(world) == "True"
    assert events(world)[-1] == ("Normal", "ServingCreated")
    world.delete("finetuningjobs", KEY[1])
    assert there(world) == list(AIM)


async def test_a_model_alone_takes_no_gpus(http: aiohttp.ClientSession) -> None:
    process = await published(http, create="Model")
    assert there(process.world) == ["aimmodels"]
    assert condition(process.world) == ("True", "ServingCreated")


async def test_nothing_is_created_unless_it_is_asked_for(http: aiohttp.ClientSession) -> None:
    process = await published(http, create="Nothing")
    assert there(process.world) == []
    assert condition(process.world) is None
    assert not any(plural in AIM for _, plural in process.world.reads)
    assert process.world.status["serving"]["v1alpha1"]


@pytest.mark.parametrize("policy", ["IfValidated", "Always"])
async def test_a_model_that_failed_is_never_served(
    policy: str, http: aiohttp.ClientSession
) -> None:
    publish = {**PUBLISH, "policy": policy}
    process = await trained(Process(with_aim(), http), BAD, publish=publish, serve=SERVE)
    if policy == "Always":
        await copied(process)
        assert condition(process.world) == ("False", "NotValidated")
    assert there(process.world) == []
    assert ready(process.world) == "False"


@pytest.mark.parametrize("crash", range(1, 20))
async def test_after_a_crash_at_any_write_all_is_there_once(
    crash: int, http: aiohttp.ClientSession
) -> None:
    world = with_aim()
    process = Process(world, http)
    world.crash_after = crash
    happenings: list[Callable[[], None]] = [
        lambda: world.apply(output=OUTPUT),
        lambda: world.start(naming.TRAINING),
        lambda: world.finish(naming.TRAINING, FINAL),
        lambda: world.start(naming.VALIDATION),
        lambda: world.finish(naming.VALIDATION, GOOD),
        lambda: world.start(naming.PUBLISHING),
        lambda: world.finish(naming.PUBLISHING, DONE),
    ]
    for happens in happenings:
        happens()
        process = await process.outlived()
    assert world.crashes == 1, "the story has fewer writes than that"
    assert [len(world.of(kind)) for kind in AIM] == [1, 1]
    assert condition(world) == ("True", "ServingCreated")


async def test_what_somebody_deleted_stays_deleted_until_it_is_asked_for(
    http: aiohttp.ClientSession,
) -> None:
    process = await published(http)
    world = process.world
    world.delete("aimservices", KEY[1])
    world.annotate("1", naming.REVALIDATE_ANNOTATION)
    await process.settle()
    world.start(naming.VALIDATION)
    await process.settle()
    assert condition(world) == ("True", "ServingCreated"), "it stands while the model is judged"
    world.finish(naming.VALIDATION, GOOD)
    await process.settle()
    await copied(process)
    assert there(world) == ["aimmodels"]
    assert condition(world) == ("True", "ServingCreated")
    world.annotate("1", naming.SERVE_ANNOTATION)
    await process.settle()
    assert there(world) == list(AIM)


async def test_a_model_that_fails_later_is_told_and_nothing_is_deleted(
    http: aiohttp.ClientSession,
) -> None:
    process = await published(http)
    world = process.world
    world.annotate("1", naming.REVALIDATE_ANNOTATION)
    await process.settle()
    world.start(naming.VALIDATION)
    await process.settle()
    world.finish(naming.VALIDATION, BAD, code=1)
    await process.settle()
    assert condition(world) == ("False", "NotValidated")
    assert there(world) == list(AIM)
    writes = len(world.writes)
    await Process(world, http).settle()
    assert len(world.writes) == writes


async def test_a_pause_holds_what_would_take_gpus(http: aiohttp.ClientSession) -> None:
    process = await published(http, create="Nothing")
    world = process.world
    world.change(suspend=True, output={"serve": {"create": "Service"}})
    await process.settle()
    assert there(world) == []
    assert condition(world) == ("Unknown", "ServingPending")
    assert "spec.suspend" in world.status["serving"]["message"]
    world.change(suspend=False)
    await process.settle()
    assert there(world) == list(AIM)
    assert condition(world) == ("True", "ServingCreated")


async def test_where_aim_is_missing_the_condition_says_so_once_and_the_model_stays_good(
    http: aiohttp.ClientSession,
) -> None:
    process = await published(http, World())
    world = process.world
    assert condition(world) == ("False", "AIMCRDMissing")
    assert (world.status["phase"], ready(world)) == ("Succeeded", "False")
    assert events(world)[-1] == ("Warning", "AIMCRDMissing")
    reads = len(world.reads)
    assert await process.reconciler.reconcile(KEY) is None
    assert len(world.reads) == reads
    world.kinds |= set(AIM)
    world.annotate("1", naming.SERVE_ANNOTATION)
    await process.settle()
    assert condition(world) == ("True", "ServingCreated")


async def test_a_model_of_another_run_under_the_name_is_left_and_told(
    http: aiohttp.ClientSession,
) -> None:
    first = await published(http)
    world = first.world
    before = world.get("aimmodels", KEY[1])
    world.delete("finetuningjobs", KEY[1])
    other = "d" * 64
    world.apply(output=OUTPUT)
    process = Process(world, http)
    said = [each.replace(SHA, other) for each in (FINAL, GOOD)]
    for part, word in zip((naming.TRAINING, naming.VALIDATION), said, strict=True):
        await process.settle()
        world.start(part)
        await process.settle()
        world.finish(part, word)
    await process.settle()
    await copied(process, publisher_says("s3://models/law", manifestSha256=other))
    assert condition(world) == ("False", "NameConflict")
    assert world.get("aimmodels", KEY[1]) == before
    message = world.status["serving"]["message"]
    assert "kubectl --namespace team delete aimmodel demo" in message


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (403, "Forbidden", "serving.create"),
        (422, "ServingRefused", "spec.output.serve"),
    ],
)
async def test_a_refusal_is_told_with_what_helps(
    code: int, reason: str, words: str, http: aiohttp.ClientSession
) -> None:
    world = with_aim()
    world.fail_with = lambda verb, plural: (
        ApiError(code, "", "no") if (verb, plural) == ("create", "aimservices") else None
    )
    await published(http, world)
    assert condition(world) == ("False", reason)
    assert words in world.status["serving"]["message"]
    assert there(world) == ["aimmodels"]


async def test_an_api_server_that_is_away_for_a_moment_changes_nothing(
    http: aiohttp.ClientSession,
) -> None:
    world = with_aim()
    refused: list[str] = []

    def once(verb: str, plural: str) -> ApiError | None:
        if (verb, plural) == ("create", "aimservices") and not refused:
            refused.append(plural)
            return ApiError(503, "ServiceUnavailable", "etcd has no leader")
        return None

    world.fail_with = once
    await published(http, world)
    assert refused
    assert condition(world) == ("True", "ServingCreated")


DIGEST = "@sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "allowed", "by_digest", "says"),
    [
        ("anything/at-all:1", "", False, ""),
        ("registry.example.com/aim/base:0.9", "registry.example.com/aim", False, ""),
        ("registry.example.com/aim", "other,registry.example.com/aim/", False, ""),
        ("registry.example.com/aim-evil/base", "registry.example.com/aim", False, "is not one of"),
        ("registry:5000/evil", "registry", False, "is not one of registry, which"),
        ("registry:5000/aim/base:1", "registry:5000/aim", False, ""),
        ("evil.example.com/registry.example.com/aim", "registry.example.com", False, "is not one"),
        (f"registry.example.com/aim{DIGEST}", "registry.example.com", True, ""),
        (f"registry.example.com/aim:1{DIGEST}", "registry.example.com/aim", True, ""),
        ("registry.example.com/aim:1", "", True, "has no digest"),
        ("registry.example.com/aim@sha256:12", "", True, "has no digest"),
    ],
)
def test_an_image_is_allowed_by_whole_parts_of_its_path(
    image: str, allowed: str, says: str, *, by_digest: bool
) -> None:
    told = {"serving_images": allowed, "serving_images_by_digest": by_digest}
    found = images.refusal(image, Settings(operator_image="o:1", trainer_image="t:1", **told))
    assert found.startswith(says)
    assert bool(found) is bool(says)


@pytest.mark.parametrize(("version", "is_made"), [("v1alpha1", False), ("v1alpha2", True)])
async def test_an_image_that_is_not_allowed_is_never_run(
    version: str, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, *, is_made: bool
) -> None:
    async def serves(_: FakeGateway, resource: Resource) -> bool:
        return resource.version == version

    monkeypatch.setattr(FakeGateway, "serves", serves)
    settings = SETTINGS.model_copy(update={"serving_images": ("amdenterpriseai",)})
    process = await trained(Process(with_aim(), http, settings), publish=PUBLISH, serve=SERVE)
    await copied(process)
    world = process.world
    assert bool(there(world)) is is_made
    if not is_made:
        assert condition(world) == ("False", "ImageNotAllowed")
        assert "spec.output.serve.image: example/aim-base:0.9" in world.status["serving"]["message"]


async def test_a_webhook_that_does_not_answer_puts_it_off(http: aiohttp.ClientSession) -> None:
    words = "conversion webhook for aim.eai.amd.com/v1alpha2, Kind=AIMModel failed: no endpoints"
    down, calls, world = ApiError(500, "InternalError", words), [], with_aim()

    def silent(verb: str, plural: str) -> ApiError | None:
        if (verb, plural) != ("create", "aimmodels"):
            return None
        calls.append(plural)
        return down

    world.fail_with = silent
    process = await published(http, world)
    process.time += SETTINGS.progress_interval_seconds
    await process.settle()
    assert condition(world) == ("Unknown", "ServingPending")
    assert words in world.status["serving"]["message"]
    assert len(calls) < 10
    world.fail_with = lambda _verb, _plural: None
    process.time += 30
    await process.settle()
    assert there(world) == list(AIM)
    assert condition(world) == ("True", "ServingCreated")
