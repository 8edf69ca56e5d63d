"""What a run writes down and shows of its steps, while it takes them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol, Self

from finetuning.artifacts import LOSS_HISTORY
from finetuning.artifacts.history import HistoryLine, LineWriter, add_eval_loss
from finetuning.artifacts.models import GpuState
from finetuning.artifacts.trainer_state import TrainerState
from finetuning.base.console import Figures, Progress
from finetuning.base.performance import PerformanceLog
from finetuning.base.storage import space_for


class Record(Protocol):
    """Takes note of what happens."""

    def step(self, line: HistoryLine) -> None: ...
    def evaluated(self, step: int, loss: float) -> None: ...
    def figures(self, figures: Figures) -> None: ...
    def measure(self, state: TrainerState, gpus: Sequence[GpuState], *, last: bool) -> None: ...
    def redirect(self) -> AbstractContextManager[Any]: ...
    def close(self) -> None: ...


class Journal:
    """Two histories on the disk, and the progress on the screen."""

    def __init__(
        self,
        output: Path,
        history: LineWriter[HistoryLine],
        performance: PerformanceLog,
        progress: Progress,
    ) -> None:
        self._output, self._history = output, history
        self._performance, self._progress = performance, progress

    @classmethod
    def open(cls, output: Path, state: TrainerState, total_steps: int) -> Self:
        """Go on after `state`; raises StorageFullError."""
        step = state.global_step
        with space_for(LOSS_HISTORY, output):
            history = LineWriter.open(output / LOSS_HISTORY, step, HistoryLine)
        performance = PerformanceLog.open(output, state)
        return cls(output, history, performance, Progress(total_steps, step))

    def step(self, line: HistoryLine) -> None:
        """Keep a step's line; raises StorageFullError."""
        with space_for(LOSS_HISTORY, self._output):
            self._history.append(line)
        self._progress.step()

    def evaluated(self, step: int, loss: float) -> None:
        """Add what an evaluation found to a step that was kept; raises StorageFullError."""
        path = self._output / LOSS_HISTORY
        self._history.close()
        with space_for(LOSS_HISTORY, self._output):
            add_eval_loss(path, step, loss)
            self._history = LineWriter.open(path, step, HistoryLine)

    def figures(self, figures: Figures) -> None:
        self._progress.figures(figures)

    def measure(self, state: TrainerState, gpus: Sequence[GpuState], *, last: bool) -> None:
        self._performance.tell(state, gpus, last=last)

    def redirect(self) -> AbstractContextManager[Any]:
        return self._progress.redirect()

    def close(self) -> None:
        self._history.close()
        self._performance.close()
        self._progress.close()


class NoJournal:
    """Of a process that does not report: another one of the same run does."""

    def step(self, line: HistoryLine) -> None: ...
    def evaluated(self, step: int, loss: float) -> None: ...
    def figures(self, figures: Figures) -> None: ...
    def measure(self, state: TrainerState, gpus: Sequence[GpuState], *, last: bool) -> None: ...
    def close(self) -> None: ...

    def redirect(self) -> AbstractContextManager[Any]:
        return nullcontext()
