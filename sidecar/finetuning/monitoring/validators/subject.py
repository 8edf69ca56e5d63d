"""What is judged: the files of one run, found once for all checks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.artifacts import AIM_PROFILE, CHECKPOINTS_DIR
from finetuning.artifacts.files import UnreadableFileError
from finetuning.monitoring.training_info import (
    TrainingInfo,
    parse_training_info,
    read_training_info,
)
from finetuning.monitoring.validators.settings import ValidationSettings

InfoSource = Mapping[str, Any] | Path | str | None


@dataclass(frozen=True)
class Subject:
    """One run's files; a path that is None was neither given nor found."""

    info: TrainingInfo | None
    info_problem: str
    model_path: Path | None
    checkpoint_path: Path | None
    profile_path: Path | None
    settings: ValidationSettings


def subject(
    training_info: InfoSource,
    model_path: Path | str | None,
    checkpoint_path: Path | str | None,
    profile_path: Path | str | None,
    settings: ValidationSettings,
) -> Subject:
    """Paths that are not given are those that the trainer uses below the model's folder."""
    model = _path(model_path)
    info, problem = _info(training_info)
    profile = _path(profile_path) or (model / AIM_PROFILE if model else None)
    checkpoints = find_checkpoints(_path(checkpoint_path), model)
    return Subject(info, problem, model, checkpoints, profile, settings)


def find_checkpoints(given: Path | None, model_path: Path | None) -> Path | None:
    """A relative path counts from the current folder first, from the model's folder second."""
    if given is None:
        usual = model_path / CHECKPOINTS_DIR if model_path else None
        return usual if usual and usual.exists() else None
    if model_path is None or given.is_absolute() or given.exists():
        return given
    below = model_path / given
    return below if below.exists() else given


def _info(source: InfoSource) -> tuple[TrainingInfo | None, str]:
    if source is None:
        return None, "no training info was given"
    try:
        if isinstance(source, Mapping):
            return parse_training_info(dict(source), "training info"), ""
        return read_training_info(Path(source)), ""
    except UnreadableFileError as error:
        return None, str(error)


def _path(value: Path | str | None) -> Path | None:
    return None if value is None else Path(value)
