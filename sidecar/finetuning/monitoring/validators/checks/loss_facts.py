"""What the rules about a run's losses look at: its history and what training_info.json tells."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from finetuning.artifacts import LOSS_HISTORY
from finetuning.artifacts.files import UnreadableFileError
from finetuning.artifacts.history import HistoryLine, read_raw_lines, window_start
from finetuning.monitoring.training_info import TrainingInfo
from finetuning.monitoring.validators.checks.checkpoints import newest_state
from finetuning.monitoring.validators.checks.loss_start import BlowUp, blow_up
from finetuning.monitoring.validators.checks.loss_trend import Trend, trend_of
from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import Subject

EARLY_STOPPING = "early_stopping_patience"


@dataclass(frozen=True)
class Facts:
    """The run's losses; `history` has one line per step, in order, and may be empty."""

    info: TrainingInfo
    history: list[HistoryLine]
    history_problem: str
    settings: ValidationSettings
    repeated: int = 0
    """Steps that were done more than once, because the run was resumed."""
    lost_nonfinite: int = 0
    """Losses that were no number in steps that were done again."""
    state: dict[str, Any] = field(default_factory=dict)
    """What the newest checkpoint says of itself."""

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
        return trend_of(self.losses, self.info.rows_per_step)

    @cached_property
    def blow_up(self) -> BlowUp | None:
        """None as well where there are too few steps to tell their noise by."""
        known = self.trend is not None and self.trend.certain
        return blow_up(self.losses, self.info.rows_per_step) if known else None

    @property
    def missing(self) -> int:
        """Steps before the last one without a line."""
        return self.history[-1].step - len(self.history) if self.history else 0

    @property
    def state_is_last(self) -> bool:
        """Whether the newest checkpoint is of the last step, so that the same process wrote both.

        Of an earlier one the plan and the rates may have been changed since.
        """
        step = self.info.results.global_step
        return step is not None and self.state.get("global_step") == step

    @property
    def planned(self) -> int | None:
        """Steps that were to be done; where a run may stop early, those that it then had."""
        results = self.info.results
        state = self.state.get("max_steps") if self.state_is_last else None
        told = (results.planned_steps, state, self.info.training_config.get("max_steps"))
        plans = [n for n in told if isinstance(n, int) and not isinstance(n, bool) and n > 0]
        if results.total_steps is not None and self.info.training_config.get(EARLY_STOPPING):
            return results.total_steps
        return max((*plans, results.total_steps or 0), default=0) or None

    @cached_property
    def kept_eval(self) -> float | None:
        """The last evaluation loss of the weights that were kept."""
        last = self.trained[-1].step if self.trained else 0
        return next((loss for step, loss in reversed(self.evals) if step <= last), None)

    @property
    def overfit(self) -> float:
        """How far the result's evaluation loss lies above the lowest, as a share of that."""
        own, lowest = self.kept_eval, min((loss for _, loss in self.evals), default=0.0)
        return own / lowest - 1 if own is not None and lowest > 0 else 0.0


def gather(subject: Subject, info: TrainingInfo) -> Facts:
    """Raises nothing: what cannot be read is a fact."""
    lines: list[HistoryLine] = []
    problem = ""
    model = subject.model_path
    path = model / LOSS_HISTORY if model else None
    if path and path.exists():
        try:
            raw = list(read_raw_lines(path, HistoryLine))
            lines = [line for line in raw if line is not None]
            problem = _problem_of(raw)
        except UnreadableFileError as error:
            problem = str(error)
    history = stitched(lines)
    return Facts(
        info,
        history,
        problem,
        subject.settings,
        repeated=len(lines) - len(history),
        lost_nonfinite=_nonfinite(lines) - _nonfinite(history),
        state=newest_state(subject.checkpoint_path, model),
    )


def _nonfinite(lines: list[HistoryLine]) -> int:
    return sum(not math.isfinite(line.loss) for line in lines)


def _problem_of(raw: list[HistoryLine | None]) -> str:
    """A crash tears the last line at most; what is damaged before it was damaged later."""
    if not any(raw):
        return f"{LOSS_HISTORY} holds no readable line"
    bad = [number for number, line in enumerate(raw[:-1], start=1) if line is None]
    return f"{LOSS_HISTORY}: line {bad[0]} is unreadable ({len(bad)} such)" if bad else ""


def stitched(lines: list[HistoryLine]) -> list[HistoryLine]:
    """One line per step, in order; of a step that was done again the last counts."""
    return [line for _, line in sorted({line.step: line for line in lines}.items())]
