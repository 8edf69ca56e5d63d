"""Whether a run could go on from its checkpoints: their state, and the optimizer's beside it."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from finetuning.artifacts import LOSS_HISTORY
from finetuning.artifacts.trainer_state import BINDING, OPTIMIZER, TRAINER_STATE, TrainerState
from finetuning.monitoring.validators.checks.run import Run
from finetuning.monitoring.validators.checks.shapes import moment_of
from finetuning.monitoring.validators.checks.tree import Tree, step_of
from finetuning.monitoring.validators.checks.values import is_count
from finetuning.monitoring.validators.checks.weights import Tensor, read_numbers
from finetuning.monitoring.validators.outcome import Finding, Rule

FIRST, SECOND, STEP = "exp_avg", "exp_avg_sq", "step"
_EVERY_TRAINER = ("global_step", "max_steps", "epoch")
_OURS = (*_EVERY_TRAINER, "tokens_total", "samples_total", "nonfinite_losses", "run")
_TOLD_OF_THE_RUN = ("model_id", "method", "dataset_sha256")

_BETAS = (0.9, 0.999)
"""AdamW's, which the trainer leaves as they are."""

_ROUNDING = 1.05
_SMALLEST = 1e-36
"""Squares of gradients below it are lost in 32 bit; those of real ones are far above."""

_MOST_RATIO = (1 - _BETAS[0]) ** 2 / ((1 - _BETAS[1]) * (1 - _BETAS[0] ** 2 / _BETAS[1]))
"""What the first moment's square can be of the second, whatever the gradients were: 52.9, by the
inequality of Cauchy and Schwarz over their two sums. Healthy runs come up to 51.8."""

_SAME_LOSS = 1e-6
"""One process has computed both, of the same numbers."""

_LONG_AGO = 5000
"""Steps after which 32 bit have rounded too often to tell."""


def trainer_state_is_missing(tree: Tree) -> Finding | None:
    if not is_resumable(tree) or TRAINER_STATE in tree.files:
        return None
    return Finding("TrainerStateMissing", f"{TRAINER_STATE} is missing: it cannot be resumed")


def step_is_another(tree: Tree) -> Finding | None:
    """A checkpoint says which step it is, in its name and in its state."""
    if not is_resumable(tree):
        return None
    state, step = tree.document(TRAINER_STATE).fields, step_of(tree.root)
    found, planned = state.get("global_step"), state.get("max_steps")
    if not isinstance(found, int) or isinstance(found, bool) or found != step:
        return Finding("StepMismatch", f"{TRAINER_STATE} is of step {found}")
    if isinstance(planned, int) and 0 < planned < found:
        return Finding("StepMismatch", f"{TRAINER_STATE} has step {found} of {planned}")
    return None


def optimizer_state_is_missing(tree: Tree) -> Finding | None:
    """Ours in one file, the seeds following from the step; transformers' in three pickles."""
    if not is_resumable(tree) or OPTIMIZER in tree.files:
        return None
    wanted = {"optimizer.pt", "scheduler.pt"} - set(tree.files)
    if "optimizer.pt" not in tree.files:
        wanted = {OPTIMIZER}
    elif not any(name.startswith("rng_state") for name in tree.files):
        wanted.add("rng_state.pth")
    if not wanted:
        return None
    return Finding("OptimizerStateMissing", f"{min(wanted)} is missing: it cannot be resumed")


def trainer_state_is_malformed(tree: Tree) -> Finding | None:
    if not is_resumable(tree):
        return None
    fields = tree.document(TRAINER_STATE).fields
    try:
        TrainerState.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        text = f"{TRAINER_STATE}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        return Finding("TrainerStateMalformed", text)
    ours = OPTIMIZER in tree.files
    lacking = [name for name in (_OURS if ours else _EVERY_TRAINER) if name not in fields]
    told = fields.get("run", {})
    lacking += [f"run.{name}" for name in _TOLD_OF_THE_RUN if ours and name not in told]
    if not lacking:
        return None
    return Finding("TrainerStateMalformed", f"{TRAINER_STATE} has no {lacking[0]}")


