"""Figures that were true once are not shown as present ones."""

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import generate_latest

from finetuning.artifacts.models import GpuState, TrainingState
from finetuning.monitoring.collector import Identity, SnapshotCollector
from finetuning.monitoring.freshness import present, rate_seconds
from finetuning.monitoring.source import Origin, Snapshot

TOLD_AT = 2_000_000_100.0
SPEEDS = {"finetuning_tokens_per_second", "finetuning_samples_per_second", "finetuning_mfu_ratio"}
END = "finetuning_estimated_completion_timestamp_seconds"
GPU = "finetuning_gpu_utilization_percent"


def shown(snapshot: Snapshot) -> set[str]:
    text = generate_latest(SnapshotCollector(snapshot, Identity())).decode()
    return {line.split("{")[0] for line in text.splitlines() if not line.startswith("#")}


@pytest.fixture
def told(state: dict[str, Any]) -> Snapshot:
    return Snapshot(TrainingState.model_validate(state), read_at=TOLD_AT)


@pytest.mark.parametrize(
    ("silent", "expected"),
    [
        (0, {*SPEEDS, END, GPU}),
        (59, {*SPEEDS, END, GPU}),
        (61, {*SPEEDS, END}),
        (299, {*SPEEDS, END}),
        (301, set()),
        (36000, set()),
        # Clocks that differ make no figure old.
        (-3600, {*SPEEDS, END, GPU}),
    ],
)
def test_after_silence_speeds_and_gpus_are_unknown(
    told: Snapshot, silent: float, expected: set[str]
) -> None:
    seen = shown(replace(told, read_at=TOLD_AT + silent))
    assert seen & {*SPEEDS, END, GPU} == expected
    stay = {"finetuning_train_loss", "finetuning_training_step", "finetuning_tokens_total"}
    assert stay < seen


@pytest.mark.parametrize(("silent", "expected"), [(59, {*SPEEDS, END}), (61, set())])
def test_a_trainer_whose_pulse_has_stopped_has_no_speed(
    told: Snapshot, silent: float, expected: set[str]
) -> None:
    """Nobody else tells a server outside a cluster that the process was killed."""
    seen = shown(replace(told, gpus_at=TOLD_AT - 40, read_at=TOLD_AT + silent))
    assert seen & {*SPEEDS, END} == expected


def test_a_long_step_of_a_living_trainer_keeps_its_speed(told: Snapshot) -> None:
    seen = shown(replace(told, gpus_at=TOLD_AT + 250, read_at=TOLD_AT + 255))
    assert seen & {*SPEEDS, END} == {*SPEEDS, END}


def test_gpus_of_which_is_told_while_the_step_stands_are_shown(told: Snapshot) -> None:
    hung = replace(told, read_at=TOLD_AT + 36000, gpus_at=TOLD_AT + 35990)
    assert shown(hung) & {*SPEEDS, END, GPU} == {GPU}


@pytest.mark.parametrize("end", ["finished", "failed", "paused"])
def test_the_end_of_a_run_is_the_end_of_its_speeds(state: dict[str, Any], end: str) -> None:
    over = Snapshot(TrainingState.model_validate(state | {"state": end}), read_at=TOLD_AT)
    assert not shown(over) & {*SPEEDS, END, GPU}


def test_a_result_has_the_speeds_of_the_whole_run() -> None:
    result = TrainingState(updated_at=5, tokens_per_second=900, gpus=[GpuState(index=0)])
    assert present(Snapshot(result, origin=Origin.RESULT, read_at=TOLD_AT)) == result


@pytest.mark.parametrize(
    ("step", "seconds", "patience"), [(0, 600, 300), (100, 100, 300), (4, 2400, 1800)]
)
def test_a_run_of_long_steps_may_be_silent_for_longer(
    step: int, seconds: float, patience: float
) -> None:
    state = TrainingState(updated_at=1000 + seconds, started_at=1000, step=step)
    assert rate_seconds(state) == patience
