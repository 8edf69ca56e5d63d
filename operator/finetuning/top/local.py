"""The runs below a folder, by the files that they keep; nothing of them is trusted."""

import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetuning.api.v1alpha1 import FineTuningJobStatus, Phase
from finetuning.artifacts import (
    CHECKPOINTS_DIR,
    LOSS_HISTORY,
    PERFORMANCE_HISTORY,
    STATE_DIR,
    STATE_FILE,
    TRAINING_INFO,
)
from finetuning.artifacts.files import UnreadableFileError, read_bounded, read_json
from finetuning.artifacts.models import RunState, TrainingState
from finetuning.artifacts.plain import plain
from finetuning.controller import progress
from finetuning.local import live_state
from finetuning.local.lock import is_held
from finetuning.local.run import STATUS_FILE
from finetuning.top.rows import Curve, Row
from finetuning.top.source import SourceError

STATUS_MAX_BYTES = 1 << 20
CHUNK = 8 << 20
"""Bytes of a history that are held at once; a longer line ends the reading."""

_PRESENT = ("tokens_per_second", "samples_per_second", "estimated_remaining_seconds")
"""What is not so any more of a run that is silent."""

_PHASES = {
    RunState.STARTING: Phase.PENDING,
    RunState.FINISHED: Phase.SUCCEEDED,
    RunState.FAILED: Phase.FAILED,
    RunState.PAUSED: Phase.PAUSED,
}


class LocalSource:
    """`finetuning run` leaves status.json, the trainer alone state/rank-0.json."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: dict[Path, _Run] = {}

    @property
    def name(self) -> str:
        return str(self._folder)

    async def rows(self) -> Sequence[Row]:
        found = list(_run_folders(self._folder))
        if not found:
            raise SourceError(
                f"{self._folder}: holds no run; name a run's output folder or one with several"
            )
        self._runs = {path: self._runs.get(path) or _Run(path) for path in found}
        return [run.row() for run in self._runs.values()]

    async def close(self) -> None:
        """Nothing is kept open."""


def _run_folders(folder: Path) -> list[Path]:
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise SourceError(f"{folder}: {error.strerror}") from None
    return [path for path in (folder, *below) if _is_run(path)]


def _is_run(path: Path) -> bool:
    return (path / STATUS_FILE).is_file() or (path / STATE_DIR / STATE_FILE).is_file()


@dataclass(slots=True)
class _Run:
    """One output folder, and what was read of it before."""

    folder: Path
    _about: str = ""
    _losses: Curve = field(default_factory=Curve)
    _speeds: Curve = field(default_factory=Curve)
    _loss_file: "Follower" = field(init=False)
    _speed_file: "Follower" = field(init=False)

    def __post_init__(self) -> None:
        self._loss_file = Follower(self.folder / LOSS_HISTORY)
        self._speed_file = Follower(self.folder / PERFORMANCE_HISTORY)

    def row(self) -> Row:
        _grow(self._losses, self._loss_file, "loss")
        _grow(self._speeds, self._speed_file, "tokens_per_second")
        self._about = self._about or _about(self.folder)
        status, note = _status(self.folder)
        return Row(
            name=plain(self.folder.resolve().name, 63),
            status=status,
            about=self._about,
            losses=tuple(self._losses.values),
            speeds=tuple(self._speeds.values),
            note=note,
        )


def _grow(curve: Curve, file: "Follower", figure: str) -> None:
    for line in file.new_lines():
        with suppress(KeyError, TypeError, ValueError, OverflowError):
            curve.add(int(line["step"]), float(line[figure]))


@dataclass(slots=True)
class Follower:
    """Reads what was appended to a file of JSON lines; a file put in its place is read anew."""

    path: Path
    _file: int = 0
    _offset: int = 0

    def new_lines(self) -> Iterator[Any]:
        """Whole lines only; what is no JSON is passed over, and so is a file that is none."""
        with suppress(OSError):
            while whole := self._read():
                self._offset += len(whole)
                for text in whole.splitlines():
                    with suppress(ValueError, RecursionError):
                        yield json.loads(text)

    def _read(self) -> bytes:
        """The next whole lines; empty at the end, and where a line has none within bounds."""
        handle = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            seen = os.fstat(handle)
            if not stat.S_ISREG(seen.st_mode):
                return b""
            if seen.st_ino != self._file or seen.st_size < self._offset:
                self._file, self._offset = seen.st_ino, 0
            data = os.pread(handle, CHUNK, self._offset)
            return data[: data.rfind(b"\n") + 1]
        finally:
            os.close(handle)


def _about(folder: Path) -> str:
    """Method and model: known from the first checkpoint on."""
    states = sorted(folder.glob(f"{CHECKPOINTS_DIR}/*/trainer_state.json"))
    for path in (folder / TRAINING_INFO, *states[-1:]):
        with suppress(UnreadableFileError):
            data = read_json(path)
            facts = data.get("run") or data if isinstance(data, dict) else None
            if isinstance(facts, dict) and {"method", "model_id"} <= facts.keys():
                return plain(f"{facts['method']} · {facts['model_id']}", 200)
    return ""


def _status(folder: Path) -> tuple[FineTuningJobStatus, str]:
    """The run's status, and what speaks against it."""
    with suppress(UnreadableFileError, ValidationError):
        data = read_bounded(folder / STATUS_FILE, STATUS_MAX_BYTES)
        status = FineTuningJobStatus.model_validate_json(data)
        if status.phase in {Phase.PENDING, Phase.RUNNING} and not is_held(folder):
            speeds = dict.fromkeys(("tokens_per_second", "samples_per_second"))
            stopped = status.model_copy(update={**speeds, "estimated_remaining": ""})
            return stopped, "its process is gone; the same command continues"
        return status, ""
    live = live_state.read(folder / STATE_DIR)
    if live is None:
        return FineTuningJobStatus(), "its status cannot be read"
    note = _silence(live, live_state.pulse(folder / STATE_DIR))
    return _status_of(live.model_copy(update=dict.fromkeys(_PRESENT)) if note else live), note


def _status_of(live: TrainingState) -> FineTuningJobStatus:
    """What the operator would say of a trainer that runs alone."""
    phase = _PHASES.get(live.state, Phase.RUNNING)
    done = phase is Phase.SUCCEEDED
    return FineTuningJobStatus(
        phase=phase,
        reason=live.reason,
        message=plain(live.message, 1024),
        start_time=_moment(live.started_at),
        completion_time=_moment(live.finished_at),
        progress="100%" if done else progress.percent(live.step, live.total_steps),
        estimated_remaining=progress.remaining(live) if phase is Phase.RUNNING else "",
        **progress.fields(live),
    )


def _moment(seconds: float | None) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None
    except (OverflowError, ValueError, OSError):
        return None


def _silence(live: TrainingState, pulse: float | None) -> str:
    silent = live_state.silence(live, pulse, time.time())
    return "" if silent is None else f"no sign of life for {progress.duration(silent)}"
