"""Where the figures come from: the trainer's state file, its training_info.json, or the caller.

The training container runs code of the user's choice, so its files may hold anything. What cannot
be read leaves the last good values in place and is counted.
"""

import threading
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from finetuning.api.hyperparameters import Precision
from finetuning.artifacts import GPUS_FILE, STATE_FILE
from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.artifacts.models import (
    STATE_MAX_BYTES,
    Artifact,
    GpuFigures,
    RunState,
    TrainingState,
)
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


class Origin(Enum):
    """Whose word a state is."""

    TRAINER = "trainer"
    RESULT = "result"
    """training_info.json: figures over the whole run."""
    END = "end"
    """Nobody's: the trainer has ended, and that is all that is known."""


@dataclass(frozen=True)
class Snapshot:
    """What is known at one moment; fields that nobody set in `state` are unknown."""

    state: TrainingState | None = None
    parse_errors: int = 0
    origin: Origin = Origin.TRAINER
    gpus_at: float = 0.0
    """When the GPUs' figures were read, where that was after the state was written."""
    read_at: float = 0.0
    """Unix seconds; what is then too old to be so is for the reader to judge."""

    @property
    def is_final(self) -> bool:
        return self.state is not None and self.state.state.is_terminal


class Source(Protocol):
    """Gives the present snapshot, from any thread."""

    def read(self) -> Snapshot: ...

    def trainer_gone(self) -> None:
        """The training process is known to have ended: what is not final now has failed."""


A = TypeVar("A", bound=Artifact)


class FileSource:
    """Reads the state file at every call; training_info.json counts where there is none."""

    def __init__(
        self, state_dir: Path, training_info: Path | None, *, ignore_old_info: bool = False
    ) -> None:
        """With `ignore_old_info` a training_info.json of an earlier run is not taken for ours."""
        self._state_file = state_dir / STATE_FILE
        self._gpus_file = state_dir / GPUS_FILE
        self._training_info = training_info
        self._old_info = _version(training_info) if ignore_old_info and training_info else None
        self._lock = threading.Lock()
        self._good: TrainingState | None = None
        self._gpus: GpuFigures | None = None
        self._from_info: TrainingState | None = None
        self._errors = 0
        self._gone: tuple[float, tuple[int, float] | None] | None = None
        """When the trainer ended, and the age of what it had written until then."""

    def read(self) -> Snapshot:
        with self._lock:
            self._good = self._newest(self._state_file, self._good, TrainingState)
            self._gpus = self._newest(self._gpus_file, self._gpus, GpuFigures)
            if self._good is None:
                self._read_info()
            state, origin = self._told()
            if self._gone and self._gone[1] == _age(state):
                state = presume_failed(state, self._gone[0])
            if state and self._gpus and self._gpus.updated_at > state.updated_at:
                state = state.model_copy(update={"gpus": self._gpus.gpus})
            gpus_at = self._gpus.updated_at if self._gpus else 0.0
            return Snapshot(state, self._errors, origin, gpus_at, time.time())

    def _told(self) -> tuple[TrainingState | None, Origin]:
        if self._good:
            return self._good, Origin.TRAINER
        return self._from_info, Origin.RESULT if self._from_info else Origin.END

    def trainer_gone(self) -> None:
        """Whoever still writes the file after this call is alive, and believed again."""
        state = self.read().state
        with self._lock:
            self._gone = (time.time(), _age(state))

    def _newest(self, path: Path, last: A | None, model: type[A]) -> A | None:
        """The file's content, or the last good one."""
        try:
            return read_artifact(path, model) or last
        except ValueError:
            self._errors += 1
            return last

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
        self._values: dict[str, Any] = {"process_started_at": time.time()}
        self._state: TrainingState | None = None

    def read(self) -> Snapshot:
        return Snapshot(self._state, read_at=time.time())

    def trainer_gone(self) -> None:
        """The program that sets the values is the trainer: nothing to presume."""

    def update(self, values: dict[str, Any]) -> None:
        unknown = sorted(set(values) - set(TrainingState.model_fields))
        if unknown:
            known = ", ".join(sorted(TrainingState.model_fields))
            raise ValueError(f"unknown value {unknown[0]!r}; known are {known}")
        with self._lock:
            now = time.time()
            merged = {"state": RunState.TRAINING, **self._values, "updated_at": now, **values}
            state = TrainingState.model_validate(merged)
            if state.state.is_terminal and state.finished_at is None:
                merged["finished_at"] = now
            self._state, self._values = TrainingState.model_validate(merged), merged


def read_artifact(path: Path, model: type[A]) -> A | None:
    """A file of the trainer's, None while there is none; raises ValueError when it is not one."""
    try:
        return model.model_validate(read_json(path, STATE_MAX_BYTES))
    except UnreadableFileError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def state_from_info(info: TrainingInfo, written_at: float) -> TrainingState:
    """The final values of a finished run; what training_info.json does not say stays unset.

    When the file was written stands for the end where it does not tell that itself.
    """
    results = info.results
    ended = info.finished_at or written_at
    began = info.started_at
    if began is None and results.train_runtime is not None:
        began = ended - results.train_runtime
    precision = info.environment.get("precision")
    known = {
        "started_at": began,
        # The loading before that is not told; it is the best that is known.
        "process_started_at": began,
        "precision": precision if precision in set(Precision) else None,
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
            "finished_at": ended,
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