def optimizer_steps_differ(tree: Tree) -> Finding | None:
    """Every moment has its twin and the steps that it was made in: as many as the run has done.

    Fewer only where the run has left some out, because a gradient was no number.
    """
    if not is_resumable(tree) or OPTIMIZER not in tree.headers:
        return None
    states = _states(tree)
    for name, state in states.items():
        if lacking := {FIRST, SECOND, STEP} - state.keys():
            return Finding("OptimizerMismatch", f"the optimizer has no {name}.{min(lacking)}")
    problem = _step_problem(tree, {name: _only(tree, s[STEP]) for name, s in states.items()})
    return Finding("OptimizerMismatch", f"{OPTIMIZER}: {problem}") if problem else None


def _step_problem(tree: Tree, steps: Mapping[str, float]) -> str:
    state = TrainerState.model_validate(tree.document(TRAINER_STATE).fields)
    done = state.global_step
    for name, step in steps.items():
        if not (1 <= step <= done and step == int(step)):
            return f"{name}.{STEP} is {step:g}, the checkpoint is of step {done}"
    most, least = max(steps.values(), default=done), done - state.nonfinite_losses
    # While a scale for 16 bit is looked for, steps are left out and not counted.
    if most >= least or state.loss_scaler:
        return ""
    return f"it has done {most:g} steps, the checkpoint is of step {done}"


def _states(tree: Tree) -> dict[str, dict[str, Tensor]]:
    """The optimizer's tensors by parameter and kind."""
    found: dict[str, dict[str, Tensor]] = {}
    for tensor in tree.headers[OPTIMIZER].tensors:
        parameter, _, kind = tensor.name.rpartition(".")
        found.setdefault(parameter, {})[kind] = tensor
    return found


def _only(tree: Tree, tensor: Tensor) -> float:
    """The number of a tensor that holds one; NaN for any other."""
    numbers = read_numbers(tree.root / OPTIMIZER, tensor)
    return float(numbers[0]) if numbers is not None and len(numbers) == 1 else math.nan


def moments_are_impossible(tree: Tree) -> Finding | None:
    """Whatever the gradients were: a mean of their squares is not negative, and fits their mean."""
    if not is_resumable(tree) or OPTIMIZER not in tree.headers:
        return None
    if name := tree.contents[OPTIMIZER].negative:
        return Finding("OptimizerMismatch", f"{OPTIMIZER}: {name} holds a number below 0")
    for name, state in (states := _states(tree)).items():
        if _is_of_others(tree, state):
            text = f"{name}: {FIRST} and {SECOND} are not of the same gradients"
            return Finding("OptimizerMismatch", f"{OPTIMIZER}: {text}")
    problem = _lost_moments(tree, states)
    return Finding("OptimizerMismatch", f"{OPTIMIZER}: {problem}") if problem else None


def _lost_moments(tree: Tree, states: Mapping[str, Mapping[str, Tensor]]) -> str:
    """The second matrix of an adapter begins as zeros: one that is not has had gradients."""
    zero = tree.zero
    dead = [name for name, state in states.items() if state[SECOND].name in zero]
    if dead and len(dead) == len(states):
        return f"every {SECOND} is all zeros"
    for name in dead:
        weight, _ = moment_of(f"{name}.{SECOND}")
        if "lora_B" in weight and weight in tree.weights and weight not in zero:
            return f"{name}.{SECOND} is all zeros, its weight is not"
    return ""


def training_is_lost(tree: Tree) -> Finding | None:
    """The second matrix of an adapter leaves its zeros with the first step that has a rate.

    A warm-up begins at a rate of zero, so that one step tells nothing.
    """
    if not is_resumable(tree) or OPTIMIZER not in tree.headers:
        return None
    zero = tree.zero
    for name, state in _states(tree).items():
        weight, _ = moment_of(f"{name}.{SECOND}")
        had_gradients = state[SECOND].name not in zero and _only(tree, state[STEP]) > 1
        if "lora_B" in weight and weight in zero and had_gradients:
            text = f"{weight} holds nothing but zeros, its optimizer has had gradients for it"
            return Finding("WeightsZero", text)
    return None


