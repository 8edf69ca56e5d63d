"""The operator's own status over what local processes show."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from finetuning.api.v1alpha1 import FineTuningJob, FineTuningJobStatus, Phase, ValidationPhase
from finetuning.artifacts.models import RunState, TrainingResult, TrainingState
from finetuning.controller import desired, observed
from finetuning.controller.observed import Children
from finetuning.local import outcome, plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = FineTuningJob.from_body(
    {
        "apiVersion": "aim.amd.com/v1alpha1",
        "kind": "FineTuningJob",
        "metadata": {"name": "demo"},
        "spec": {"baseModel": {"modelId": "org/model"}, "dataset": {"source": "hf://org/rows"}},
    }
)
CHILDREN = desired.build(JOB, plan.SETTINGS)
RUNNING = {"running": {"startedAt": NOW.isoformat()}}


def ended(code: int, message: str = "") -> dict[str, Any]:
    times = {"startedAt": NOW.isoformat(), "finishedAt": NOW.isoformat()}
    return {"terminated": {"exitCode": code, "message": message, **times}}


def pod(name: str, state: dict[str, Any]) -> observed.Pod:
    phase = "Running" if "running" in state else "Failed"
    if state.get("terminated", {}).get("exitCode") == 0:
        phase = "Succeeded"
    containers = [{"name": name, "state": state}]
    status = {"phase": phase, "containerStatuses": containers}
    return observed.pod({"metadata": {"name": f"{name}-0"}, "status": status})


def batch(raw: Any, *, condition: str = "", suspend: bool = False) -> observed.BatchJob:
    conditions = [{"type": condition, "status": "True", "lastTransitionTime": NOW.isoformat()}]
    status = {"conditions": conditions if condition else []}
    return observed.batch_job({**raw, "spec": {"suspend": suspend}, "status": status})


def status_of(found: Children, live: TrainingState | None = None) -> FineTuningJobStatus:
    status = outcome.next_status(JOB, found, live, "http://localhost:8000/metrics", NOW)
    return outcome.localized(status, JOB, Path("/o"))


def test_a_running_trainer_is_shown_with_its_figures() -> None:
    live = TrainingState(
        updated_at=1, state=RunState.TRAINING, step=4, total_steps=10, loss=2.5, epoch=0.4
    )
    found = Children(
        training=batch(CHILDREN.training_job), training_pods=(pod("finetuning", RUNNING),)
    )
    status = status_of(found, live)
    assert (status.phase, status.current_step, status.progress) == (Phase.RUNNING, 4, "40%")
    assert status.train_loss == pytest.approx(2.5)


def test_a_stop_that_was_asked_for_is_a_pause_with_its_checkpoint() -> None:
    words = TrainingResult(
        result=RunState.PAUSED, step=4, total_steps=10, checkpoint="checkpoints/checkpoint-4"
    )
    found = Children(
        training=batch(CHILDREN.training_job, suspend=True),
        training_pods=(pod("finetuning", ended(143, words.model_dump_json(by_alias=True))),),
    )
    status = status_of(found)
    assert (status.phase, status.message) == (Phase.PAUSED, outcome.CONTINUE)
    assert status.checkpoint_path == "/o/checkpoints/checkpoint-4"
    (held,) = [each for each in status.conditions if each.type == "Suspended"]
    assert (held.status, held.message) == ("True", outcome.CONTINUE)


def test_checks_that_were_interrupted_are_still_to_come() -> None:
    found = Children(
        training=batch(CHILDREN.training_job, condition="Complete"),
        training_pods=(pod("finetuning", ended(0)),),
        validation=batch(CHILDREN.validation_job, suspend=True),
        validation_pods=(pod("validation", ended(143)),),
    )
    status = status_of(found)
    assert status.phase is Phase.SUCCEEDED
    assert status.validation is not None
    assert status.validation.phase is ValidationPhase.PENDING
    (verdict,) = [each for each in status.conditions if each.type == "Validated"]
    assert (verdict.status, verdict.message) == ("Unknown", "the checks were interrupted")


def test_the_status_tells_where_to_scrape() -> None:
    found = Children(training=batch(CHILDREN.training_job))
    (monitoring,) = [c for c in status_of(found).conditions if c.type == "MonitoringReady"]
    assert monitoring.reason == "MonitoringDisabled"
    assert monitoring.message.endswith("http://localhost:8000/metrics")
