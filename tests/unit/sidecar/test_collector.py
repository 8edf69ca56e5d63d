import math
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from finetuning.artifacts.models import RunState, TrainingState
from finetuning.monitoring.catalog import METRICS, SPECIFIED, JobStatus, Kind
from finetuning.monitoring.collector import (
    Identity,
    SnapshotCollector,
    epoch_label,
    job_status,
    progress_percent,
)
from finetuning.monitoring.source import Snapshot

RUN = Identity("my-job", "org/model", "lora", "1.2.3", "3.11")
Series = dict[str, list[tuple[dict[str, str], float]]]


def series_of(snapshot: Snapshot) -> Series:
    text = generate_latest(SnapshotCollector(snapshot, RUN)).decode()
    series: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series.setdefault(sample.name, []).append((sample.labels, sample.value))
    return series


def series_with(given: dict[str, Any], **changes: Any) -> Series:
    return series_of(Snapshot(TrainingState.model_validate(given | changes)))


def value(series: Series, name: str) -> float:
    ((_, only),) = series[name]
    return only


def test_a_running_job_shows_every_metric(state: dict[str, Any]) -> None:
    series = series_with(state)
    shown = {name.removesuffix("_count") for name in series}
    assert {metric.name for metric in METRICS} <= shown


def test_values_arrive_unchanged(state: dict[str, Any]) -> None:
    series = series_with(state)
    assert series["finetuning_job_status"] == [
        ({"job_name": "my-job", "model_id": "org/model", "method": "lora"}, 1.0)
    ]
    assert series["finetuning_train_loss"] == [
        ({"job_name": "my-job", "model_id": "org/model", "epoch": "2"}, 0.5234)
    ]
    assert value(series, "finetuning_training_epoch") == 1.25
    assert value(series, "finetuning_training_step") == 37
    assert value(series, "finetuning_training_progress") == 37
    assert value(series, "finetuning_learning_rate") == 0.0002
    assert value(series, "finetuning_checkpoints_total") == 3
    assert value(series, "finetuning_estimated_completion_timestamp_seconds") == 2_000_000_160


def test_labels_are_those_of_the_catalogue(state: dict[str, Any]) -> None:
    series = series_with(state)
    for metric in METRICS:
        name = metric.name + ("_count" if metric.kind is Kind.HISTOGRAM else "")
        for labels, _ in series[name]:
            assert set(labels) == set(metric.labels)


OF_AN_EARLIER_POD_TOO = (
    "training_step",
    "training_progress",
    "train_loss",
    "tokens_total",
    "samples_total",
    "checkpoints_total",
    "checkpoint_size_bytes_count",
    "nonfinite_loss_total",
)


@pytest.mark.parametrize("state", [None, {"updatedAt": 5}], ids=["no word", "starting"])
def test_a_run_that_may_go_on_has_no_figures_until_it_knows_them(
    state: dict[str, Any] | None,
) -> None:
    """A zero now and the checkpoint's figure a minute later would be work of that minute."""
    series = series_of(Snapshot(TrainingState.model_validate(state) if state else None))
    status = JobStatus.RUNNING if state else JobStatus.PENDING
    assert value(series, "finetuning_job_status") == status
    assert value(series, "finetuning_job_duration_seconds_count") == 0
    assert [name for name in OF_AN_EARLIER_POD_TOO if f"finetuning_{name}" in series] == []


def test_a_run_that_has_counted_nothing_says_so() -> None:
    counted = {"step": 0, "tokensTotal": 0, "checkpointsTotal": 0, "checkpointSizesBytes": []}
    series = series_with({"updatedAt": 5, "totalSteps": 100} | counted)
    for name in ("training_step", "training_progress", "tokens_total", "checkpoints_total"):
        assert value(series, f"finetuning_{name}") == 0
    assert value(series, "finetuning_checkpoint_size_bytes_count") == 0


def test_what_the_trainer_does_not_know_is_missing_and_not_zero(state: dict[str, Any]) -> None:
    unknown = ("loss", "learningRate", "epoch", "totalSteps", "tokensPerSecond", "evalLoss")
    series = series_with(state, **dict.fromkeys(unknown), gpus=[])
    for name in (
        "train_loss",
        "learning_rate",
        "training_epoch",
        "training_progress",
        "tokens_per_second",
        "eval_loss",
        "gpu_utilization_percent",
        "gpu_memory_used_bytes",
    ):
        assert f"finetuning_{name}" not in series


def test_a_gpu_shows_only_what_it_reports(state: dict[str, Any]) -> None:
    series = series_with(state)
    assert [labels["gpu_id"] for labels, _ in series["finetuning_gpu_utilization_percent"]] == ["0"]
    assert [labels["gpu_id"] for labels, _ in series["finetuning_gpu_memory_total_bytes"]] == [
        "0",
        "1",
    ]


def test_only_the_current_epoch_has_a_loss_series(state: dict[str, Any]) -> None:
    for epoch, label in ((0.5, "1"), (1.0, "1"), (2.01, "3")):
        ((labels, _),) = series_with(state, epoch=epoch)["finetuning_train_loss"]
        assert labels["epoch"] == label


