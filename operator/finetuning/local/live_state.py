"""How far the trainer is, from the state file that it keeps; the sidecar reads the same file."""

from math import isfinite
from pathlib import Path

from pydantic import ValidationError

from finetuning.artifacts import LOSS_HISTORY, STATE_FILE
from finetuning.artifacts.files import UnreadableFileError, read_bounded
from finetuning.artifacts.history import read_history
from finetuning.artifacts.models import STATE_MAX_BYTES, TrainingState


def read(folder: Path) -> TrainingState | None:
    """None while there is no state that can be read."""
    try:
        data = read_bounded(folder / STATE_FILE, STATE_MAX_BYTES)
        return TrainingState.model_validate_json(data)
    except (UnreadableFileError, ValidationError):
        return None


def earlier_losses(output: Path) -> dict[int, float]:
    """The losses that an output folder already holds, by step."""
    try:
        lines = list(read_history(output / LOSS_HISTORY))
    except UnreadableFileError:
        return {}
    return {line.step: line.loss for line in lines if isfinite(line.loss)}
