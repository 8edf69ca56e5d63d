"""training_info.json against the history of losses: both must tell of one and the same run."""

import math

from finetuning.artifacts import LOSS_HISTORY
from finetuning.monitoring.validators.checks.loss_facts import Facts
from finetuning.monitoring.validators.outcome import Finding

_ROUNDED = 5e-5
"""Losses that a person or transformers has written down have four decimals."""


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
    return _last_loss_of_another_run(facts) or _evaluation_of_another_run(facts)


def _last_loss_of_another_run(facts: Facts) -> Finding | None:
    told, found = facts.info.results.final_loss, facts.loss
    if told is None or found is None or not facts.window_is_whole or _same(told, found):
        return None
    steps = len(facts.window)
    where = f"{LOSS_HISTORY} {found:.4f} as the mean over its last {steps} steps"
    return Finding("InfoMismatch", f"training info has the final_loss {told:.4f}, {where}")


def _same(told: float, found: float) -> bool:
    return math.isclose(told, found, rel_tol=1e-6, abs_tol=_ROUNDED)


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
        if not any(_same(told, loss) for loss in known):
            text = f"training info has the {name} {told:.4f}, which is not in {LOSS_HISTORY}"
            return Finding("InfoMismatch", text)
    return None
