"""The life of a job against an API server in memory; crashes, conflicts and refusals included."""

from typing import Any

import aiohttp
import pytest
from tests.unit.controller.objects import (
    SETTINGS,
    STARTED,
    ended,
    trainer_says,
)
from tests.unit.controller.story import FINAL, STORY, conditions, events, tell
from tests.unit.controller.world import BEGINNING, KEY, Process, World

from finetuning.api.v1alpha1 import FineTuningJob, FineTuningJobStatus, Phase
from finetuning.controller import desired, naming, observed
from finetuning.controller.announcements import EVENTS_BURST, KEPT_FOR_WARNINGS, Announcer
from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import ApiError


def writes_but_events(world: World) -> list[tuple[str, str, str]]:
    return [each for each in world.writes if each[1] != "events"]


async def test_a_job_is_trained_and_validated(world: World, process: Process) -> None:
    await tell(world, process, STORY)
    assert (world.status["phase"], world.status["validation"]["phase"]) == ("Succeeded", "Passed")
    assert world.status["validation"]["report"].endswith("4/4 checks passed")
    assert conditions(world) == {
        "ConfigValid": "True",
        "MonitoringReady": "True",
        "MemorySufficient": "Unknown",
        "Suspended": "False",
        "Ready": "True",
        "Complete": "True",
        "Validated": "True",
    }


async def test_the_order_and_number_of_writes_of_a_quick_job(
    world: World, process: Process
) -> None:
    """The pod comes within the two seconds for which the first status is held back."""
    world.apply()
    process.watch()
    assert await process.reconciler.reconcile(KEY) == pytest.approx(2.0)
    await tell(world, process, STORY[2:])
    assert writes_but_events(world) == [
        ("create", "persistentvolumeclaims", "demo-output"),
        ("create", "jobs", "demo-train"),
        ("create", "services", "demo-metrics"),
        ("create", "servicemonitors", "demo-metrics"),
        ("patch", "finetuningjobs", "demo"),  # Running
        ("create", "jobs", "demo-validate"),
        ("patch", "finetuningjobs", "demo"),  # Succeeded, being validated
        ("patch", "finetuningjobs", "demo"),  # the verdict
        ("delete", "servicemonitors", "demo-metrics"),
    ]


async def test_the_last_words_of_a_long_training_come_with_the_end_of_its_job(
    world: World, process: Process
) -> None:
    """A write of their own would be one more for every job, a second before the next."""
    await tell(world, process, STORY[:3])
    process.time += 3600
    world.set_pods(naming.TRAINING, "Succeeded", ended(0, FINAL))
    before = len(writes_but_events(world))
    await process.settle()
    assert writes_but_events(world)[before:] == []
    world.end_job("demo-train", "Complete")
    await process.settle()
    assert writes_but_events(world)[before:] == [
        ("create", "jobs", "demo-validate"),
        ("patch", "finetuningjobs", "demo"),
    ]


async def test_last_words_do_not_wait_for_ever_for_the_end_of_the_job(
    world: World, process: Process
) -> None:
    await tell(world, process, STORY[:3])
    process.time += 3600
    world.set_pods(naming.TRAINING, "Succeeded", ended(0, FINAL))
    process.watch()
    again = await process.reconciler.reconcile(KEY)
    assert again is not None
    assert again <= SETTINGS.progress_interval_seconds
    process.time += SETTINGS.progress_interval_seconds
    await process.settle()
    assert (world.status["phase"], world.status["currentStep"]) == ("Running", 100)


async def test_the_way_without_obstacles_reads_nothing(world: World, process: Process) -> None:
    await tell(world, process, STORY)
    assert world.reads == BEGINNING


async def test_a_job_that_is_over_costs_nothing_any_more(world: World, process: Process) -> None:
    await tell(world, process, STORY)
    before = len(world.writes)
    for _ in range(3):
        assert await process.reconciler.reconcile(KEY) is None
    assert (len(world.writes), world.reads) == (before, BEGINNING)


async def test_a_job_without_trouble_has_three_events(world: World, process: Process) -> None:
    await tell(world, process, STORY)
    assert events(world) == [
        ("Normal", "TrainingStarted"),
        ("Normal", "TrainingSucceeded"),
        ("Normal", "ChecksPassed"),
    ]
    assert world.of("events")[1]["message"] == "Trained 100 steps; final loss 0.5."


