"""What the rules about a run's losses look at: its history and what training_info.json tells."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from finetuning.artifacts import LOSS_HISTORY
from finetuning.artifacts.files import UnreadableFileError
from finetuning.artifacts.history import HistoryLine, read_raw_lines, window_start
from finetuning.monitoring.training_info import TrainingInfo
from finetuning.monitoring.validators.checks.loss_curve import Trend, trend_of
from finetuning.monitoring.validators.settings import ValidationSettings


@dataclass(frozen=True)
class Facts:
    """The run's losses; `history` has one line per step, in order, and may be empty."""

    info: TrainingInfo
    history: list[HistoryLine]
    history_problem: str
    settings: ValidationSettings
    repeated: int = 0
    """Steps that were done more than once, because the run was resumed."""

    @property
    def loss(self) -> float | None:
        """What the trainer tells as the run's loss: the mean over its last logging window."""
        if not self.window:
            return self.info.loss
        return sum(line.loss for line in self.window) / len(self.window)

    @cached_property
    def window(self) -> list[HistoryLine]:
        """The last `logging_steps` steps, counted from the first, or what was left of them."""
        if not self.history:
            return []
        start = window_start(self.history[-1].step, self.info.logging_steps)
        return [line for line in self.history if line.step > start]

    @property
    def window_is_whole(self) -> bool:
        """Whether each of its steps has a line."""
        if not self.window:
            return False
        last = self.window[-1].step
        return len(self.window) == last - window_start(last, self.info.logging_steps)

    @cached_property
    def trained(self) -> list[HistoryLine]:
        """The steps that made the result: what came after the weights that were kept is gone."""
        last = self.info.results.result_step
        return [line for line in self.history if last is None or line.step <= last]

    @cached_property
    def losses(self) -> list[float]:
        return [line.loss for line in self.trained]

    @cached_property
    def evals(self) -> list[tuple[int, float]]:
        pairs = [(line.step, line.eval_loss) for line in self.history]
        return [(step, loss) for step, loss in pairs if loss is not None]

    @cached_property
    def trend(self) -> Trend | None:
        return trend_of(self.losses)

    @property
    def missing(self) -> int:
        """Steps before the last one without a line."""
        return self.history[-1].step - len(self.history) if self.history else 0

    @property
    def overfit(self) -> float:
        """How far the result's evaluation loss lies above the lowest, as a share of that."""
        last = self.trained[-1].step if self.trained else 0
        own = [loss for step, loss in self.evals if step <= last]
        lowest = min((loss for _, loss in self.evals), default=0.0)
        return own[-1] / lowest - 1 if own and lowest > 0 else 0.0


def gather(info: TrainingInfo, model_path: Path | None, settings: ValidationSettings) -> Facts:
    lines: list[HistoryLine] = []
    problem = ""
    path = model_path / LOSS_HISTORY if model_path else None
    if path and path.exists():
        try:
            raw = list(read_raw_lines(path, HistoryLine))
            lines = [line for line in raw if line is not None]
            problem = _problem_of(raw)
        except UnreadableFileError as error:
            problem = str(error)
    history = stitched(lines)
    return Facts(info, history, problem, settings, len(lines) - len(history))


def _problem_of(raw: list[HistoryLine | None]) -> str:
    """A crash tears the last line at most; what is damaged before it was damaged later."""
    if not any(raw):
        return f"{LOSS_HISTORY} holds no readable line"
    bad = [number for number, line in enumerate(raw[:-1], start=1) if line is None]
    return f"{LOSS_HISTORY}: line {bad[0]} is unreadable ({len(bad)} such)" if bad else ""


def stitched(lines: list[HistoryLine]) -> list[HistoryLine]:
    """One line per step, in order; of a step that was done again the last counts."""
    return [line for _, line in sorted({line.step: line for line in lines}.items())]
