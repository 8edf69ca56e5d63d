from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.controller.objects import (
    batch_job,
    ended,
    job,
    job_body,
    pod,
    running,
    seen,
    trainer_says,
)

from finetuning.api.v1alpha1 import (
    Condition,
    ConditionType,
    FineTuningJobStatus,
    Phase,
    Reason,
    ValidationPhase,
)
from finetuning.artifacts.models import TrainingState
from finetuning.controller import conditions, status
from finetuning.controller.training_status import Problem, Seen
from finetuning.monitoring.source import presume_failed

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
FINAL = trainer_says(
    step=100,
    totalSteps=100,
    epoch=2.5,
    totalEpochs=3,
    loss=0.52341,
    trainSeconds=200,
    checkpoint="checkpoints/checkpoint-100",
    manifestSha256="c" * 64,
)


def live(**fields: Any) -> TrainingState:
    base = {"updatedAt": 1.0, "state": "training", "step": 40, "totalSteps": 100, **fields}
    return TrainingState.model_validate(base)


def by_type(found: FineTuningJobStatus) -> dict[str, Condition]:
    return {each.type: each for each in found.conditions}


def running_with(state: TrainingState | None, **written: Any) -> Seen:
    return seen(
        pod(running(), phase="Running"),
        of=job(written or None),
        training=batch_job(),
        live=state,
    )


def succeeded(message: str = FINAL, **spec: Any) -> Seen:
    return seen(
        pod(ended(0, message), phase="Succeeded"),
        of=job(**spec),
        training=batch_job(complete=True, completionTime="2026-01-01T10:06:00Z"),
    )


def test_a_running_job_shows_what_its_sidecar_says() -> None:
    state = live(loss=1.23456, epoch=0.4, lastCheckpoint="checkpoints/checkpoint-40")
    found = status.status_of(running_with(state), NOW)
    assert (found.phase, found.progress, found.current_step) == (Phase.RUNNING, "40%", 40)
    assert (found.train_loss, found.current_epoch) == (1.2346, 1)
    assert found.checkpoint_path == "pvc://demo-output/checkpoints/checkpoint-40"
    assert found.start_time is not None


def test_without_an_answer_the_last_figures_stay() -> None:
    before = {"phase": "Running", "currentStep": 30, "progress": "30%", "trainLoss": 2.0}
    found = status.status_of(running_with(None, **before), NOW)
    assert (found.current_step, found.progress, found.train_loss) == (30, "30%", 2.0)


@pytest.mark.parametrize("phase", ["Running", "Failed"])
@pytest.mark.parametrize("doing", ["starting", "training", "failed"])
def test_figures_that_are_not_known_take_none_back(doing: str, phase: str) -> None:
    """A run that resumes has none until it has read its checkpoint, and may be killed before."""
    before = {
        "phase": "Running", "currentStep": 1268, "totalSteps": 5000, "currentEpoch": 35,
        "progress": "25%", "checkpointPath": "pvc://demo-output/checkpoints/checkpoint-1180",
    }  # fmt: skip
    left = presume_failed(live(state="starting", step=None, totalSteps=None), 2.0)
    told = left if doing == "failed" else live(state=doing, step=None, totalSteps=None)
    alive = running_with(told, **before)
    dead = seen(
        pod(ended(137), phase="Failed"), of=job(before), live=told,
        training=batch_job(failed="BackoffLimitExceeded", failed_pods=1),
    )  # fmt: skip
    found = status.status_of(alive if phase == "Running" else dead, NOW)
    assert found.phase == phase
    assert status.wire(found).items() >= {**before, "phase": phase}.items()


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "checkpoint-", "checkpoints/../checkpoint-1", "/checkpoint-1", "x"]
)
def test_a_checkpoint_outside_its_folder_is_not_shown(path: str) -> None:
    found = status.status_of(running_with(live(lastCheckpoint=path)), NOW)
    assert found.checkpoint_path == ""


def test_an_operator_that_was_set_back_knows_the_jobs_of_the_newer_one() -> None:
    """To take a status for none would be to train what is trained."""
    written = {
        "phase": "Succeeded",
        "trainingJobName": "demo-train",
        "later": 1,
        "usage": {"gpuSeconds": 5.0, "later": 1},
        "conditions": [{"type": "Complete", "status": "True", "later": 1}],
        "validation": {
            "phase": "Passed",
            "later": 1,
            "checks": [{"name": "training_loss", "result": "Pass", "later": 1}],
            "baseline": {"rows": 1, "base": 2, "tuned": 1, "delta": -1, "verdict": "better"}
            | {"later": 1},
        },
    }
    found = status.parse(written)
    assert (found.phase, found.training_job_name) == (Phase.SUCCEEDED, "demo-train")
    assert found.usage is not None
    assert found.validation is not None
    assert found.validation.checks[0].result == "Pass"