async def test_a_deadline_takes_the_pod_but_not_what_it_said_last(
    world: World, process: Process
) -> None:
    """The Job deletes its pod a second after that has told of the checkpoint."""
    await tell(world, process, STORY[:3])
    world.end_job("demo-train", "FailureTarget", "DeadlineExceeded")
    (raw,) = world.of("pods")
    raw["metadata"]["deletionTimestamp"] = STARTED
    saved = {"step": 640, "totalSteps": 900, "checkpoint": "checkpoints/checkpoint-640"}
    words = ended(143, trainer_says(result="paused", **saved))
    world.set_pods(naming.TRAINING, "Failed", words)
    process.watch()
    await process.reconciler.reconcile(KEY)
    world.delete("pods", raw["metadata"]["name"])
    world.end_job("demo-train", "Failed", "DeadlineExceeded")
    await process.settle()
    found = world.status
    assert (found["phase"], found["reason"]) == ("Failed", "DeadlineExceeded")
    assert found["currentStep"] == 640
    assert found["checkpointPath"] == "pvc://demo-output/checkpoints/checkpoint-640"


async def test_events_tell_of_a_pause_and_a_crash_in_order(world: World, process: Process) -> None:
    newest = "checkpoints/checkpoint-40"
    saved = trainer_says(result="paused", step=40, totalSteps=100, loss=0.9, checkpoint=newest)
    await tell(world, process, STORY[:3])
    world.change(suspend=True)
    await process.settle()
    world.set_pods(naming.TRAINING, "Running", ended(143, saved))
    await process.settle()
    world.run_jobs()
    await process.settle()
    world.change(suspend=False)
    await process.settle()
    world.start(naming.TRAINING)
    await process.settle()
    world.set_pods(naming.TRAINING, "Failed", ended(1, "Segmentation fault"))
    await process.settle()
    world.start(naming.TRAINING)
    await process.settle()
    await tell(world, process, STORY[3:])
    assert events(world) == [
        ("Normal", "TrainingStarted"),
        ("Normal", "Suspended"),
        ("Normal", "TrainingResumed"),
        ("Warning", "Restarting"),
        ("Normal", "TrainingResumed"),
        ("Normal", "TrainingSucceeded"),
        ("Normal", "ChecksPassed"),
    ]
    told = [each["message"] for each in world.of("events")]
    assert told[1].endswith("continue from the newest checkpoint. It had done 40 of 100 steps.")
    goes_on = "It goes on from its newest checkpoint, last known at step 40 of 100."
    assert [message.endswith(goes_on) for message in (told[2], told[4])] == [True, True]
    assert "Segmentation fault" in told[3]


async def test_good_news_leaves_room_for_bad_news(world: World, process: Process) -> None:
    await tell(world, process, STORY[:1])
    custom = observed.custom(world.get("finetuningjobs", "demo"))
    announcer = Announcer(process.gateway, lambda: 0.0)
    begun = FineTuningJobStatus(phase=Phase.RUNNING, reason="Training", message="Training.")
    lost = FineTuningJobStatus(phase=Phase.FAILED, reason="OOMKilled", message="Too much.")
    for _ in range(30):
        await announcer.announce(custom, None, begun)
    assert len(world.of("events")) == EVENTS_BURST - KEPT_FOR_WARNINGS
    for _ in range(30):
        await announcer.announce(custom, begun, lost)
    assert events(world).count(("Warning", "OOMKilled")) == KEPT_FOR_WARNINGS


@pytest.mark.parametrize("crash", range(1, 13))
async def test_after_a_crash_at_any_write_the_next_operator_finishes_the_work(
    crash: int, http: aiohttp.ClientSession
) -> None:
    world = World()
    world.crash_after = crash
    process = Process(world, http)
    phases: list[str] = []
    for happens in STORY:
        happens(world)
        process = await process.outlived()
        phases.append(world.status["phase"])
    assert world.crashes == 1, "the story has fewer writes than that"
    assert world.status["validation"]["phase"] == "Passed"
    created = [each[1:] for each in world.writes if each[0] == "create" and each[1] != "events"]
    assert len(created) == len(set(created)) == 5
    order = {"Pending": 0, "Running": 1, "Succeeded": 2}
    assert phases == sorted(phases, key=lambda phase: order[phase])
    assert [count <= 1 for count in observations(process)] == [True] * 3


def observations(process: Process) -> list[float]:
    """How often the process saw a wait, a training and a validation end."""
    names = ("queue_wait", "job_duration", "validation_duration")
    found: dict[str, float] = dict.fromkeys(names, 0)
    for family in process.metrics.registry.collect():
        for sample in family.samples:
            for name in names:
                if sample.name == f"finetuning_operator_{name}_seconds_count":
                    found[name] += sample.value
    return list(found.values())


