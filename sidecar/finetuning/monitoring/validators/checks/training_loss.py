"""training_loss: every loss finite, the last in range, the whole run done, and falling."""

import math
from itertools import pairwise
from typing import Any

from finetuning.artifacts import LOSS_HISTORY
from finetuning.monitoring.validators.checks import loss_curve
from finetuning.monitoring.validators.checks.loss_facts import Facts, gather
from finetuning.monitoring.validators.checks.loss_info import (
    info_is_of_another_run,
    plan_is_missing,
    run_is_unfinished,
)
from finetuning.monitoring.validators.checks.loss_start import BlowUp
from finetuning.monitoring.validators.checks.loss_trend import ENOUGH_POINTS
from finetuning.monitoring.validators.outcome import (
    CheckOutcome,
    Finding,
    Passed,
    Rule,
    all_findings,
    first_finding,
    outcome,
)
from finetuning.monitoring.validators.subject import Subject

NAME = "training_loss"

MISSING_SHARE = 0.1
"""A power cut can take the last lines before a checkpoint with it; more is no accident."""

EVAL_RISE = 0.1
NEAR_ZERO = 0.01
GUESSING = 10.0
"""Nats: who guesses among 22 000 tokens loses no more, so that no evaluation should."""

CURVE_POINTS = 400
_SHOWN_STEPS = 5


def check(subject: Subject) -> CheckOutcome:
    """Judge the training by its loss history, or by training_info.json where there is none."""
    if subject.info is None:
        return outcome(NAME, Finding("TrainingInfoUnreadable", subject.info_problem))
    facts = gather(subject, subject.info)
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
    if found := _evaluation_out_of_range(facts):
        return found
    last = facts.history[-1].loss if facts.history else loss
    if loss is None or (0 < loss < limit and last != 0):
        return None
    loss = loss if last else 0.0
    hint = " (a loss of exactly 0 means that nothing was trained on)" if loss == 0 else ""
    return Finding(
        "LossOutOfRange",
        f"Training loss: {loss:.4f}; between 0 and {limit:g} is allowed{hint}",
        numbers={"loss": loss, "maxLoss": limit},
    )


def _evaluation_out_of_range(facts: Facts) -> Finding | None:
    """Of the result no more is allowed than in training, of others whatever can be."""
    if negative := next((pair for pair in facts.evals if pair[1] < 0), None):
        text = f"Evaluation loss: {negative[1]:.4f} at step {negative[0]}; none can be below 0"
        return Finding("LossOutOfRange", text)
    kept, limit = facts.kept_eval, max(facts.settings.max_loss, GUESSING)
    if kept is None or kept < limit:
        return None
    text = f"Evaluation loss: {kept:.4f}; below {limit:g} is allowed"
    return Finding("LossOutOfRange", text, numbers={"evalLoss": kept, "limit": limit})


def history_has_a_gap(facts: Facts) -> Finding | None:
    if not facts.history or facts.missing <= MISSING_SHARE * facts.history[-1].step:
        return None
    last = facts.history[-1].step
    text = f"{LOSS_HISTORY} lacks {facts.missing} of the steps up to {last}"
    return Finding("HistoryGap", text, numbers={"missing": facts.missing, "lastStep": last})


def nothing_was_trained(facts: Facts) -> Finding | None:
    lines = facts.history
    if lines and not any(line.tokens for line in lines):
        return Finding("NothingTrained", "No step has a token")
    if not lines or any(line.learning_rate > 0 for line in lines):
        return None
    return Finding("NothingTrained", "The learning rate is 0 at every step")


def loss_does_not_fall(facts: Facts) -> Finding | None:
    trend = facts.trend
    if trend is None or not trend.fails:
        return None
    return Finding(
        "LossNotDecreasing",
        f"Training loss does not fall: median {trend.first:.4f} over the first {trend.window} "
        f"steps, {trend.last:.4f} over the last {trend.window}",
        numbers={
            "first": trend.first,
            "last": trend.last,
            "slope": trend.slope,
            "standardErrors": trend.score if trend.certain else max(trend.score, trend.rise),
        },
    )


