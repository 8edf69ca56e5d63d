"""Where the figures come from: the trainer's state file, its training_info.json, or the caller.

The training container runs code of the user's choice, so its files may hold anything. What cannot
be read leaves the last good values in place and is counted.
"""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from finetuning.artifacts import STATE_FILE
from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.artifacts.models import STATE_MAX_BYTES, RunState, TrainingState
from finetuning.monitoring.training_info import TrainingInfo, read_training_info

_AS_IN_THE_STATE = (
    "total_steps",
    "epoch",
    "total_epochs",
    "eval_loss",
    "nonfinite_losses",
    "tokens_total",
    "samples_total",
    "checkpoints_total",
    "checkpoint_sizes_bytes",
)
"""Figures that training_info.json and the live state have under the same name."""


@dataclass(frozen=True)
class Snapshot:
    """What is known at one moment; fields that nobody set in `state` are unknown."""

    state: TrainingState | None = None
    parse_errors: int = 0
    told: bool = True
    """Whether the trainer has said anything; else `state` is only what its end tells."""

    @property
    def is_final(self) -> bool:
        return self.state is not None and self.state.state.is_terminal


class Source(Protocol):
    """Gives the present snapshot, from any thread."""

    def read(self) -> Snapshot: ...

    def trainer_gone(self) -> None:
        """The training process is known to have ended: what is not final now has failed."""


class FileSource:
    """Reads the state file at every call; training_info.json counts where there is none."""

    def __init__(
        self, state_dir: Path, training_info: Path | None, *, ignore_old_info: bool = False
    ) -> None:
        """With `ignore_old_info` a training_info.json of an earlier run is not taken for ours."""
        self._state_file = state_dir / STATE_FILE
        self._training_info = training_info
        self._old_info = _version(training_info) if ignore_old_info and training_info else None
        self._lock = threading.Lock()
        self._good: TrainingState | None = None
        self._from_info: TrainingState | None = None
        self._errors = 0
        self._gone: tuple[float, tuple[int, float] | None] | None = None
        """When the trainer ended, and the age of what it had written until then."""

    def read(self) -> Snapshot:
        with self._lock:
            self._read_state()
            if self._good is None:
                self._read_info()
            state = self._good or self._from_info
            told = state is not None
            if self._gone and self._gone[1] == _age(state):
                state = presume_failed(state, self._gone[0])
            return Snapshot(state, self._errors, told)

    def trainer_gone(self) -> None:
        """Whoever still writes the file after this call is alive, and believed again."""
        state = self.read().state
        with self._lock:
            self._gone = (time.time(), _age(state))

    def _read_state(self) -> None:
        try:
            self._good = read_state(self._state_file) or self._good
        except ValueError:
            self._errors += 1

    def _read_info(self) -> None:
        version = _version(self._training_info)
        if self._training_info is None or version in (None, self._old_info):
            return
        try:
            info = read_training_info(self._training_info)
            self._from_info = state_from_info(info, self._training_info.lstat().st_mtime)
        except (ValueError, OSError):
            self._errors += 1


class ManualSource:
    """Holds what a program sets itself when it embeds the exporter without a state file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {}
        self._state: TrainingState | None = None

    def read(self) -> Snapshot:
        return Snapshot(self._state)

    def trainer_gone(self) -> None:
        """The program that sets the values is the trainer: nothing to presume."""

    def update(self, values: dict[str, Any]) -> None:
        unknown = sorted(set(values) - set(TrainingState.model_fields))
        if unknown:
            known = ", ".join(sorted(TrainingState.model_fields))
            raise ValueError(f"unknown value {unknown[0]!r}; known are {known}")
        with self._lock:
            merged = {"state": RunState.TRAINING, **self._values, "updated_at": time.time()}
            merged |= values
            self._state = TrainingState.model_validate(merged)
            self._values = merged


def read_state(path: Path) -> TrainingState | None:
    """The state file, None while there is none; raises ValueError when it is not one."""
    try:
        return TrainingState.model_validate(read_json(path, STATE_MAX_BYTES))
    except UnreadableFileError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def state_from_info(info: TrainingInfo, written_at: float) -> TrainingState:
    """The final values of a finished run; what training_info.json does not say stays unset."""
    results = info.results
    runtime = results.train_runtime
    known = {
        "started_at": written_at - runtime if runtime is not None else None,
        "step": results.global_step,
        "loss": info.loss,
        "samples_per_second": results.train_samples_per_second,
        "tokens_per_second": results.train_tokens_per_second,
        **{name: getattr(results, name) for name in _AS_IN_THE_STATE},
    }
    return TrainingState.model_validate(
        {
            "state": RunState.FINISHED,
            "updated_at": written_at,
            "finished_at": written_at,
            **{name: value for name, value in known.items() if value is not None},
        }
    )


def presume_failed(state: TrainingState | None, ended_at: float) -> TrainingState:
    """The state of a run whose process ended without a last word, such as after an OOM kill.

    Some end before their first word, such as for an image without Python.
    """
    if state is not None and state.state.is_terminal:
        return state
    doing = f"while {state.state} and left no final state" if state else "before it told anything"
    return (state or TrainingState(updated_at=ended_at)).model_copy(
        update={
            "state": RunState.FAILED,
            "finished_at": ended_at,
            "reason": "TrainerGone",
            "message": f"the trainer ended {doing}",
        }
    )


def _age(state: TrainingState | None) -> tuple[int, float] | None:
    return (state.seq, state.updated_at) if state else None


def _version(path: Path | None) -> tuple[int, int, int] | None:
    """Changes with every rewrite; None when there is no file."""
    try:
        info = path.lstat() if path else None
    except OSError:
        return None
    return (info.st_ino, info.st_mtime_ns, info.st_size) if info else None