def test_success_takes_its_figures_from_the_last_words() -> None:
    found = status.status_of(succeeded(), NOW)
    assert (found.phase, found.progress) == (Phase.SUCCEEDED, "100%")
    assert found.message == "Trained 100 steps in 3m20s; final loss 0.5234."
    assert found.model_path == "pvc://demo-output"
    assert found.aim_profile_path == "pvc://demo-output/aim_profile.json"
    assert found.checkpoint_path == "pvc://demo-output/checkpoints/checkpoint-100"
    assert (found.current_epoch, found.total_epochs) == (3, 3)
    assert found.completion_time == datetime(2026, 1, 1, 10, 6, tzinfo=UTC)


def test_a_run_that_stopped_early_says_so() -> None:
    said = trainer_says(step=80, totalSteps=80, plannedSteps=200, loss=0.5, trainSeconds=9)
    found = status.status_of(succeeded(said), NOW)
    told = "Trained 80 steps of 200 planned in 9s, since the loss on held-out rows no longer fell"
    assert found.message == f"{told}; final loss 0.5."


def test_a_job_that_does_not_train_has_no_speed() -> None:
    before = {"phase": "Running", "tokensPerSecond": 3066.4, "samplesPerSecond": 9.5}
    found = status.status_of(seen(of=job(before, suspend=True)), NOW)
    assert (found.phase, found.tokens_per_second, found.samples_per_second) == (
        Phase.PAUSED,
        None,
        None,
    )


def test_success_and_the_beginning_of_validation_are_one_status() -> None:
    found = status.status_of(succeeded(), NOW)
    assert found.validation is not None
    assert found.validation.phase is ValidationPhase.RUNNING
    assert found.validation.manifest_sha256 == "c" * 64
    assert by_type(found)["Complete"].status == "True"
    assert by_type(found)["Validated"].status == "Unknown"


def test_success_without_last_words_is_success_all_the_same() -> None:
    found = status.status_of(succeeded("garbage"), NOW)
    assert (found.phase, found.progress, found.current_step) == (Phase.SUCCEEDED, "100%", None)


def test_a_failed_run_keeps_the_figures_that_it_reached() -> None:
    said = trainer_says(result="failed", reason="LossDiverged", message="NaN", step=12, loss="NaN")
    pods = pod(ended(1, said), phase="Failed")
    training = batch_job(failed="BackoffLimitExceeded", failed_pods=4)
    before = {"phase": "Running", "currentStep": 9, "trainLoss": 0.045, "evalLoss": 1.5}
    found = status.status_of(seen(pods, of=job(before), training=training), NOW)
    assert (found.phase, found.reason, found.current_step) == (Phase.FAILED, "LossDiverged", 12)
    assert (found.train_loss, found.eval_loss) == (None, 1.5)
    assert found.completion_time is not None
    assert by_type(found)["Failed"].reason == "LossDiverged"
    assert "Validated" not in by_type(found)


def test_a_killed_trainer_got_as_far_as_its_sidecar_says() -> None:
    reached = {"phase": "Running", "currentStep": 201, "totalSteps": 300, "trainLoss": 0.0135}
    killed = pod(ended(137), phase="Failed")
    training = batch_job(failed="BackoffLimitExceeded", failed_pods=1)

    def told(step: int) -> FineTuningJobStatus:
        left = live(step=step, totalSteps=300, loss=0.0104)
        found = seen(killed, of=job(reached), training=training, live=left)
        return status.status_of(found, NOW)

    found = told(280)
    assert (found.phase, found.current_step, found.train_loss) == (Phase.FAILED, 280, 0.0104)
    assert (found.progress, found.estimated_remaining) == ("93%", "")
    assert (told(150).current_step, told(150).train_loss) == (201, 0.0135)


def test_a_killed_trainer_may_have_saved_at_the_step_that_is_known() -> None:
    reached = {"phase": "Running", "currentStep": 640, "checkpointPath": "pvc://demo-output/old"}
    left = live(step=640, totalSteps=900, lastCheckpoint="checkpoints/checkpoint-640")
    training = batch_job(failed="DeadlineExceeded")
    found = status.status_of(seen(of=job(reached), training=training, live=left), NOW)
    assert (found.phase, found.current_step) == (Phase.FAILED, 640)
    assert found.checkpoint_path == "pvc://demo-output/checkpoints/checkpoint-640"


