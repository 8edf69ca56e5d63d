"""A model is judged again when its policy changes or somebody asks, and never without a reason."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.controller.objects import trainer_says, validator_says
from tests.unit.controller.world import KEY, Process, World

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.artifacts.plain import plain
from finetuning.controller import attempts, naming, observed
from finetuning.controller.gateway import ApiError

FINAL = trainer_says(step=100, totalSteps=100, loss=0.5, manifestSha256="c" * 64)
GOOD = validator_says(manifestSha256="c" * 64)
BAD = validator_says("model_output", manifestSha256="c" * 64)
TRAINED = ("TrainingStarted", "TrainingSucceeded")
FIRST, SECOND, THIRD = "demo-validate", "demo-validate-2", "demo-validate-3"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def trained(http: aiohttp.ClientSession) -> Process:
    """A job whose model has passed, and the operator that saw it pass."""
    return await passed(Process(World(), http))


async def passed(process: Process, **spec: Any) -> Process:
    world = process.world
    world.apply(**spec)
    await process.settle()
    for component, said in ((naming.TRAINING, FINAL), (naming.VALIDATION, GOOD)):
        world.start(component)
        await process.settle()
        world.finish(component, said)
        await process.settle()
    return process


async def judge(process: Process, said: str = GOOD) -> None:
    process.world.start(naming.VALIDATION)
    await process.settle()
    process.world.finish(naming.VALIDATION, said, code=0 if said == GOOD else 1)
    await process.settle()


def validations(world: World) -> list[str]:
    names = [raw["metadata"]["name"] for raw in world.of("jobs")]
    return sorted(name for name in names if naming.attempt(KEY[1], name))


def told(world: World) -> list[str]:
    """The reasons of all Events, in order."""
    return [str(each["reason"]) for each in world.of("events")]


def suspended(world: World, name: str) -> bool:
    return bool(world.get("jobs", name)["spec"].get("suspend"))


def validated(world: World) -> dict[str, Any]:
    (found,) = (each for each in world.status["conditions"] if each["type"] == "Validated")
    return dict(found)


async def test_an_edit_of_the_policy_judges_again_without_training_again(trained: Process) -> None:
    world = trained.world
    world.change(validation={"maxLoss": 2.5})
    await trained.settle()
    assert validations(world) == [FIRST, SECOND]
    found = world.status["validation"]
    assert (found["phase"], found["attempt"], found["jobName"]) == ("Passed", 1, FIRST)
    assert found["rerun"] == {
        "attempt": 2,
        "jobName": SECOND,
        "phase": "Running",
        "summary": "checks are running",
    }
    assert (validated(world)["status"], validated(world)["observedGeneration"]) == ("True", 1)

    await judge(trained, BAD)
    found = world.status["validation"]
    assert (found["phase"], found["attempt"], found["jobName"]) == ("Failed", 2, SECOND)
    assert (found["observedGeneration"], found["result"], "rerun" in found) == (2, "3/4", False)
    assert (validated(world)["status"], validated(world)["observedGeneration"]) == ("False", 2)
    assert world.status["phase"] == "Succeeded"
    assert told(world) == [*TRAINED, "ChecksPassed", "ChecksFailed"]
    assert len(world.of("jobs")) == 3, "one training, two validations"
    asked = world.get("jobs", SECOND)["spec"]["template"]["spec"]["containers"][0]["env"][0]
    assert json.loads(asked["value"])["maxLoss"] == 2.5


async def test_a_new_value_of_the_annotation_judges_again_and_its_removal_does_not(
    trained: Process,
) -> None:
    world = trained.world
    world.annotate("2026-01-02")
    await judge_after_settling(trained)
    found = world.status["validation"]
    assert (found["attempt"], found["revalidate"]) == (2, "2026-01-02")
    assert told(world) == [*TRAINED, "ChecksPassed", "ChecksPassed"]
    world.annotate(None)
    await trained.settle()
    world.annotate("2026-01-02")
    await trained.settle()
    assert validations(world) == [FIRST, SECOND]
    world.annotate("2026-01-03")
    await judge_after_settling(trained)
    assert world.status["validation"]["attempt"] == 3


async def judge_after_settling(process: Process) -> None:
    await process.settle()
    await judge(process)


async def test_a_finished_job_costs_nothing_also_after_a_restart(
    trained: Process, http: aiohttp.ClientSession
) -> None:
    trained.world.change(validation={"maxLoss": 2.5})
    await judge_after_settling(trained)
    world = trained.world
    world.writes.clear()
    world.reads.clear()
    for process in (trained, Process(world, http)):
        process.watch()
        assert await process.reconciler.reconcile(KEY) is None
    assert (world.writes, world.reads) == ([], [])


@pytest.mark.parametrize(
    "edit",
    [
        {"suspend": True},
        {"validation": {"enabled": False}},
        {"validation": {"onFailure": "Fail"}},
        {"validation": {"maxLoss": 10.0, "baseline": {"compare": True}}},
    ],
    ids=["suspend", "off", "onFailure", "defaults in words"],
)
async def test_an_edit_that_asks_nothing_is_acknowledged_by_one_write(
    trained: Process, edit: dict[str, Any]
) -> None:
    world = trained.world
    world.writes.clear()
    world.change(**edit)
    await trained.settle()
    assert world.writes == [("patch", "finetuningjobs", "demo")]
    assert world.status["observedGeneration"] == 2
    assert validated(world)["observedGeneration"] == 2
    assert (world.status["validation"]["phase"], validations(world)) == ("Passed", [FIRST])


async def test_a_failed_training_acknowledges_an_edit_and_begins_nothing(
    http: aiohttp.ClientSession,
) -> None:
    process = Process(World(), http)
    world = process.world
    world.apply(dataset={"source": "configmap:rows:x.jsonl"})
    await process.settle()
    world.start(naming.TRAINING)
    world.finish(naming.TRAINING, trainer_says(result="failed", reason="DatasetInvalid"), code=2)
    await process.settle()
    world.delete("jobs", "demo-train")
    world.writes.clear()
    calls: list[str] = []
    world.fail_with = lambda verb, kind: calls.append(f"{verb} {kind}")
    world.change(validation={"maxLoss": 2.5})
    world.annotate("again")
    await process.settle()
    assert calls == ["patch finetuningjobs"]
    assert (world.status["reason"], world.status["observedGeneration"]) == ("DatasetInvalid", 2)


async def test_an_edit_does_not_begin_a_training_that_could_not_begin(
    http: aiohttp.ClientSession,
) -> None:
    process = Process(World(), http)
    world = process.world
    world.create("jobs", {"metadata": {"name": "demo-train", "namespace": "team"}, "spec": {}})
    world.apply()
    await process.settle()
    assert world.status["reason"] == "NameConflict"
    world.delete("jobs", "demo-train")
    world.change(validation={"maxLoss": 2.5})
    await process.settle()
    assert (world.of("jobs"), world.status["observedGeneration"]) == ([], 2)


async def test_a_job_of_an_earlier_attempt_never_answers_a_later_question(
    trained: Process,
) -> None:
    world = trained.world
    world.change(validation={"maxLoss": 2.5})
    await judge_after_settling(trained)
    world.delete("jobs", SECOND)
    world.change(validation={"maxLoss": 10.0})
    await trained.settle()
    assert validations(world) == [FIRST, THIRD]


@pytest.mark.parametrize("change_of_mind", ["annotation", "off"])
async def test_a_wish_that_is_taken_back_stops_the_validation_and_leaves_the_verdict(
    trained: Process, change_of_mind: str
) -> None:
    world = trained.world
    world.annotate("now")
    await trained.settle()
    assert world.status["validation"]["rerun"]["attempt"] == 2
    if change_of_mind == "off":
        world.change(validation={"enabled": False})
    else:
        world.annotate(None)
    await trained.settle(40)
    assert suspended(world, SECOND)
    found = world.status["validation"]
    assert (found["result"], found["attempt"], "rerun" in found) == ("4/4", 1, False)


async def test_an_edit_during_the_validation_stops_it_and_asks_the_new_question(
    http: aiohttp.ClientSession,
) -> None:
    process = Process(World(), http)
    world = process.world
    world.apply()
    await process.settle()
    world.start(naming.TRAINING)
    world.finish(naming.TRAINING, FINAL)
    await process.settle()
    world.start(naming.VALIDATION)
    await process.settle()
    world.change(validation={"checks": ["training_loss"]})
    await process.settle()
    assert (suspended(world, FIRST), suspended(world, SECOND)) == (True, False)
    only = validator_says(names=("training_loss",), manifestSha256="c" * 64)
    world.start(naming.VALIDATION)
    world.finish(naming.VALIDATION, only)
    await process.settle()
    found = world.status["validation"]
    assert (found["result"], found["observedGeneration"], found["attempt"]) == ("1/1", 2, 2)


async def test_a_verdict_has_the_generation_of_the_policy_that_it_goes_by(
    trained: Process,
) -> None:
    world = trained.world
    world.annotate("now")
    await trained.settle()
    world.change(ttlSecondsAfterFinished=60)
    await judge_after_settling(trained)
    assert world.status["validation"]["observedGeneration"] == 1
    assert validated(world)["observedGeneration"] == 2


async def test_a_validation_that_is_turned_off_is_stopped_and_continues_when_turned_on(
    http: aiohttp.ClientSession,
) -> None:
    process = Process(World(), http)
    world = process.world
    world.apply()
    await process.settle()
    world.start(naming.TRAINING)
    world.finish(naming.TRAINING, FINAL)
    await process.settle()
    world.change(validation={"enabled": False})
    await process.settle()
    assert (suspended(world, FIRST), world.status["validation"]["phase"]) == (True, "Skipped")
    assert world.status["validation"]["manifestSha256"] == "c" * 64
    world.change(validation={"enabled": True})
    await process.settle()
    assert suspended(world, FIRST) is False
    await judge(process)
    assert (validations(world), world.status["validation"]["result"]) == ([FIRST], "4/4")


async def test_a_job_that_fails_by_its_policy_comes_back_when_its_model_passes(
    http: aiohttp.ClientSession,
) -> None:
    process = Process(World(), http)
    world = process.world
    world.apply(validation={"onFailure": "Fail"})
    await process.settle()
    world.start(naming.TRAINING)
    world.finish(naming.TRAINING, FINAL)
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Running", "Validating")
    await judge(process, BAD)
    assert (world.status["phase"], world.status["reason"]) == ("Failed", "ValidationFailed")
    assert world.status["message"] == (
        "The model did not pass and is kept in pvc://demo-output: 3/4 checks passed; "
        "model_output: about model_output"
    )
    assert told(world) == ["TrainingSucceeded", "ChecksFailed"]
    world.annotate("now")
    await judge_after_settling(process)
    assert told(world) == ["TrainingSucceeded", "ChecksFailed", "ChecksPassed"]
    assert (world.status["phase"], world.status["reason"]) == ("Succeeded", "TrainingSucceeded")
    ends = {each["type"]: each["status"] for each in world.status["conditions"]}
    assert (ends["Complete"], ends["Failed"]) == ("True", "False")


async def test_a_later_verdict_is_about_the_files_of_the_training(trained: Process) -> None:
    trained.world.annotate("now")
    await trained.settle()
    trained.world.start(naming.VALIDATION)
    trained.world.finish(naming.VALIDATION, validator_says(manifestSha256="d" * 64))
    await trained.settle()
    found = trained.world.status["validation"]
    assert (found["result"], found["manifestSha256"]) == ("3/4", "c" * 64)


@pytest.mark.parametrize("crash", range(1, 5))
async def test_after_a_crash_at_any_write_no_job_is_made_twice(
    crash: int, http: aiohttp.ClientSession
) -> None:
    process = await passed(Process(World(), http))
    world = process.world
    world.writes.clear()
    world.crash_after = crash
    world.change(validation={"maxLoss": 2.5})
    story: tuple[Callable[[], None], ...] = (
        lambda: None,
        lambda: world.start(naming.VALIDATION),
        lambda: world.finish(naming.VALIDATION, GOOD),
    )
    for happens in story:
        happens()
        process = await process.outlived()
    assert world.crashes == 1, "there are fewer writes than that"
    assert validations(world) == [FIRST, SECOND]
    assert world.status["validation"]["attempt"] == 2


async def test_two_operators_at_once_ask_once(http: aiohttp.ClientSession) -> None:
    first = await passed(Process(World(), http))
    second = Process(first.world, http)
    first.world.change(validation={"maxLoss": 2.5})
    for process in (first, second):
        process.watch()
    await first.settle()
    await second.settle()
    assert validations(first.world) == [FIRST, SECOND]


async def test_a_validation_job_that_somebody_deletes_is_made_again(trained: Process) -> None:
    world = trained.world
    world.annotate("now")
    await trained.settle()
    world.delete("jobs", SECOND)
    await trained.settle()
    assert validations(world) == [FIRST, SECOND]


async def test_a_hostile_annotation_is_cut_and_still_asks_once(trained: Process) -> None:
    world = trained.world
    world.annotate("\x1b[31m" + "漢" * 5000 + " token=geheim")
    await judge_after_settling(trained)
    found = world.status["validation"]["revalidate"]
    assert (len(found), found) == (63, plain(found, 63))
    world.writes.clear()
    await trained.settle()
    assert (validations(world), world.writes) == ([FIRST, SECOND], [])


async def in_training_as_a_group(process: Process) -> World:
    process.world.apply(workers=2)
    await process.settle()
    process.world.start(naming.TRAINING)
    await process.settle()
    process.world.reads.clear()
    return process.world


async def test_a_deleted_meeting_place_is_made_again_within_five_minutes(
    http: aiohttp.ClientSession,
) -> None:
    process = Process(World(), http)
    world = await in_training_as_a_group(process)
    world.delete("services", "demo-workers")
    process.time += 300
    await process.reconciler.reconcile(KEY)
    assert world.get("services", "demo-workers")["spec"]
    process.time += 299
    await process.reconciler.reconcile(KEY)
    assert world.reads.count(("get", "services")) == 1


async def test_a_meeting_place_that_cannot_be_looked_at_does_not_stop_the_training(
    http: aiohttp.ClientSession,
) -> None:
    process = Process(World(), http)
    world = await in_training_as_a_group(process)
    refusal = ApiError(403, "Forbidden", "no right")
    world.fail_with = lambda verb, kind: refusal if (verb, kind) == ("get", "services") else None
    process.time += 300
    assert await process.reconciler.reconcile(KEY) is not None
    assert world.status["phase"] == "Running"


async def test_a_deleted_claim_is_made_again_when_a_pod_waits_for_it(
    http: aiohttp.ClientSession,
) -> None:
    process = Process(World(), http)
    world = process.world
    world.apply()
    await process.settle()
    world.delete("persistentvolumeclaims", "demo-output")
    world.run_jobs()
    await process.settle()
    assert world.of("persistentvolumeclaims") == []
    (pod,) = world.of("pods")
    waits = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": '0/1 nodes are available: persistentvolumeclaim "demo-output" not found.',
    }
    key = ("pods", KEY[0], pod["metadata"]["name"])
    world.patch(key, {"status": {"phase": "Pending", "conditions": [waits]}}, only_status=True)
    await process.settle()
    assert world.get("persistentvolumeclaims", "demo-output")["spec"]


ACTS = ("loss 1", "loss 2", "ask a", "ask b", "forget", "off", "on", "good", "bad", "restart")


@settings(max_examples=40)
@given(st.lists(st.sampled_from(ACTS), max_size=12))
async def test_whatever_people_do_in_the_end_the_newest_question_is_answered(
    acts: list[str],
) -> None:
    async with aiohttp.ClientSession() as http:
        process = await passed(Process(World(), http))
        world = process.world
        for act in acts:
            if act == "restart":
                process = Process(world, http)
            elif act in {"good", "bad"}:
                await finish_any(process, GOOD if act == "good" else BAD)
            else:
                do(world, act)
            await process.settle()
            live = [name for name in validations(world) if is_live(world, name)]
            assert len(live) <= 1
        world.change(validation={"enabled": True})
        await process.settle()
        await finish_any(process, GOOD)
        custom = process.cache.custom(KEY)
        assert custom is not None
        found = world.status["validation"]
        body = {part: value for part, value in custom.body.items() if part != "status"}
        asked = attempts.question(FineTuningJob.from_body(body))
        assert found["phase"] in {"Passed", "Failed"}
        assert (found["policy"], "rerun" in found) == (asked.policy, False)
        assert asked.revalidate in {"", found.get("revalidate")}
        names = [each[2] for each in world.writes if each[:2] == ("create", "jobs")]
        assert len(names) == len(set(names))


def do(world: World, act: str) -> None:
    match act.split():
        case ["loss", value]:
            world.change(validation={"maxLoss": float(value)})
        case ["ask", value]:
            world.annotate(value)
        case ["forget"]:
            world.annotate(None)
        case _:
            world.change(validation={"enabled": act == "on"})


async def finish_any(process: Process, said: str) -> None:
    """End the validation that runs, if one does."""
    if any(is_live(process.world, name) for name in validations(process.world)):
        await judge(process, said)


def is_live(world: World, name: str) -> bool:
    view = observed.batch_job(world.get("jobs", name))
    return not (view.finished or view.suspend)
