"""Checkpoints: complete or absent, without a pickle, and checked before they are trusted.

A checkpoint is written under a temporary name on the same volume, sealed by a manifest and renamed.
"""

import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from finetuning.artifacts import CHECKPOINT_PREFIX, CHECKPOINTS_DIR, MANIFEST
from finetuning.artifacts.files import UnreadableFileError, read_json, sync_directory, write_json
from finetuning.artifacts.manifest import problem_with, seal
from finetuning.artifacts.trainer_state import OPTIMIZER, TRAINER_STATE, TrainerState
from finetuning.base.storage import finish_files, replace_folder, space_for

if TYPE_CHECKING:
    import torch

TEMPORARY = ".tmp-"

log = logging.getLogger(__name__)


class Checkpoint(BaseModel):
    """A complete and intact checkpoint."""

    folder: Path
    state: TrainerState


def path_of(step: int) -> str:
    """A checkpoint's path in the output folder."""
    return f"{CHECKPOINTS_DIR}/{CHECKPOINT_PREFIX}{step}"


def save(
    root: Path,
    state: TrainerState,
    write_weights: Callable[[Path], None],
    optimizer: "dict[str, torch.Tensor]",
    keep: int,
    *,
    spare: int | None = None,
) -> tuple[Path, int]:
    """Write a checkpoint, delete those beyond `keep`; the new one's folder and size in bytes.

    The checkpoint of step `spare` stays in any case.

    Raises:
        StorageFullError: what was complete before still is.
    """
    from safetensors.torch import save_file  # noqa: PLC0415 - loads torch

    final = root / f"{CHECKPOINT_PREFIX}{state.global_step}"
    temporary = root / f"{TEMPORARY}{final.name}"
    try:
        with space_for(final.name, root):
            temporary.mkdir(parents=True, exist_ok=True)
            write_weights(temporary)
            tensors = {name: tensor.contiguous() for name, tensor in optimizer.items()}
            save_file(tensors, temporary / OPTIMIZER)
            write_json(temporary / TRAINER_STATE, state.model_dump(mode="json"))
            seal(temporary, finish_files(temporary))
            size = _size_of(temporary)
            replace_folder(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _delete_old(root, keep, spare)
    return final, size


def newest(root: Path) -> Checkpoint | None:
    """The newest complete and intact checkpoint; broken ones are passed over with a line."""
    _put_in_place(root)
    for folder in _by_age(root):
        try:
            return _intact(folder)
        except (UnreadableFileError, ValidationError) as error:
            log.warning("Passing over the checkpoint %s: %s", folder.name, error)
    return None


def _intact(folder: Path) -> Checkpoint:
    """Raises UnreadableFileError, ValidationError."""
    if problem := problem_with(folder):
        raise UnreadableFileError(problem)
    state = _state_in(folder)
    if state.global_step != step_of(folder):
        raise UnreadableFileError(f"is of step {state.global_step}")
    state.add_checkpoint(_size_of(folder))  # Its own size it could not know.
    return Checkpoint(folder=folder, state=state)


def _put_in_place(root: Path) -> None:
    """What a crash has left whole, and nothing is there in whose place it would be."""
    for folder in root.glob(f"{TEMPORARY}{CHECKPOINT_PREFIX}*"):
        final = root / folder.name.removeprefix(TEMPORARY)
        if not final.exists() and problem_with(folder) is None:
            folder.rename(final)


def read(root: Path, step: int) -> Checkpoint:
    """A checkpoint that is known to be intact.

    Raises:
        UnreadableFileError: it is not there, though another process has just seen it.
    """
    folder = root / f"{CHECKPOINT_PREFIX}{step}"
    return Checkpoint(folder=folder, state=_state_in(folder))


def latest_state(root: Path) -> TrainerState:
    """What the newest checkpoint that looks complete says of itself; step 0 without one."""
    for folder in _by_age(root):
        if (folder / MANIFEST).is_file():
            with suppress(UnreadableFileError, ValidationError):
                return _state_in(folder)
    return TrainerState()


def _state_in(folder: Path) -> TrainerState:
    """What a checkpoint says of itself; raises UnreadableFileError, ValidationError."""
    return TrainerState.model_validate(read_json(folder / TRAINER_STATE))


def clean(root: Path, step: int) -> None:
    """Delete what a crash left half-written, and what lies beyond the step that goes on."""
    for leftover in root.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for folder in _by_age(root):
        if step_of(folder) > step:
            _remove(folder)


def _remove(path: Path) -> None:
    """A checkpoint, or what has the name of one: of a link the link alone."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)


def optimizer_tensors(optimizer: Any, names: dict[Any, str]) -> "dict[str, torch.Tensor]":
    """The optimizer's state as `<parameter>.<key>`: tensors with names need no pickle."""
    return {
        f"{names[parameter]}.{key}": value
        for parameter, entries in optimizer.state.items()
        for key, value in entries.items()
    }


def restore_optimizer(optimizer: Any, names: dict[Any, str], folder: Path) -> None:
    """Give every parameter the state that it had, or its part, one tensor after the other."""
    from safetensors import safe_open  # noqa: PLC0415 - loads torch

    from finetuning.base.distribute import like  # noqa: PLC0415 - loads torch

    parameters = {name: parameter for parameter, name in names.items()}
    with safe_open(folder / OPTIMIZER, "pt") as file:
        for full in file.keys():  # noqa: SIM118 - it has no other way
            name, key = full.rsplit(".", maxsplit=1)
            parameter = parameters[name]
            optimizer.state[parameter][key] = like(parameter, file.get_tensor(full))


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def step_of(folder: Path) -> int:
    """The step in a checkpoint's name; -1 for any other folder."""
    number = folder.name.removeprefix(CHECKPOINT_PREFIX)
    return int(number) if number.isdecimal() else -1


def _by_age(root: Path) -> list[Path]:
    """Folders of checkpoints, the newest first."""
    found = [path for path in root.glob(f"{CHECKPOINT_PREFIX}*") if step_of(path) >= 0]
    return sorted(found, key=step_of, reverse=True)


def _delete_old(root: Path, keep: int, spare: int | None) -> None:
    """A rename first, so that a crash in between leaves no checkpoint that only looks complete."""
    for folder in (old for old in _by_age(root)[keep:] if step_of(old) != spare):
        rubbish = root / f"{TEMPORARY}old-{folder.name}"
        folder.rename(rubbish)
        shutil.rmtree(rubbish, ignore_errors=True)
    sync_directory(root)
