"""A judged model is published once for each wish, and never without the verdict that it needs."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from tests.unit.controller.objects import ENDED, publisher_says, trainer_says, validator_says
from tests.unit.controller.story import events
from tests.unit.controller.world import BEGINNING, KEY, Process, World

from finetuning.controller import naming, observed
from finetuning.controller.gateway import ApiError

SHA = "c" * 64
FINAL = trainer_says(step=100, totalSteps=100, loss=0.5, manifestSha256=SHA)
GOOD, BAD = validator_says(manifestSha256=SHA), validator_says("model_output", manifestSha256=SHA)
PLACE = "s3://models/law"
DONE = publisher_says(PLACE, manifestSha256=SHA)
S3 = {"uri": PLACE, "endpoint": "http://minio:9000", "secretName": "store"}
FIRST, SECOND = "demo-publish", "demo-publish-2"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def judged(http: aiohttp.ClientSession) -> Process:
    """A job whose model has passed and is about to be published."""
    return await trained(Process(World(), http), publish={"s3": S3})


async def trained(process: Process, said: str = GOOD, **output: Any) -> Process:
    world = process.world
    world.apply(output=output)
    await process.settle()
    world.start(naming.TRAINING)
    await process.settle()
    world.finish(naming.TRAINING, FINAL)
    await process.settle()
    world.start(naming.VALIDATION)
    await process.settle()
    world.finish(naming.VALIDATION, said, code=0 if said == GOOD else 1)
    await process.settle()
    return process


async def published(process: Process, said: str = DONE, code: int = 0) -> None:
    process.world.start(naming.PUBLISHING)
    await process.settle()
    process.world.finish(naming.PUBLISHING, said, code)
    await process.settle()


def jobs(world: World) -> list[str]:
    names = [raw["metadata"]["name"] for raw in world.of("jobs")]
    return sorted(name for name in names if naming.publication(KEY[1], name))


def condition(world: World) -> tuple[str, str]:
    found = {each["type"]: each for each in world.status["conditions"]}["Published"]
    return found["status"], found["reason"]


async def test_a_model_that_passed_is_published_after_its_verdict(judged: Process) -> None:
    world = judged.world
    assert jobs(world) == [FIRST]
    assert condition(world) == ("Unknown", "Publishing")
    args = world.get("jobs", FIRST)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[-2:] == ["--manifest-sha256", SHA]
    await published(judged)
    found = world.status["publish"]
    assert (found["phase"], found["attempt"], found["jobName"]) == ("Published", 1, FIRST)
    assert found["copies"][0]["location"] == PLACE
    assert (found["manifestSha256"], found["completionTime"]) == (SHA, ENDED)
    assert condition(world) == ("True", "Published")
    assert world.status["phase"] == "Succeeded"
    assert events(world)[-1] == ("Normal", "Published")


async def test_a_key_to_sign_with_reaches_the_publishing_pod_alone(
    http: aiohttp.ClientSession,
) -> None:
    key = {"name": "signing", "key": "key.pem"}
    process = await trained(Process(World(), http), publish={"s3": S3, "signingKeySecretRef": key})
    pods = {raw["metadata"]["name"]: json.dumps(raw["spec"]) for raw in process.world.of("jobs")}
    assert [name for name, text in pods.items() if "FINETUNING_SIGNING_KEY" in text] == [FIRST]
    (container,) = json.loads(pods[FIRST])["template"]["spec"]["containers"]
    assert "--sign" in container["args"]
    env = {each["name"]: each.get("valueFrom") for each in container["env"]}
    assert env["FINETUNING_SIGNING_KEY"] == {"secretKeyRef": key}


async def test_publishing_costs_two_writes_and_no_read(judged: Process) -> None:
    await published(judged)
    world = judged.world
    writes = [each for each in world.writes if each[1] != "events"]
    assert writes[-4:] == [
        ("patch", "finetuningjobs", "demo"),  # the verdict, and that it is being published
        ("create", "jobs", FIRST),
        ("patch", "finetuningjobs", "demo"),  # published
        ("delete", "servicemonitors", "demo-metrics"),
    ]
    assert world.reads == BEGINNING
    before = len(world.writes)
    assert await judged.reconciler.reconcile(KEY) is None
    assert len(world.writes) == before


@pytest.mark.parametrize("crash", range(1, 16))
async def test_after_a_crash_at_any_write_the_model_is_published_once(
    crash: int, http: aiohttp.ClientSession
) -> None:
    world = World()
    process = Process(world, http)
    world.crash_after = crash
    happenings: list[Callable[[], None]] = [
        lambda: world.apply(output={"publish": {"s3": S3}}),
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
    assert world.status["publish"]["phase"] == "Published"
    assert jobs(world) == [FIRST]


async def test_a_model_that_failed_is_not_published_unless_the_policy_says_so(
    http: aiohttp.ClientSession,
) -> None:
    process = await trained(Process(World(), http), BAD, publish={"s3": S3})
    world = process.world
    assert jobs(world) == []
    assert condition(world) == ("False", "NotValidated")
    assert world.status["phase"] == "Succeeded"
    assert await process.reconciler.reconcile(KEY) is None
    world.change(output={"publish": {"policy": "Always"}})
    await process.settle()
    assert jobs(world) == [FIRST]
    await published(process)
    assert condition(world) == ("True", "Published")


async def test_without_a_validation_the_policy_always_publishes_what_was_trained(
    http: aiohttp.ClientSession,
) -> None:
    process = Process(World(), http)
    world = process.world
    publish = {"s3": S3, "policy": "Always"}
    world.apply(output={"publish": publish}, validation={"enabled": False})
    await process.settle()
    world.start(naming.TRAINING)
    await process.settle()
    world.finish(naming.TRAINING, FINAL)
    await process.settle()
    assert jobs(world) == [FIRST]
    args = world.get("jobs", FIRST)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert SHA in args


async def test_a_failure_is_told_with_its_reason_and_tried_anew_when_somebody_asks(
    judged: Process,
) -> None:
    world = judged.world
    why = "s3://models/law: http://minio:9000 refuses it"
    said = publisher_says(reason="PlaceRefused", message=why, manifestSha256=SHA)
    await published(judged, said, code=2)
    found = world.status["publish"]
    assert (found["phase"], found["reason"]) == ("Failed", "PlaceRefused")
    assert condition(world) == ("False", "PublishFailed")
    assert events(world)[-1] == ("Warning", "PublishFailed")
    assert why in world.of("events")[-1]["message"]
    assert world.status["phase"] == "Succeeded", "the model is there and good"
    assert jobs(world) == [FIRST]
    world.annotate("the-key-is-mended", naming.REPUBLISH_ANNOTATION)
    await judged.settle()
    assert jobs(world) == [FIRST, SECOND]
    assert condition(world) == ("Unknown", "Publishing")
    await published(judged)
    assert condition(world) == ("True", "Published")
    assert world.status["publish"]["attempt"] == 2


async def test_another_place_is_published_to_and_the_old_copy_stays_told_until_then(
    judged: Process,
) -> None:
    world = judged.world
    await published(judged)
    world.change(output={"publish": {"s3": {"uri": "s3://models/other"}}})
    await judged.settle()
    assert jobs(world) == [FIRST, SECOND]
    assert world.status["publish"]["copies"][0]["location"] == PLACE
    await published(judged, publisher_says("s3://models/other", manifestSha256=SHA))
    assert [each["location"] for each in world.status["publish"]["copies"]] == ["s3://models/other"]


async def test_an_edit_while_it_is_published_suspends_the_job_of_the_older_wish(
    judged: Process,
) -> None:
    world = judged.world
    world.start(naming.PUBLISHING)
    await judged.settle()
    world.change(output={"publish": {"form": "Both"}})
    await judged.settle()
    assert world.get("jobs", FIRST)["spec"]["suspend"] is True
    assert jobs(world) == [FIRST, SECOND]


async def test_publishing_that_is_turned_off_meanwhile_ends(judged: Process) -> None:
    world = judged.world
    world.start(naming.PUBLISHING)
    await judged.settle()
    world.change(output={"publish": {"policy": "Never"}})
    await judged.settle()
    assert world.get("jobs", FIRST)["spec"]["suspend"] is True
    assert condition(world) == ("False", "PublishSkipped")
    world.change(output={"publish": {"policy": "IfValidated"}})
    await judged.settle()
    assert jobs(world) == [FIRST, SECOND]


async def test_a_newer_verdict_is_shown_by_a_newer_copy_and_a_bad_one_by_none(
    judged: Process,
) -> None:
    world = judged.world
    await published(judged)
    world.annotate("again")
    await judged.settle()
    assert condition(world) == ("True", "Published"), "the copy stands while it is judged"
    world.start(naming.VALIDATION)
    await judged.settle()
    world.finish(naming.VALIDATION, GOOD)
    await judged.settle()
    assert jobs(world) == [FIRST, SECOND]
    await published(judged)
    world.annotate("once more")
    await judged.settle()
    world.start(naming.VALIDATION)
    await judged.settle()
    world.finish(naming.VALIDATION, BAD, code=1)
    await judged.settle()
    assert jobs(world) == [FIRST, SECOND]
    assert condition(world) == ("False", "NotValidated")
    assert world.status["publish"]["copies"][0]["location"] == PLACE, "it is still out there"


async def test_a_job_that_cannot_be_made_is_told_and_tried_again(
    http: aiohttp.ClientSession,
) -> None:
    world = World()
    refusing = ApiError(403, "Forbidden", "exceeded quota: count/jobs.batch=2")

    def fail(verb: str, plural: str) -> ApiError | None:
        full = (verb, plural) == ("create", "jobs") and len(world.of("jobs")) > 1
        return refusing if full else None

    world.fail_with = fail
    process = await trained(Process(world, http), publish={"s3": S3})
    process.time += 20
    await process.settle()
    assert condition(world) == ("Unknown", "PublishPending")
    assert "exceeded quota" in json.dumps(world.status["publish"])
    world.fail_with = lambda _verb, _plural: None
    process.time += 60
    await process.settle()
    assert jobs(world) == [FIRST]


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("Killed", 137, "exit code 137. Killed"),
        ("", 1, "exit code 1. It left no message."),
        (publisher_says(), 0, "exit code 0"),
        ('{"kind": "training"}', 0, "exit code 0"),
    ],
)
async def test_words_that_prove_nothing_never_count_as_published(
    judged: Process, said: str, code: int, words: str
) -> None:
    await published(judged, said, code)
    world = judged.world
    assert condition(world) == ("False", "PublishFailed")
    assert words in world.status["publish"]["message"]


async def test_keys_of_a_registry_are_in_the_publishing_pod_alone(
    http: aiohttp.ClientSession,
) -> None:
    uri = "oci://registry.example.com/models/law:v1"
    process = await trained(
        Process(World(), http), publish={"s3": S3, "oci": {"uri": uri, "secretName": "writer"}}
    )
    having = [
        each["metadata"]["name"] for each in process.world.of("jobs") if "writer" in str(each)
    ]
    assert having == [FIRST]
    container = process.world.get("jobs", FIRST)["spec"]["template"]["spec"]["containers"][0]
    keys = {"secretKeyRef": {"name": "writer", "key": ".dockerconfigjson"}}
    assert {"name": "DOCKER_AUTH_CONFIG", "valueFrom": keys} in container["env"]
    assert container["args"][-4:] == ["--oci", uri, "--manifest-sha256", SHA]
    await published(process, publisher_says(PLACE, uri, manifestSha256=SHA))
    assert [each["location"] for each in process.world.status["publish"]["copies"]] == [PLACE, uri]


async def test_the_copy_that_was_made_is_told_though_another_one_failed(judged: Process) -> None:
    said = publisher_says(PLACE, reason="PlaceTaken", message="a tag is taken", manifestSha256=SHA)
    await published(judged, said, code=2)
    found = judged.world.status["publish"]
    assert (found["phase"], found["reason"]) == ("Failed", "PlaceTaken")
    assert [each["location"] for each in found["copies"]] == [PLACE]


def test_a_cached_job_keeps_both_wishes() -> None:
    marks = {naming.REVALIDATE_ANNOTATION: "a", naming.REPUBLISH_ANNOTATION: "b", "other": "c"}
    raw = {"metadata": {"name": "demo", "annotations": marks}}
    kept = observed.custom(raw).body["metadata"]["annotations"]
    assert kept == {naming.REVALIDATE_ANNOTATION: "a", naming.REPUBLISH_ANNOTATION: "b"}
