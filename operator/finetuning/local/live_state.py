"""How far a run is, from the files in its folders; the sidecar reads the trainer's state too."""

from math import isfinite
from pathlib import Path

from pydantic import ValidationError

from finetuning.api.v1alpha1 import FineTuningJobStatus, Phase
from finetuning.artifacts import GPUS_FILE, LOSS_HISTORY, STATE_FILE
from finetuning.artifacts.files import UnreadableFileError, read_bounded, read_json
from finetuning.artifacts.history import read_history
from finetuning.artifacts.models import STATE_MAX_BYTES, GpuFigures, TrainingState

SILENCE = 60.0
"""Seconds. A trainer that has loaded its libraries tells every few seconds that it lives."""
WITHOUT_A_PULSE = 120.0
"""One that loads them, or of another make, has no such file."""


def read(folder: Path) -> TrainingState | None:
    """None while there is no state that can be read."""
    try:
        data = read_bounded(folder / STATE_FILE, STATE_MAX_BYTES)
        return TrainingState.model_validate_json(data)
    except (UnreadableFileError, ValidationError):
        return None


def pulse(folder: Path) -> float | None:
    """When the trainer last said that it lives, in Unix seconds; None where it never did."""
    try:
        data = read_bounded(folder / GPUS_FILE, STATE_MAX_BYTES)
        return GpuFigures.model_validate_json(data).updated_at
    except (UnreadableFileError, ValidationError):
        return None


def silence(live: TrainingState, beat: float | None, now: float) -> float | None:
    """Seconds since the last word or sign of life; None while that is no wonder."""
    beats = beat is not None and beat >= (live.process_started_at or 0.0)
    silent = now - max(live.updated_at, beat or 0.0)
    if live.state.is_terminal or silent < (SILENCE if beats else WITHOUT_A_PULSE):
        return None
    return silent


def earlier_losses(output: Path) -> dict[int, float]:
    """The losses that an output folder already holds, by step."""
    try:
        lines = list(read_history(output / LOSS_HISTORY))
    except UnreadableFileError:
        return {}
    return {line.step: line.loss for line in lines if isfinite(line.loss)}


def holds_result(status_file: Path) -> bool:
    """Whether an earlier run has left a finished result behind."""
    try:
        found = FineTuningJobStatus.model_validate(read_json(status_file, STATE_MAX_BYTES))
    except (UnreadableFileError, ValidationError):
        return False
    return found.phase is Phase.SUCCEEDED


def replaces(status: FineTuningJobStatus, live: TrainingState | None) -> bool:
    """Whether the status is about a new result: a run that was refused has changed nothing."""
    return status.phase is Phase.SUCCEEDED or (live is not None and live.total_steps is not None)