def test_last_words_count_while_the_job_still_closes() -> None:
    said = trainer_says(
        result="paused", step=643, totalSteps=900, checkpoint="checkpoints/checkpoint-643"
    )
    reached = {"phase": "Running", "currentStep": 640, "estimatedRemaining": "9m0s"}
    left = live(step=640, totalSteps=900, lastCheckpoint="checkpoints/checkpoint-600")
    closing = pod(ended(143, said), phase="Failed")
    found = status.status_of(
        seen(closing, of=job(reached), training=batch_job(condition="FailureTarget"), live=left),
        NOW,
    )
    assert (found.phase, found.current_step, found.estimated_remaining) == (Phase.RUNNING, 643, "")
    assert found.checkpoint_path == "pvc://demo-output/checkpoints/checkpoint-643"


def test_the_status_of_a_pod_that_is_replaced_tells_how_far_it_was() -> None:
    """The next event says where it goes on, and the last answer may be of half a minute before."""
    before = {"phase": "Running", "currentStep": 47, "totalSteps": 5000}
    left = live(step=79, totalSteps=5000, lastCheckpoint="checkpoints/checkpoint-60")
    killed = pod(ended(137), phase="Failed")
    found = status.status_of(
        seen(killed, of=job(before, backoffLimit=3), training=batch_job(), live=left), NOW
    )
    assert (found.phase, found.reason) == (Phase.PENDING, "Restarting")
    assert (found.current_step, found.checkpoint_path[-13:]) == (79, "checkpoint-60")


def test_a_last_try_that_never_reached_a_step_takes_no_figure_back() -> None:
    said = trainer_says(result="failed", reason="StorageFull", message="No space.", step=0)
    pods = pod(ended(1, said), phase="Failed")
    training = batch_job(failed="BackoffLimitExceeded", failed_pods=4)
    reached = {"phase": "Running", "currentStep": 30, "progress": "30%", "trainLoss": 0.5}
    found = status.status_of(seen(pods, of=job(reached), training=training), NOW)
    assert (found.phase, found.reason) == (Phase.FAILED, "StorageFull")
    assert (found.current_step, found.progress, found.train_loss) == (30, "30%", 0.5)


@pytest.mark.parametrize(
    "written",
    [
        {"phase": "Failed", "reason": "OOMKilled"},
        {"phase": "Succeeded", "validation": {"phase": "Passed", "summary": "4/4"}},
        {"phase": "Succeeded", "validation": {"phase": "Skipped"}},
    ],
)
@pytest.mark.parametrize("training", [None, batch_job(), batch_job(failed="DeadlineExceeded")])
def test_what_is_over_never_changes_again(written: dict[str, Any], training: Any) -> None:
    ready = {"type": "Ready", "status": "True" if "validation" in written else "False"}
    said = {**written, "observedGeneration": 1, "conditions": [ready]}
    policy = {"enabled": written.get("validation", {}).get("phase") != "Skipped"}
    problem = Problem(Reason.JOB_DELETED, "x", True)
    found = seen(of=job(said, validation=policy), training=training, problem=problem)
    assert status.status_of(found, NOW) == found.job.status


@pytest.mark.parametrize(
    "written",
    [
        {"phase": "Failed", "reason": "OOMKilled", "message": "m"},
        {"phase": "Succeeded", "reason": "TrainingSucceeded", "validation": {"phase": "Passed"}},
    ],
)
def test_an_edit_after_the_end_is_acknowledged_and_changes_nothing_else(
    written: dict[str, Any],
) -> None:
    edited = job({**written, "observedGeneration": 1}, suspend=True)
    edited.metadata.generation = 2
    found = status.status_of(seen(of=edited, training=batch_job()), NOW)
    assert (found.phase, found.reason) == (written["phase"], written["reason"])
    assert found.observed_generation == 2
    assert {each.observed_generation for each in found.conditions} == {2}


FAIL: dict[str, Any] = {"validation": {"onFailure": "Fail"}}


def gated(verdict: dict[str, Any], before: dict[str, Any], **spec: Any) -> FineTuningJobStatus:
    """The status of a job whose verdict stands already, after an edit of its policy."""
    edited = job({"modelPath": "pvc://m", **before, "validation": verdict}, **spec)
    edited.metadata.generation = 1 + (edited.status.observed_generation or 0)
    return status.status_of(seen(of=edited), NOW)