def loss_diverges(facts: Facts) -> Finding | None:
    trend = facts.trend
    if trend is None or not trend.certain:
        return None
    rise = loss_curve.divergence(facts.losses, trend)
    if rise is None:
        return None
    return Finding(
        "LossDiverged",
        f"Training loss rose from {rise.low:.4f} before to {rise.last:.4f} over the last "
        f"{rise.steps} steps",
        numbers={"low": rise.low, "last": rise.last, "steps": rise.steps},
    )


def loss_blew_up(facts: Facts) -> Finding | None:
    found = facts.blow_up
    if found is None or found.came_back or facts.trend is None:
        return None
    last = facts.trend.last
    return Finding(
        "LossDiverged",
        f"{_rise(facts, found)}; at the end it is {last:.4f}, not clearly below",
        numbers={"first": found.first, "peak": found.peak, "last": last},
    )


def loss_came_back(facts: Facts) -> Finding | None:
    found = facts.blow_up
    return Finding("LossBlewUp", _rise(facts, found)) if found and found.came_back else None


def _rise(facts: Facts, found: BlowUp) -> str:
    step = facts.trained[found.step].step
    return (
        f"Training loss rose from {found.first:.4f} at the beginning to {found.peak:.4f} "
        f"from step {step} on"
    )


def run_ends_in_a_spike(facts: Facts) -> Finding | None:
    trend = facts.trend
    if trend is None or not trend.certain:
        return None
    height = loss_curve.late_spike(facts.losses)
    if height is None:
        return None
    return Finding(
        "LossSpiked",
        f"Training loss ends in a spike: {height:.4f}, where it began at {trend.first:.4f}",
        numbers={"last": height, "first": trend.first},
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
    text = f"The loss went from {trend.first:.4f} to {trend.last:.4f}"
    return Finding("TrendWeak", f"{text}, which its noise of {trend.noise:.4f} a step can do")


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


def history_is_odd(facts: Facts) -> Finding | None:
    """What no trainer writes, though it does not decide about a model."""
    for before, line in pairwise(facts.history):
        if line.epoch < before.epoch:
            text = (
                f"Step {line.step} is of epoch {line.epoch:g}, the one before of {before.epoch:g}"
            )
            return Finding("HistoryOdd", text)
    bad = next((line for line in facts.history if not line.learning_rate >= 0), None)
    if bad is None:
        return None
    return Finding("HistoryOdd", f"Step {bad.step} has the learning rate {bad.learning_rate:g}")


def gradient_was_not_finite(facts: Facts) -> Finding | None:
    norms = [(line.step, line.grad_norm) for line in facts.history if line.grad_norm is not None]
    bad = [step for step, norm in norms if not math.isfinite(norm)]
    if not bad:
        return None
    text = f"The gradient was no number at {len(bad)} steps, first at step {bad[0]}"
    return Finding("GradientNotFinite", text)


def loss_was_not_finite_before(facts: Facts) -> Finding | None:
    if not facts.lost_nonfinite:
        return None
    text = f"{facts.lost_nonfinite} losses were NaN or infinite in steps that were done again"
    return Finding("LossNotFiniteBefore", text)


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
    plan_is_missing,
    info_is_of_another_run,
    nothing_was_trained,
    loss_does_not_fall,
    loss_diverges,
    loss_blew_up,
    run_ends_in_a_spike,
    loss_collapses,
    loss_falls_too_little,
    model_is_overfit,
)
WARNINGS: tuple[Rule[Facts], ...] = (
    history_is_absent,
    trend_is_uncertain,
    trend_is_weak,
    loss_came_back,
    loss_has_spikes,
    loss_is_near_zero,
    eval_loss_rises,
    gradient_was_not_finite,
    loss_was_not_finite_before,
    history_is_odd,
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
        "plannedSteps": facts.planned,
        "resultStep": facts.info.results.result_step,
        "repeatedSteps": facts.repeated,
        "missingSteps": facts.missing,
        "firstLoss": sound.first if sound else None,
        "lastLoss": sound.last if sound else None,
        "slopePerStep": sound.slope if sound and math.isfinite(sound.slope) else None,
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
