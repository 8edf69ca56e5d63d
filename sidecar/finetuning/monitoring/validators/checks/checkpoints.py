"""The checkpoints of a run, and what the newest says of itself."""

from pathlib import Path
from typing import Any

from finetuning.artifacts import MANIFEST, MODEL_DIR_FILES
from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.artifacts.trainer_state import TRAINER_STATE
from finetuning.monitoring.validators.checks.tree import step_of
from finetuning.monitoring.validators.outcome import Finding


def checkpoints_in(path: Path | None, model: Path) -> list[Path] | Finding:
    """Those in or at `path`, the oldest first; none where the run keeps none.

    All of them: a run goes on from an older one when the newest is lost.
    """
    if path is None:
        return []
    # Whoever types a path may name a link; one in the model's folder was put there by the run.
    if path.is_symlink() and path.parent.resolve().is_relative_to(model.resolve()):
        return Finding("NotAFile", f"{path.name} is a link; the folder itself is needed")
    if not path.is_dir():
        return Finding("CheckpointsMissing", f"there is no folder {path}")
    return _all_in(path)


def _all_in(path: Path) -> list[Path] | Finding:
    steps = {step: folder for folder in path.iterdir() if (step := step_of(folder)) is not None}
    for folder in steps.values():
        if folder.is_symlink() or not folder.is_dir():
            return Finding("NotAFile", f"{folder.name} is a link or a file; a folder is needed")
    if steps:
        return [steps[step].resolve() for step in sorted(steps)]
    if (path / MANIFEST).exists() or any((path / name).exists() for name in MODEL_DIR_FILES):
        return [path.resolve()]
    return Finding("CheckpointsMissing", f"there is no checkpoint in {path}")


def newest_state(path: Path | None, model: Path | None) -> dict[str, Any]:
    """Its trainer_state.json; empty where there is none that can be read, which others judge."""
    found = checkpoints_in(path, model) if model else []
    if isinstance(found, Finding) or not found:
        return {}
    try:
        state = read_json(found[-1] / TRAINER_STATE)
    except UnreadableFileError:
        return {}
    return state if isinstance(state, dict) else {}