def test_with_on_failure_fail_a_job_is_complete_only_when_its_model_passed() -> None:
    found = status.status_of(succeeded(**FAIL), NOW)
    assert (found.phase, found.reason) == (Phase.RUNNING, "Validating")
    assert found.message == "Trained 100 steps in 3m20s; final loss 0.5234."
    assert (found.model_path, "Complete" in by_type(found)) == ("pvc://demo-output", False)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ({"phase": "Passed", "summary": "4/4"}, ("Succeeded", "TrainingSucceeded", "m")),
        (
            {"phase": "Failed", "summary": "3/4 checks passed"},
            (
                "Failed",
                "ValidationFailed",
                "The model did not pass and is kept in pvc://m: 3/4 checks passed",
            ),
        ),
        (
            {"phase": "Error", "summary": "OOMKilled"},
            (
                "Failed",
                "ValidatorError",
                "The model could not be judged and is kept in pvc://m: OOMKilled",
            ),
        ),
    ],
)
def test_on_failure_decides_what_a_verdict_means_for_the_phase(
    verdict: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    before = {"phase": "Succeeded", "reason": "TrainingSucceeded", "message": "m"}
    report = gated(verdict, before)
    assert (report.phase, report.message) == ("Succeeded", "m")
    fail = gated(verdict, before, **FAIL)
    assert (fail.phase, fail.reason, fail.message) == expected
    assert fail.model_path == "pvc://m"


def test_the_words_about_the_training_outlive_the_gate() -> None:
    waiting = {"phase": "Running", "reason": "Validating", "message": "Trained in 3m20s."}
    found = gated({"phase": "Passed", "summary": "4/4"}, waiting, **FAIL)
    assert (found.phase, found.message) == (Phase.SUCCEEDED, "Trained in 3m20s.")


def test_turning_on_failure_moves_a_job_between_complete_and_failed() -> None:
    verdict = {"phase": "Failed", "summary": "3/4 checks passed"}
    before = {"phase": "Succeeded", "reason": "TrainingSucceeded", "currentStep": 9}
    complete = {"type": "Complete", "status": "True", "reason": "TrainingSucceeded"}
    failed = gated(verdict, {**before, "conditions": [complete]}, **FAIL)
    assert (failed.phase, by_type(failed)["Failed"].status) == (Phase.FAILED, "True")
    assert by_type(failed)["Complete"].status == "False"
    back = gated(verdict, status.wire(failed))
    assert (back.phase, back.message) == (Phase.SUCCEEDED, "Trained 9 steps.")
    assert {kind: by_type(back)[kind].status for kind in ("Complete", "Failed")} == {
        "Complete": "True",
        "Failed": "False",
    }


def test_what_holds_no_more_is_told_of_the_newest_verdict() -> None:
    complete = {"type": "Complete", "status": "False", "reason": "ValidationFailed",
                "message": "an older one", "observedGeneration": 1}  # fmt: skip
    before = {"phase": "Running", "reason": "Validating", "conditions": [complete]}
    waiting = gated({"phase": "Running"}, before, **FAIL)
    assert by_type(waiting)["Complete"].message == "an older one"
    failed = gated({"phase": "Failed", "summary": "2/4 checks passed"}, before, **FAIL)
    found, failure = (by_type(failed)[kind] for kind in ("Complete", "Failed"))
    assert (found.status, failure.status) == ("False", "True")
    assert (found.message, found.observed_generation) == (
        failure.message,
        failure.observed_generation,
    )
    assert "2/4" in found.message


def test_a_policy_that_cannot_be_served_says_so_and_leaves_the_model_alone() -> None:
    body = job_body() | {"status": {"phase": "Succeeded", "validation": {"phase": "Passed"}}}
    body["metadata"]["generation"] = 2
    found = status.invalid(body, "spec.validation.x: no", NOW)
    assert (found.phase, found.observed_generation) == (Phase.SUCCEEDED, 2)
    assert by_type(found)["ConfigValid"].status == "False"


def test_a_trained_model_stays_trained_when_its_job_is_deleted() -> None:
    written = {"phase": "Succeeded", "validation": {"phase": "Pending"}, "modelPath": "pvc://m"}
    found = status.status_of(seen(of=job(written)), NOW)
    assert (found.phase, found.model_path) == (Phase.SUCCEEDED, "pvc://m")


@pytest.mark.parametrize(("revision", "told"), [(None, ""), ("0a" * 20, ""), ("main", "main")])
def test_a_revision_that_may_move_is_told(revision: str | None, told: str) -> None:
    model = {"modelId": "example/tiny", **({"revision": revision} if revision else {})}
    found = by_type(status.status_of(seen(of=job(baseModel=model)), NOW))["ConfigValid"]
    assert found.status == "True"
    assert (f"baseModel.revision {told} is a branch or a tag" in found.message) is bool(told)


def test_conditions_say_which_generation_they_are_about_and_since_when() -> None:
    first = status.status_of(running_with(live()), NOW)
    raw = status.wire(first)
    again = status.status_of(running_with(live(step=50), **raw), LATER)
    for condition in again.conditions:
        assert condition.observed_generation == 1
        assert condition.last_transition_time == NOW


def test_a_condition_that_flips_has_a_new_time() -> None:
    old = conditions.condition(ConditionType.SUSPENDED, "True", Reason.SUSPENDED)
    before = conditions.merge([], [old], 1, NOW)
    new = conditions.condition(ConditionType.SUSPENDED, "False", Reason.NOT_SUSPENDED)
    after = conditions.merge(before, [new], 2, LATER)
    assert [(each.status, each.last_transition_time) for each in after] == [("False", LATER)]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (None, "Unknown"),
        (Problem(Reason.SERVICE_MONITOR_CREATED, "made"), "True"),
        (Problem(Reason.SERVICE_MONITOR_CRD_MISSING, "no CRD"), "False"),
        (Problem(Reason.FORBIDDEN, "no right"), "False"),
    ],
)
def test_monitoring_has_a_condition_and_no_say_in_the_phase(
    outcome: Problem | None, expected: str
) -> None:
    base = running_with(live())
    found = status.status_of(
        seen(*base.children.training_pods, training=base.children.training, monitoring=outcome),
        NOW,
    )
    assert (found.phase, by_type(found)["MonitoringReady"].status) == (Phase.RUNNING, expected)


