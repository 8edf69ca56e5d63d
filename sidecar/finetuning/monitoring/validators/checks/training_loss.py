"""training_loss: every loss finite, the last in range, the whole run done, and falling."""

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from finetuning.artifacts import LOSS_HISTORY
from finetuning.artifacts.files import UnreadableFileError
from finetuning.artifacts.history import HistoryLine, read_history
from finetuning.monitoring.training_info import TrainingInfo
from finetuning.monitoring.validators.outcome import (
    CheckOutcome,
    Finding,
    Passed,
    first_finding,
    outcome,
)
from finetuning.monitoring.validators.subject import Subject

NAME = "training_loss"

ENOUGH_POINTS = 20
"""From here on the first and the last tenth of the steps are compared."""

FEWEST_POINTS = 4
"""Below this a single odd batch decides, so nothing is said about the trend."""

SHORT_RUN_TOLERANCE = 1.05
"""With few steps the noise of the batches is as large as what a run can learn."""

_SMALLEST_WINDOW = 5


@dataclass(frozen=True)
class Facts:
    """The run's losses; `history` has one line per step, in order, and may be empty."""

    info: TrainingInfo
    history: list[HistoryLine]
    history_problem: str
    max_loss: float

    @property
    def loss(self) -> float | None:
        return self.history[-1].loss if self.history else self.info.loss


@dataclass(frozen=True)
class Trend:
    """Median loss at the beginning and at the end of a run."""

    first: float
    last: float
    window: int
    certain: bool

    @property
    def falls(self) -> bool:
        allowed = self.first if self.certain else self.first * SHORT_RUN_TOLERANCE
        return self.last < allowed


def check(subject: Subject) -> CheckOutcome:
    """Judge the training by its loss history, or by training_info.json where there is none."""
    if subject.info is None:
        return outcome(NAME, Finding("TrainingInfoUnreadable", subject.info_problem))
    facts = gather(subject.info, subject.model_path, subject.settings.max_loss)
    verdict = first_finding(RULES, facts) or Passed(_message(facts))
    return outcome(NAME, verdict, score=facts.loss, details=_details(facts))


def gather(info: TrainingInfo, model_path: Path | None, max_loss: float) -> Facts:
    history: list[HistoryLine] = []
    problem = ""
    path = model_path / LOSS_HISTORY if model_path else None
    if path and path.exists():
        try:
            history = stitched(list(read_history(path)))
            problem = "" if history else f"{LOSS_HISTORY} holds no readable line"
        except UnreadableFileError as error:
            problem = str(error)
    return Facts(info, history, problem, max_loss)


def stitched(lines: list[HistoryLine]) -> list[HistoryLine]:
    """One line per step, in order; of a step that was done again the last counts."""
    return [line for _, line in sorted({line.step: line for line in lines}.items())]


def history_is_unreadable(facts: Facts) -> Finding | None:
    return Finding("HistoryUnreadable", facts.history_problem) if facts.history_problem else None


def loss_is_missing(facts: Facts) -> Finding | None:
    if facts.loss is not None:
        return None
    return Finding(
        "LossMissing", f"There is no {LOSS_HISTORY}, and training info has no results.train_loss"
    )


def loss_is_not_finite(facts: Facts) -> Finding | None:
    bad = [line for line in facts.history if not math.isfinite(line.loss)]
    if bad:
        where = f"first at step {bad[0].step}, {len(bad)} of {len(facts.history)} steps"
        return Finding("LossNotFinite", f"Training loss was {bad[0].loss} ({where})")
    if facts.loss is not None and not math.isfinite(facts.loss):
        return Finding("LossNotFinite", f"Training loss is {facts.loss}")
    if count := facts.info.results.nonfinite_losses:
        return Finding("LossNotFinite", f"Training loss was not finite at {count} steps")
    return None


def loss_is_out_of_range(facts: Facts) -> Finding | None:
    loss = facts.loss
    if loss is None or 0 < loss < facts.max_loss:
        return None
    hint = " (a loss of exactly 0 means that nothing was trained on)" if loss == 0 else ""
    return Finding(
        "LossOutOfRange",
        f"Training loss: {loss:.4f}; between 0 and {facts.max_loss:g} is allowed{hint}",
    )


def run_is_unfinished(facts: Facts) -> Finding | None:
    results = facts.info.results
    done = facts.history[-1].step if facts.history else results.global_step
    if done is None or results.total_steps is None or done >= results.total_steps:
        return None
    return Finding("RunUnfinished", f"Only {done} of {results.total_steps} planned steps are done")


def loss_does_not_fall(facts: Facts) -> Finding | None:
    trend = trend_of([line.loss for line in facts.history])
    if trend is None or trend.falls:
        return None
    return Finding(
        "LossNotDecreasing",
        f"Training loss does not fall: median {trend.first:.4f} over the first {trend.window} "
        f"steps, {trend.last:.4f} over the last {trend.window}",
    )


def trend_of(losses: list[float]) -> Trend | None:
    """Medians of both ends; None where there are too few steps to say anything."""
    count = len(losses)
    if count < FEWEST_POINTS:
        return None
    certain = count >= ENOUGH_POINTS
    window = max(count // 10, _SMALLEST_WINDOW) if certain else max(1, count // 3)
    return Trend(median(losses[:window]), median(losses[-window:]), window, certain)


RULES = (
    history_is_unreadable,
    loss_is_missing,
    loss_is_not_finite,
    loss_is_out_of_range,
    run_is_unfinished,
    loss_does_not_fall,
)


def _message(facts: Facts) -> str:
    count = len(facts.history)
    doubt = f" (only {count} steps: trend uncertain)" if 0 < count < ENOUGH_POINTS else ""
    return f"Training loss: {facts.loss:.4f}{doubt}"


def _details(facts: Facts) -> dict[str, Any]:
    trend = trend_of([line.loss for line in facts.history])
    evals = [line.eval_loss for line in facts.history if line.eval_loss is not None]
    finite = bool(trend and math.isfinite(trend.first) and math.isfinite(trend.last))
    return {
        "source": LOSS_HISTORY if facts.history else "training info",
        "steps": len(facts.history) or facts.info.results.global_step,
        "plannedSteps": facts.info.results.total_steps,
        "firstLoss": trend.first if trend and finite else None,
        "lastLoss": trend.last if trend and finite else None,
        "trendCertain": trend.certain if trend else False,
        "evalLoss": evals[-1] if evals and math.isfinite(evals[-1]) else None,
        "maxLoss": facts.max_loss,
    }
