"""training_info.json against the history of losses: both must tell of one and the same run."""

import math

from finetuning.artifacts import LOSS_HISTORY
from finetuning.monitoring.validators.checks.loss_facts import Facts
from finetuning.monitoring.validators.outcome import Finding

_IDENTITY = ("dataset_sha256", "method", "model_id", "seed")
"""What a checkpoint and every run that goes on from it have in common."""

_ROUNDED = 5e-5
"""Losses that a person or transformers has written down have four decimals."""


def run_is_unfinished(facts: Facts) -> Finding | None:
    results, planned = facts.info.results, facts.planned
    done = facts.history[-1].step if facts.history else results.global_step
    if done is None or planned is None or done >= planned:
        return None
    return Finding(
        "RunUnfinished",
        f"Only {done} of {planned} planned steps are done",
        numbers={"steps": done, "plannedSteps": planned},
    )


def plan_is_missing(facts: Facts) -> Finding | None:
    """Whether a run was cut cannot be told without it."""
    if facts.planned is not None or not facts.settings.require_all:
        return None
    return Finding("PlanMissing", "training info has no results.total_steps: no end can be told")


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
    return _figures_of_another_run(facts) or _checkpoint_of_another_run(facts)


def _checkpoint_of_another_run(facts: Facts) -> Finding | None:
    """Whoever edits the description in accord with the history has to edit the checkpoint too."""
    told, config = facts.state.get("run"), facts.info.training_config
    step, last = facts.state.get("global_step"), facts.history[-1].step
    if isinstance(step, int) and step > last:
        text = f"the newest checkpoint is of step {step}, {LOSS_HISTORY} ends at {last}"
        return Finding("InfoMismatch", text)
    if not isinstance(told, dict) or not config:
        return None
    names, required = sorted(told) if facts.state_is_last else _IDENTITY, facts.settings.require_all
    # A description by hand says less than the trainer's own, which the operator asks for.
    said = [name for name in names if name in told and (required or name in config)]
    for name in said:
        if config.get(name) != told[name]:
            text = f"training info has {name} {config.get(name)}, its checkpoint {told[name]}"
            return Finding("InfoMismatch", text)
    return None


def _figures_of_another_run(facts: Facts) -> Finding | None:
    results = facts.info.results
    losses = [line.loss for line in facts.history]
    low, high = min(losses), max(losses)
    slack = 1e-6 * high
    for name, told in (("train_loss", results.train_loss), ("final_loss", results.final_loss)):
        if told is not None and not low - slack <= told <= high + slack:
            text = f"training info has the {name} {told:.4f}, but all losses lie between"
            return Finding("InfoMismatch", f"{text} {low:.4f} and {high:.4f}")
    mean = sum(losses) / len(losses)
    if results.train_loss is not None and not _same(results.train_loss, mean):
        text = f"training info has the train_loss {results.train_loss:.4f}, the mean of all losses"
        return Finding("InfoMismatch", f"{text} is {mean:.4f}")
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