async def test_what_a_job_took_is_observed_once_and_not_again_after_a_restart(
    world: World, process: Process, http: aiohttp.ClientSession
) -> None:
    await tell(world, process, STORY)
    assert observations(process) == [1, 1, 1]
    successor = Process(world, http)
    await successor.settle()
    assert observations(successor) == [0, 0, 0]


@pytest.mark.fault(
    "Answer to a create lost",
    "the child is found, not made again",
)
async def test_a_lost_answer_to_a_create_does_not_make_a_second_child(
    world: World, process: Process
) -> None:
    world.apply()
    process.watch()
    lost = True

    def lose_once(verb: str, plural: str) -> ApiError | None:
        nonlocal lost
        if (verb, plural) == ("create", "jobs") and lost:
            lost = False
            manifest = wanted_job(process)
            world.create("jobs", manifest)
            return ApiError(0, "Unreachable", "timed out")
        return None

    world.fail_with = lose_once
    await process.settle()
    assert len(world.of("jobs")) == 1
    assert world.status["trainingJobName"] == "demo-train"


def wanted_job(process: Process) -> dict[str, Any]:
    custom = process.cache.custom(KEY)
    assert custom is not None
    return desired.build(FineTuningJob.from_body(dict(custom.body)), SETTINGS).training_job


@pytest.mark.fault(
    "Two active operators",
    "no child twice",
)
async def test_two_operators_at_once_make_no_child_twice(
    world: World, http: aiohttp.ClientSession
) -> None:
    first, second = Process(world, http), Process(world, http)
    for happens in STORY:
        happens(world)
        await first.settle()
        await second.settle()
    creates = [each for each in writes_but_events(world) if each[0] == "create"]
    assert len(creates) == 5
    assert world.status["validation"]["phase"] == "Passed"


@pytest.mark.fault(
    "A stale operator writes a status",
    "refused by the version, looked at again",
)
async def test_a_stale_operator_cannot_overwrite_a_newer_status(
    world: World, http: aiohttp.ClientSession
) -> None:
    stale, fresh = Process(world, http), Process(world, http)
    await tell(world, fresh, STORY[:2])
    world.start(naming.TRAINING)
    stale.watch()
    await tell(world, fresh, STORY[3:])
    with pytest.raises(RetryLaterError, match="changed meanwhile"):
        await stale.reconciler.reconcile(KEY)
    assert world.status["validation"]["phase"] == "Passed"


@pytest.mark.fault(
    "A foreign Job of that name",
    "NameConflict; left alone",
)
async def test_a_foreign_job_of_the_same_name_is_left_alone(world: World, process: Process) -> None:
    foreign = {"metadata": {"name": "demo-train", "namespace": "team"}, "spec": {"x": 1}}
    world.create("jobs", foreign)
    world.apply()
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Failed", "NameConflict")
    assert "Job demo-train exists already" in world.status["message"]
    assert world.get("jobs", "demo-train")["spec"] == {"x": 1}


async def test_a_training_that_was_orphaned_is_no_claim_to_take_up(
    world: World, process: Process
) -> None:
    """As `kubectl delete --cascade=orphan` leaves it: with its labels, and owned by nobody."""
    labels = {naming.JOB_NAME_LABEL: "demo", naming.MANAGED_BY_LABEL: naming.MANAGED_BY}
    meta = {"name": "demo-train", "namespace": "team", "labels": labels}
    world.create("jobs", {"metadata": meta, "spec": {}})
    world.apply(output={"storage": {"whenDeleted": "Retain"}})
    await process.settle()
    assert world.status["reason"] == "NameConflict"
    assert world.status["message"].endswith("then create the job again.")


async def test_a_job_created_again_waits_for_its_predecessors_children(
    world: World, process: Process
) -> None:
    world.apply()
    await process.settle()
    old = world.get("jobs", "demo-train")
    claim = world.get("persistentvolumeclaims", "demo-output")
    world.delete("finetuningjobs", "demo")
    for plural, raw in (("jobs", old), ("persistentvolumeclaims", claim)):
        world.objects[plural, "team", raw["metadata"]["name"]] = raw
    world.apply()
    process.watch()
    for _ in range(3):
        process.time += 10
        await process.reconciler.reconcile(KEY)
    assert world.status["reason"] == "PreviousRunTerminating"
    remedy = "kubectl --namespace team delete job demo-train"
    assert world.status["message"].endswith(remedy), "the garbage collector may have forgotten it"
    claim["metadata"]["deletionTimestamp"] = STARTED
    process.time += 10
    await process.reconciler.reconcile(KEY)
    assert world.status["message"].endswith(remedy), "its Pods keep the claim for ever"
    world.delete("jobs", "demo-train")
    await process.settle()
    assert world.status["message"].endswith("is still being deleted.")
    del world.get("persistentvolumeclaims", "demo-output")["metadata"]["deletionTimestamp"]
    process.time += 10
    await process.reconciler.reconcile(KEY)
    assert world.status["message"].endswith("delete persistentvolumeclaim demo-output")
    world.delete("persistentvolumeclaims", "demo-output")
    await process.settle()
    assert world.status["reason"] == "JobCreated"
    uid = world.get("finetuningjobs", "demo")["metadata"]["uid"]
    assert world.get("jobs", "demo-train")["metadata"]["ownerReferences"][0]["uid"] == uid