def _is_of_others(tree: Tree, state: Mapping[str, Tensor]) -> bool:
    path = tree.root / OPTIMIZER
    first, second = (read_numbers(path, state[kind]) for kind in (FIRST, SECOND))
    if first is None or second is None:
        return False
    return bool((first**2 > _ROUNDING * _MOST_RATIO * second + _SMALLEST).any())


def is_resumable(tree: Tree) -> bool:
    return tree.is_checkpoint and step_of(tree.root) is not None


def checkpoint_is_of_another_run(run: Run) -> Finding | None:
    """By its settings, and by where it says it is in the run."""
    for tree in filter(is_resumable, run.checkpoints):
        problem = (
            _other_settings(tree, run.training_config)
            or _other_place(tree, run)
            or _other_loss(tree, run)
        )
        if problem:
            return Finding("CheckpointMismatch", f"{tree.label}: {problem}")
    return None


def _other_settings(tree: Tree, known: Mapping[str, Any]) -> str:
    """What one of the two does not tell is not compared."""
    told = tree.document(TRAINER_STATE).fields.get("run")
    told = told if isinstance(told, dict) else {}
    for name in BINDING:
        if name in told and name in known and told[name] != known[name]:
            return f"{TRAINER_STATE}: its run has {name} {told[name]!r}, this one {known[name]!r}"
    return ""


def _other_place(tree: Tree, run: Run) -> str:
    step, last = step_of(tree.root) or 0, run.info.results.global_step if run.info else None
    if last is not None and step > last:
        return f"the run ended at step {last}"
    if run.last_step is not None and step > run.last_step:
        return f"{LOSS_HISTORY} ends at step {run.last_step}"
    told = float(tree.document(TRAINER_STATE).fields.get("epoch", 0))
    known = run.epochs.get(step)
    if known is None or math.isclose(told, known, rel_tol=1e-3, abs_tol=1e-3):
        return ""
    return f"{TRAINER_STATE}: epoch is {told}, in {LOSS_HISTORY} {known}"


def _other_loss(tree: Tree, run: Run) -> str:
    """Runs that differ in a rate or a limit, and so in no name or shape, soon differ in this.

    The settings themselves may have been changed between a checkpoint and the end, the losses up
    to the checkpoint have not.
    """
    state = TrainerState.model_validate(tree.document(TRAINER_STATE).fields)
    told, window = state.loss, state.run.get("logging_steps")
    if told is None or not is_count(window) or not math.isfinite(told):
        return ""
    known = run.mean_loss(state.global_step, window)
    if known is None or math.isclose(told, known, rel_tol=_SAME_LOSS, abs_tol=_SAME_LOSS):
        return ""
    return f"{TRAINER_STATE}: loss is {told:.6g}, by {LOSS_HISTORY} {known:.6g}"


def moments_went_back(run: Run) -> Finding | None:
    """From step to step a second moment loses a thousandth at most."""
    ours = [tree for tree in run.checkpoints if is_resumable(tree) and OPTIMIZER in tree.headers]
    for older, newer in pairwise(ours):
        steps = (step_of(newer.root) or 0) - (step_of(older.root) or 0)
        name = _lost(older, newer, _BETAS[1] ** steps) if steps <= _LONG_AGO else None
        if name:
            text = f"{newer.label}: {name} cannot have come from that of {older.label}"
            return Finding("OptimizerMismatch", text)
    return None


def _lost(older: Tree, newer: Tree, left: float) -> str | None:
    before, now = _seconds(older), _seconds(newer)
    for name in sorted(before.keys() & now.keys()):
        was = read_numbers(older.root / OPTIMIZER, before[name])
        found = read_numbers(newer.root / OPTIMIZER, now[name])
        if was is None or found is None or was.shape != found.shape:
            continue
        if (found * _ROUNDING + _SMALLEST < left * was).any():
            return name
    return None


def _seconds(tree: Tree) -> dict[str, Tensor]:
    return {t.name: t for t in tree.headers[OPTIMIZER].tensors if t.name.endswith(f".{SECOND}")}


RULES: tuple[Rule[Run], ...] = (checkpoint_is_of_another_run, moments_went_back)
