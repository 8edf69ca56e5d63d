"""The live state of the run, written for the sidecar; training never fails because of it."""

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from finetuning.artifacts import STATE_FILE
from finetuning.artifacts.files import read_json, write_atomic
from finetuning.artifacts.models import STATE_MAX_BYTES, GpuState, RunState, TrainingState

MIN_INTERVAL = 1.0
"""Seconds between two writes of mere progress; events are written at once."""

MESSAGE_LIMIT = 1024

log = logging.getLogger(__name__)


class Energy:
    """What GPUs have used since they were first seen, by their own counters."""

    def __init__(self) -> None:
        self._last: dict[int, float | None] = {}
        self._joules = 0.0

    def add(self, gpus: Iterable[GpuState]) -> float | None:
        """Joules up to now; None until all that were ever seen have told.

        A counter that falls was set back with its driver: it counts from there.
        """
        for gpu in gpus:
            before = self._last.setdefault(gpu.index, None)
            if gpu.energy_joules is not None:
                since = gpu.energy_joules if before is None else before
                self._joules += max(0.0, gpu.energy_joules - since)
                self._last[gpu.index] = gpu.energy_joules
        known = self._last and None not in self._last.values()
        return self._joules if known else None


class LiveState:
    """Holds the present state and puts it on disk, at most once a second and at each event."""

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float] = time.time,
        *,
        reports: bool = True,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.reports = reports
        """False in a process that does not: another one of the same run does."""
        self._path = folder / STATE_FILE
        self.clock = clock
        self._elapsed = elapsed
        """Between two writes: a clock that is set back must not silence a run."""
        self._written = float("-inf")
        self._warned = False
        self.gpus: Callable[[], list[GpuState]] = list
        self._energy = Energy()
        self.found = _read(self._path)
        """What an earlier process of the run has left."""
        now = clock()
        # A restarted trainer goes on counting, so that readers can tell new from old.
        seq = self.found.seq if self.found else 0
        self.state = TrainingState(updated_at=now, process_started_at=now, seq=seq)

    @property
    def silence(self) -> float:
        """Seconds since the last write."""
        return self._elapsed() - self._written

    def event(self, state: RunState, **fields: Any) -> None:
        """A change that readers must see: written at once."""
        self._set(state=state, **fields)
        self._write()

    def progress(self, **fields: Any) -> None:
        """New figures: written when the last write is long enough ago."""
        self._set(**fields)
        if self.silence >= MIN_INTERVAL:
            self._write()

    def end(self, state: RunState, reason: str = "", message: str = "", **fields: Any) -> None:
        ended = {"reason": reason, "message": message[:MESSAGE_LIMIT]}
        self.event(state, finished_at=self.clock(), **ended, **fields)

    def _set(self, **fields: Any) -> None:
        self.state = self.state.model_copy(update=fields)

    def _write(self) -> None:
        if not self.reports:
            return
        try:
            now = self.clock()
            gpus = self._gpu_figures()
            energy = self._energy.add(gpus)
            self._set(seq=self.state.seq + 1, updated_at=now, gpus=gpus, energy_joules=energy)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            text = self.state.model_dump_json(by_alias=True)
            write_atomic(self._path, text.encode(), durable=False)  # A step would wait for it.
            self._written = self._elapsed()
        except Exception as error:  # noqa: BLE001 - the border between training and its telemetry
            self._warn(f"The live state {self._path} cannot be written", error)

    def _gpu_figures(self) -> list[GpuState]:
        try:
            return self.gpus()
        except Exception as error:  # noqa: BLE001 - drivers fail in ways of their own
            self._warn("The GPU's figures cannot be read", error)
            return []

    def _warn(self, what: str, error: Exception) -> None:
        """Once: a failure of this kind tends to last."""
        if not self._warned:
            log.warning("%s: %s", what, error)
        self._warned = True


def _read(path: Path) -> TrainingState | None:
    try:
        return TrainingState.model_validate(read_json(path, STATE_MAX_BYTES))
    except ValueError:
        return None
