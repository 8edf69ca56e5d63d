"""The newest checkpoint of a run, and what it says of itself."""

from pathlib import Path
from typing import Any

from finetuning.artifacts import MANIFEST, MODEL_DIR_FILES
from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.monitoring.validators.checks.tree import step_of
from finetuning.monitoring.validators.outcome import Finding

TRAINER_STATE = "trainer_state.json"


def newest_checkpoint(path: Path | None, model: Path) -> Path | Finding | None:
    """The checkpoint in or at `path`; None where the run keeps none and none was asked for."""
    if path is None:
        return None
    # Whoever types a path may name a link; one in the model's folder was put there by the run.
    if path.is_symlink() and path.parent.resolve().is_relative_to(model.resolve()):
        return Finding("NotAFile", f"{path.name} is a link; the folder itself is needed")
    if not path.is_dir():
        return Finding("CheckpointsMissing", f"there is no folder {path}")
    return _newest_in(path)


def _newest_in(path: Path) -> Path | Finding:
    steps = {step: folder for folder in path.iterdir() if (step := step_of(folder)) is not None}
    if steps:
        newest = steps[max(steps)]
        if newest.is_symlink() or not newest.is_dir():
            return Finding("NotAFile", f"{newest.name} is a link or a file; a folder is needed")
        return newest.resolve()
    if (path / MANIFEST).exists() or any((path / name).exists() for name in MODEL_DIR_FILES):
        return path.resolve()
    return Finding("CheckpointsMissing", f"there is no checkpoint in {path}")


def newest_state(path: Path | None, model: Path | None) -> dict[str, Any]:
    """Its trainer_state.json; empty where there is none that can be read, which others judge."""
    found = newest_checkpoint(path, model) if model else None
    if not isinstance(found, Path):
        return {}
    try:
        state = read_json(found / TRAINER_STATE)
    except UnreadableFileError:
        return {}
    return state if isinstance(state, dict) else {}