def test_a_loss_belongs_to_the_epoch_in_which_it_was_told(state: dict[str, Any]) -> None:
    told = series_with(state, epoch=8.2, lossEpoch=7.9)["finetuning_train_loss"]
    assert [labels["epoch"] for labels, _ in told] == ["8"]


def test_zero_is_a_value(state: dict[str, Any]) -> None:
    series = series_with(state, learningRate=0.0, step=0, loss=0.0)
    assert value(series, "finetuning_learning_rate") == 0
    assert value(series, "finetuning_training_step") == 0
    assert value(series, "finetuning_train_loss") == 0


def test_a_loss_that_is_not_a_number_is_shown_as_such(state: dict[str, Any]) -> None:
    series = series_with(state, loss="NaN", nonfiniteLosses=1)
    assert math.isnan(value(series, "finetuning_train_loss"))
    assert value(series, "finetuning_nonfinite_loss_total") == 1


def test_checkpoint_sizes_fill_cumulative_buckets(state: dict[str, Any]) -> None:
    series = series_with(state)
    buckets = {
        float(labels["le"]): count
        for labels, count in series["finetuning_checkpoint_size_bytes_bucket"]
    }
    assert buckets[2.0**20] == 0
    assert buckets[2.0**22] == 2
    assert buckets[2.0**32] == 2
    assert buckets[2.0**34] == 3
    assert buckets[math.inf] == 3
    assert value(series, "finetuning_checkpoint_size_bytes_sum") == 5_005_000_000


def test_duration_is_observed_once_and_only_at_the_end(state: dict[str, Any]) -> None:
    count = "finetuning_job_duration_seconds_count"
    assert value(series_with(state), count) == 0
    ended = {"finishedAt": 2_000_000_400.0}
    assert value(series_with(state, state="paused", **ended), count) == 0
    done = series_with(state, state="finished", **ended)
    assert value(done, count) == 1
    assert value(done, "finetuning_job_duration_seconds_sum") == 450
    failed = series_with(state, state="failed", **ended)
    assert value(failed, "finetuning_job_duration_seconds_sum") == 450


def test_a_process_that_fails_while_it_loads_has_a_duration() -> None:
    told = {"updatedAt": 5, "processStartedAt": 5, "state": "failed", "finishedAt": 12}
    assert value(series_with(told), "finetuning_job_duration_seconds_sum") == 7


def test_no_series_tells_a_creation_time(state: dict[str, Any]) -> None:
    assert not [name for name in series_with(state) if name.endswith("_created")]


@pytest.mark.parametrize(
    ("run_state", "code"),
    [
        (RunState.STARTING, 1),
        (RunState.TRAINING, 1),
        (RunState.EVALUATING, 1),
        (RunState.SAVING, 1),
        (RunState.FINISHED, 2),
        (RunState.FAILED, 3),
        (RunState.PAUSED, 4),
    ],
)
def test_every_state_has_its_status_code(run_state: RunState, code: int) -> None:
    assert job_status(TrainingState(state=run_state, updated_at=0)) == code


@pytest.mark.parametrize(
    ("changes", "percent"),
    [
        ({"step": 0}, 0.0),
        ({"step": 50}, 50.0),
        ({"step": 100, "state": "saving"}, 99.9),
        ({"step": 140}, 99.9),
        ({"step": 100, "state": "finished"}, 100.0),
        ({"step": 50, "state": "failed"}, 50.0),
        ({"totalSteps": None}, None),
        ({"totalSteps": 0}, None),
    ],
)
def test_progress_is_a_percentage_that_reaches_the_end_with_the_result(
    state: dict[str, Any], changes: dict[str, Any], percent: float | None
) -> None:
    assert progress_percent(TrainingState.model_validate(state | changes)) == percent


@pytest.mark.parametrize(
    ("epoch", "label"),
    [(None, ""), (0.0, "1"), (0.37, "1"), (1.0, "1"), (1.01, "2"), (3.0, "3"), (math.inf, "")],
)
def test_epochs_are_counted_from_one(epoch: float | None, label: str) -> None:
    assert epoch_label(epoch) == label


@pytest.mark.parametrize("field", ["step", "totalSteps", "tokensTotal", "epoch", "updatedAt"])
@pytest.mark.parametrize(
    "figure", [2**54, 10**400, math.inf, -1], ids=["large", "huge", "infinite", "negative"]
)
def test_figures_beyond_any_real_one_are_no_state(
    state: dict[str, Any], field: str, figure: float
) -> None:
    with pytest.raises(ValidationError):
        TrainingState.model_validate(state | {field: figure})


def test_openmetrics_clients_get_valid_openmetrics(state: dict[str, Any]) -> None:
    snapshot = Snapshot(TrainingState.model_validate(state))
    text = openmetrics_text(SnapshotCollector(snapshot, RUN)).decode()  # type: ignore[no-untyped-call]
    names = {family.name for family in parse_openmetrics(text)}  # type: ignore[no-untyped-call]
    assert {metric.name.removesuffix("_total") for metric in SPECIFIED} <= names