async def test_a_deleted_job_is_forgotten(world: World, process: Process) -> None:
    await tell(world, process, STORY[:3])
    world.delete("finetuningjobs", "demo")
    process.watch()
    assert await process.reconciler.reconcile(KEY) is None
    assert process.reconciler._memories == {}
    assert process.reconciler._specs._known == {}
    assert world.of("jobs") == world.of("pods") == world.of("services") == []


async def test_of_jobs_that_are_over_nothing_is_held_ready(world: World, process: Process) -> None:
    """Of a thousand of them it would be 50 MB, once a resync has looked at all."""
    await tell(world, process, STORY)
    assert world.status["phase"] == "Succeeded"
    assert process.reconciler._memories == {}
    assert process.reconciler._specs._known == {}
    assert await process.reconciler.reconcile(KEY) is None
    assert process.reconciler._specs._known == {}


async def test_suspend_stops_the_job_and_resume_goes_on(world: World, process: Process) -> None:
    await tell(world, process, STORY[:3])
    world.change(suspend=True)
    await process.settle()
    assert world.get("jobs", "demo-train")["spec"]["suspend"] is True
    assert world.status["reason"] == "Suspended"
    world.run_jobs()
    await process.settle()
    assert (world.status["phase"], conditions(world)["Suspended"]) == ("Paused", "True")
    world.change(suspend=False)
    await process.settle()
    assert world.get("jobs", "demo-train")["spec"]["suspend"] is False
    await tell(world, process, STORY[2:])
    assert world.status["validation"]["phase"] == "Passed"


@pytest.mark.fault(
    "Training Job deleted by hand",
    "JobDeleted, after a look at the API server",
)
async def test_a_training_job_that_somebody_deletes_fails_after_a_look_at_the_server(
    world: World, process: Process
) -> None:
    await tell(world, process, STORY[:3])
    world.delete("jobs", "demo-train")
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Failed", "JobDeleted")
    assert ("get", "jobs") in world.reads


async def test_a_job_that_only_the_cache_has_lost_is_found_again(
    world: World, process: Process
) -> None:
    await tell(world, process, STORY[:3])
    for known in list(process.cache.jobs):
        process.cache.jobs.drop(known.meta.uid)
    await process.reconciler.reconcile(KEY)
    assert world.status["phase"] == "Running"


@pytest.mark.fault(
    "Pod event missed",
    "read once from the API server",
)
async def test_a_pod_event_that_was_missed_is_made_up_for(world: World, process: Process) -> None:
    await tell(world, process, STORY[:3])
    world.finish(naming.TRAINING, FINAL)
    stale = list(process.cache.pods)
    process.watch()
    for pod in stale:
        process.cache.pods.put(pod, since=process.cache.pods.now())
    await process.reconciler.reconcile(KEY)
    assert world.status["message"] == "Trained 100 steps; final loss 0.5."
    assert world.reads == [*BEGINNING, ("list", "pods")]


async def test_the_end_of_the_only_try_is_told_once(world: World, process: Process) -> None:
    """The Job counts the pod some time after it is over; until then nothing is replaced."""
    world.apply(backoffLimit=0)
    await tell(world, process, STORY[1:3])
    for phase in ("Running", "Failed"):
        world.set_pods(naming.TRAINING, phase, ended(137))
        await process.settle()
        process.time += 5
        await process.settle()
    world.end_job("demo-train", "Failed", "BackoffLimitExceeded")
    await process.settle()
    assert events(world) == [("Normal", "TrainingStarted"), ("Warning", "BackoffLimitExceeded")]


async def test_nothing_is_remembered_of_a_job_that_is_over(world: World, process: Process) -> None:
    await tell(world, process, STORY)
    assert world.status["validation"]["phase"] == "Passed"
    assert process.reconciler._memories == {}
