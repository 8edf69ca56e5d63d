"""training_loss: every loss finite, the last in range, the whole run done, and falling."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from finetuning.artifacts import LOSS_HISTORY
from finetuning.artifacts.files import UnreadableFileError
from finetuning.artifacts.history import HistoryLine, read_raw_lines
from finetuning.monitoring.training_info import TrainingInfo
from finetuning.monitoring.validators.checks import loss_curve
from finetuning.monitoring.validators.checks.loss_curve import ENOUGH_POINTS, Trend, trend_of
from finetuning.monitoring.validators.outcome import (
    CheckOutcome,
    Finding,
    Passed,
    Rule,
    all_findings,
    first_finding,
    outcome,
)
from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import Subject

NAME = "training_loss"

MISSING_SHARE = 0.1
"""A power cut can take the last lines before a checkpoint with it; more is no accident."""

EVAL_RISE = 0.1
NEAR_ZERO = 0.01
CURVE_POINTS = 400
_SHOWN_STEPS = 5
_ROUNDED = 1e-3
"""Two figures of one run may be rounded differently."""


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
        return self.history[-1].loss if self.history else self.info.loss

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


def check(subject: Subject) -> CheckOutcome:
    """Judge the training by its loss history, or by training_info.json where there is none."""
    if subject.info is None:
        return outcome(NAME, Finding("TrainingInfoUnreadable", subject.info_problem))
    facts = gather(subject.info, subject.model_path, subject.settings)
    finding = first_finding(RULES, facts)
    warnings = [] if finding else all_findings(WARNINGS, facts)
    verdict = finding or Passed(_message(facts))
    return outcome(
        NAME,
        verdict,
        score=facts.loss,
        threshold=subject.settings.max_loss,
        details=_details(facts),
        warnings=warnings,
    )


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


def history_is_unreadable(facts: Facts) -> Finding | None:
    return Finding("HistoryUnreadable", facts.history_problem) if facts.history_problem else None


def history_is_missing(facts: Facts) -> Finding | None:
    """A trend is required: what lets it be left out would pass any run."""
    if facts.history or not facts.settings.require_all:
        return None
    return Finding("HistoryMissing", f"There is no {LOSS_HISTORY}: no trend can be told")


def history_is_absent(facts: Facts) -> Finding | None:
    text = f"There is no {LOSS_HISTORY}; the loss was only held against its range"
    return None if facts.history else Finding("HistoryAbsent", text)


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
    if worst := next((pair for pair in facts.evals if not math.isfinite(pair[1])), None):
        return Finding("LossNotFinite", f"Evaluation loss was {worst[1]} at step {worst[0]}")
    return None


def loss_is_out_of_range(facts: Facts) -> Finding | None:
    loss, limit = facts.loss, facts.settings.max_loss
    if negative := next((line for line in facts.history if line.loss < 0), None):
        text = f"Training loss: {negative.loss:.4f} at step {negative.step}; none can be below 0"
        return Finding("LossOutOfRange", text)
    if loss is None or 0 < loss < limit:
        return None
    hint = " (a loss of exactly 0 means that nothing was trained on)" if loss == 0 else ""
    return Finding(
        "LossOutOfRange",
        f"Training loss: {loss:.4f}; between 0 and {limit:g} is allowed{hint}",
        numbers={"loss": loss, "maxLoss": limit},
    )


def history_has_a_gap(facts: Facts) -> Finding | None:
    if not facts.history or facts.missing <= MISSING_SHARE * facts.history[-1].step:
        return None
    last = facts.history[-1].step
    text = f"{LOSS_HISTORY} lacks {facts.missing} of the steps up to {last}"
    return Finding("HistoryGap", text, numbers={"missing": facts.missing, "lastStep": last})


def run_is_unfinished(facts: Facts) -> Finding | None:
    results = facts.info.results
    done = facts.history[-1].step if facts.history else results.global_step
    if done is None or results.total_steps is None or done >= results.total_steps:
        return None
    return Finding(
        "RunUnfinished",
        f"Only {done} of {results.total_steps} planned steps are done",
        numbers={"steps": done, "plannedSteps": results.total_steps},
    )


def info_is_of_another_run(facts: Facts) -> Finding | None:
    """A mean and a last value lie within the losses that they were made from."""
    results = facts.info.results
    if not facts.history:
        return None
    last = facts.history[-1].step
    if results.global_step is not None and results.global_step != last:
        text = f"training info tells of step {results.global_step}, {LOSS_HISTORY} of {last}"
        return Finding("InfoMismatch", text)
    if results.total_steps is not None and last > results.total_steps:
        text = f"{LOSS_HISTORY} has {last} steps, training info a plan of {results.total_steps}"
        return Finding("InfoMismatch", text)
    return _figures_of_another_run(facts)


def _figures_of_another_run(facts: Facts) -> Finding | None:
    results = facts.info.results
    losses = [line.loss for line in facts.history]
    low, high = min(losses), max(losses)
    slack = 1e-6 * high
    for name, told in (("train_loss", results.train_loss), ("final_loss", results.final_loss)):
        if told is not None and not low - slack <= told <= high + slack:
            text = f"training info has the {name} {told:.4f}, but all losses lie between"
            return Finding("InfoMismatch", f"{text} {low:.4f} and {high:.4f}")
    told = results.final_loss
    if told is not None and not math.isclose(told, losses[-1], rel_tol=_ROUNDED):
        text = f"training info has the final_loss {told:.4f}, {LOSS_HISTORY} {losses[-1]:.4f}"
        return Finding("InfoMismatch", text)
    return _evaluation_of_another_run(facts)


def _evaluation_of_another_run(facts: Facts) -> Finding | None:
    """Where no line is lost, every evaluation is told in the history."""
    results = facts.info.results
    known = [loss for _, loss in facts.evals]
    for name, told in (
        ("eval_loss", results.eval_loss),
        ("best_eval_loss", results.best_eval_loss),
    ):
        if told is None or not known or facts.missing:
            continue
        if not any(math.isclose(told, loss, rel_tol=_ROUNDED) for loss in known):
            text = f"training info has the {name} {told:.4f}, which is not in {LOSS_HISTORY}"
            return Finding("InfoMismatch", text)
    return None


def nothing_was_trained(facts: Facts) -> Finding | None:
    if not facts.history or any(line.learning_rate > 0 for line in facts.history):
        return None
    return Finding("NothingTrained", "The learning rate is 0 at every step")


def loss_does_not_fall(facts: Facts) -> Finding | None:
    trend = facts.trend
    if trend is None or trend.falls:
        return None
    return Finding(
        "LossNotDecreasing",
        f"Training loss does not fall: median {trend.first:.4f} over the first {trend.window} "
        f"steps, {trend.last:.4f} over the last {trend.window}",
        numbers={"first": trend.first, "last": trend.last, "slope": trend.slope or 0.0},
    )


def loss_diverges(facts: Facts) -> Finding | None:
    trend = facts.trend
    if trend is None or not trend.certain or not loss_curve.diverged(facts.losses, trend):
        return None
    lowest = loss_curve.lowest_stretch(facts.losses)
    return Finding(
        "LossDiverged",
        f"Training loss rose from {lowest:.4f}, its lowest stretch, to {trend.last:.4f} at the end",
        numbers={"lowest": lowest, "last": trend.last},
    )


def run_ends_in_a_spike(facts: Facts) -> Finding | None:
    trend = facts.trend
    if trend is None or not trend.certain:
        return None
    tokens = [line.tokens for line in facts.trained]
    height = loss_curve.late_spike(facts.losses, tokens, trend)
    if height is None:
        return None
    return Finding(
        "LossSpiked",
        f"Training loss ends in a spike: {height:.4f}, where it began at {trend.first:.4f}",
        numbers={"last": height, "first": trend.first, "noise": trend.noise},
    )


def loss_collapses(facts: Facts) -> Finding | None:
    place = loss_curve.collapse(facts.losses)
    if place is None:
        return None
    before, after = facts.trained[place - 1], facts.trained[place]
    text = f"Training loss fell from {before.loss:.4f} to {after.loss:.2g} at step {after.step}"
    return Finding("LossCollapsed", text, numbers={"before": before.loss, "after": after.loss})


def loss_falls_too_little(facts: Facts) -> Finding | None:
    trend, wanted = facts.trend, facts.settings.min_loss_decrease
    if trend is None or not wanted or trend.decrease >= wanted:
        return None
    return Finding(
        "LossDecreaseTooSmall",
        f"Training loss fell by {trend.decrease:.1%}; {wanted:.1%} is wanted",
        numbers={"decrease": trend.decrease, "minLossDecrease": wanted},
    )


def model_is_overfit(facts: Facts) -> Finding | None:
    limit = facts.settings.max_overfit
    if limit is None or facts.overfit <= limit:
        return None
    return Finding(
        "Overfit",
        f"Evaluation loss ends {facts.overfit:.1%} above its lowest value; {limit:.1%} is allowed",
        numbers={"overfit": facts.overfit, "maxOverfit": limit},
    )


def trend_is_uncertain(facts: Facts) -> Finding | None:
    count = len(facts.history)
    if not 0 < count < ENOUGH_POINTS:
        return None
    return Finding("TrendUncertain", f"{count} steps say little about a trend")


def trend_is_weak(facts: Facts) -> Finding | None:
    trend = facts.trend
    if trend is None or not trend.certain or trend.clear:
        return None
    text = f"The loss fell by {trend.first - trend.last:.4f}, within its noise of {trend.error:.4f}"
    return Finding("TrendWeak", text)


def loss_has_spikes(facts: Facts) -> Finding | None:
    trend = facts.trend
    found = loss_curve.spikes(facts.losses, trend) if trend and trend.certain else []
    if not found:
        return None
    steps = ", ".join(str(facts.trained[place].step) for place in found[:_SHOWN_STEPS])
    return Finding("LossSpikes", f"The loss jumps up at {len(found)} steps, such as {steps}")


def loss_is_near_zero(facts: Facts) -> Finding | None:
    half = facts.history[: len(facts.history) // 2]
    low = next((line for line in half if line.loss < NEAR_ZERO), None)
    return (
        Finding("LossNearZero", f"The loss is {low.loss:.4f} at step {low.step}") if low else None
    )


def eval_loss_rises(facts: Facts) -> Finding | None:
    if facts.overfit <= EVAL_RISE:
        return None
    return Finding("EvalLossRises", f"It ends {facts.overfit:.1%} above its lowest value")


def history_was_stitched(facts: Facts) -> Finding | None:
    if not facts.repeated and not facts.missing:
        return None
    return Finding(
        "HistoryStitched", f"{facts.repeated} steps were done again, {facts.missing} have no line"
    )


RULES: tuple[Rule[Facts], ...] = (
    history_is_unreadable,
    history_is_missing,
    loss_is_missing,
    loss_is_not_finite,
    loss_is_out_of_range,
    history_has_a_gap,
    run_is_unfinished,
    info_is_of_another_run,
    nothing_was_trained,
    loss_does_not_fall,
    loss_diverges,
    run_ends_in_a_spike,
    loss_collapses,
    loss_falls_too_little,
    model_is_overfit,
)
WARNINGS: tuple[Rule[Facts], ...] = (
    history_is_absent,
    trend_is_uncertain,
    trend_is_weak,
    loss_has_spikes,
    loss_is_near_zero,
    eval_loss_rises,
    history_was_stitched,
)


def _message(facts: Facts) -> str:
    count = len(facts.history)
    doubt = f" (only {count} steps: trend uncertain)" if 0 < count < ENOUGH_POINTS else ""
    return f"Training loss: {facts.loss:.4f}{doubt}"


def _details(facts: Facts) -> dict[str, Any]:
    trend = facts.trend
    sound = trend if trend and math.isfinite(trend.first) and math.isfinite(trend.last) else None
    return {
        "source": LOSS_HISTORY if facts.history else "training info",
        "steps": len(facts.history) or facts.info.results.global_step,
        "plannedSteps": facts.info.results.total_steps,
        "resultStep": facts.info.results.result_step,
        "repeatedSteps": facts.repeated,
        "missingSteps": facts.missing,
        "firstLoss": sound.first if sound else None,
        "lastLoss": sound.last if sound else None,
        "slopePerStep": sound.slope if sound and math.isfinite(sound.slope or 0.0) else None,
        "trendCertain": trend.certain if trend else False,
        "evalLoss": next((loss for _, loss in facts.evals[-1:] if math.isfinite(loss)), None),
        "maxLoss": facts.settings.max_loss,
        "curve": _thinned([(line.step, line.loss) for line in facts.history]),
        "evalCurve": _thinned(facts.evals),
    }


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Evenly spaced points for a drawing, the last among them; only finite ones."""
    every = max(1, -(-len(points) // CURVE_POINTS))
    kept = points[::-1][::every][::-1]
    return [(step, loss) for step, loss in kept if math.isfinite(loss)]
