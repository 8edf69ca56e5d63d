"""performance_history.jsonl: how fast the run is and what it holds in memory, a line now and then.

Apart from the loss history, which is the same for the same run: nothing here is.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from finetuning.artifacts import PERFORMANCE_HISTORY
from finetuning.artifacts.history import LineWriter, PerformanceLine
from finetuning.artifacts.models import GpuState
from finetuning.artifacts.trainer_state import TrainerState
from finetuning.base.storage import space_for

SHORTEST_INTERVAL = 1.0
SHARE = 1 / 500
"""Lines come at least a second and this share of the run so far apart: a week has about 4,000."""


class PerformanceLog:
    """Each line has the means since the one before, evaluation and saving included."""

    def __init__(
        self, output: Path, writer: LineWriter[PerformanceLine], start: TrainerState
    ) -> None:
        self._output, self._writer = output, writer
        self._seconds, self._tokens = start.train_seconds, start.tokens_total
        self._samples = start.samples_total

    @classmethod
    def open(cls, output: Path, start: TrainerState) -> Self:
        """Go on after `start`; raises StorageFullError."""
        path = output / PERFORMANCE_HISTORY
        with space_for(PERFORMANCE_HISTORY, output):
            writer = LineWriter.open(path, start.global_step, PerformanceLine)
        return cls(output, writer, start)

    def tell(self, state: TrainerState, gpus: Sequence[GpuState], *, last: bool) -> None:
        """Add a line when one is due; raises StorageFullError."""
        passed = state.train_seconds - self._seconds
        due = passed >= max(SHORTEST_INTERVAL, SHARE * state.train_seconds)
        if passed <= 0 or not (due or last):
            return
        line = PerformanceLine(
            step=state.global_step,
            seconds=round(state.train_seconds, 3),
            tokens_per_second=round((state.tokens_total - self._tokens) / passed, 3),
            samples_per_second=round((state.samples_total - self._samples) / passed, 3),
            host_memory_bytes=resident_bytes(),
            gpu_memory_bytes=_used(gpus),
        )
        with space_for(PERFORMANCE_HISTORY, self._output):
            self._writer.append(line)
        self._seconds, self._tokens = state.train_seconds, state.tokens_total
        self._samples = state.samples_total

    def close(self) -> None:
        self._writer.close()


def resident_bytes() -> int | None:
    """Memory of this process that is in RAM; None where the kernel does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _used(gpus: Sequence[GpuState]) -> int | None:
    known = [gpu.memory_used_bytes for gpu in gpus if gpu.memory_used_bytes is not None]
    return sum(known) if known else None