def test_the_verdict_of_monitoring_outlives_a_restart_of_the_operator() -> None:
    ready = {"type": "MonitoringReady", "status": "True", "reason": "ServiceMonitorCreated"}
    found = status.status_of(running_with(live(), phase="Running", conditions=[ready]), NOW)
    assert by_type(found)["MonitoringReady"].status == "True"


def test_an_invalid_spec_fails_with_field_and_remedy() -> None:
    found = status.invalid(job_body(), "spec.method: no such method", NOW)
    assert (found.phase, found.reason) == (Phase.FAILED, "InvalidSpec")
    assert by_type(found)["ConfigValid"].status == "False"
    assert by_type(found)["Failed"].message == "spec.method: no such method"


def test_a_spec_that_turns_invalid_does_not_fail_what_is_running() -> None:
    body = job_body() | {"status": {"phase": "Running", "trainingJobName": "demo-train"}}
    found = status.invalid(body, "unknown field from a newer version", NOW)
    assert found.phase is Phase.RUNNING
    assert by_type(found)["ConfigValid"].status == "False"


def test_a_patch_names_only_what_changed_and_removes_what_is_gone() -> None:
    old = FineTuningJobStatus(phase=Phase.RUNNING, progress="40%", estimated_remaining="3m")
    new = FineTuningJobStatus(phase=Phase.RUNNING, progress="50%")
    assert status.patch(old, new) == {"progress": "50%", "estimatedRemaining": None}
    assert status.patch(new, new) == {}


def test_the_first_patch_names_the_phase_even_if_it_is_the_default() -> None:
    assert status.patch(None, FineTuningJobStatus())["phase"] == "Pending"


def test_progress_alone_is_no_turn() -> None:
    old = status.status_of(running_with(live()), NOW)
    new = old.model_copy(update={"progress": "41%", "current_step": 41})
    assert status.is_progress_only(old, new)
    assert not status.is_turn(old, new)
    ended_now = old.model_copy(update={"phase": Phase.FAILED})
    assert status.is_turn(old, ended_now)
    assert not status.is_progress_only(old, ended_now)


def test_a_verdict_is_a_turn_and_a_validation_that_waits_is_not() -> None:
    trained = status.status_of(succeeded(), NOW)
    assert trained.validation is not None
    waits = trained.validation.model_copy(update={"phase": ValidationPhase.PENDING})
    passed = trained.validation.model_copy(update={"phase": ValidationPhase.PASSED})
    assert not status.is_turn(trained, trained.model_copy(update={"validation": waits}))
    assert status.is_turn(trained, trained.model_copy(update={"validation": passed}))


def test_the_whole_status_survives_the_wire() -> None:
    found = status.status_of(succeeded(), NOW)
    assert status.parse(status.wire(found)) == found


def test_a_status_is_written_out_once_and_not_kept_for_ever() -> None:
    first = FineTuningJobStatus(phase=Phase.RUNNING)
    assert status.wire(first) is status.wire(first)
    assert status.wire(first.model_copy(update={"progress": "3%"})) == {
        "phase": "Running",
        "progress": "3%",
        "restarts": 0,
    }
    for _ in range(1000):
        status.wire(FineTuningJobStatus())
    assert len(status._WIRED) <= 64
