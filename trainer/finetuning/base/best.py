"""Which weights are the best so far, by the loss on the held-out rows, and when to give up.

The arithmetic of transformers' Trainer and its EarlyStoppingCallback, with a lower loss as better.
"""

import logging
import math
from pathlib import Path
from typing import Any

from finetuning.api.hyperparameters import Hyperparameters, Method
from finetuning.artifacts import CHECKPOINT_PREFIX, MANIFEST
from finetuning.artifacts.manifest import problem_with
from finetuning.artifacts.trainer_state import TrainerState
from finetuning.base.device import Device
from finetuning.base.group import Group
from finetuning.base.model import load_adapter, load_base
from finetuning.base.run import Run

log = logging.getLogger(__name__)


def judge(state: TrainerState, loss: float, threshold: float) -> bool:
    """Note the loss of an evaluation; True when it is the lowest yet.

    A loss that is lower by no more than `threshold` is the best, yet no reason to wait longer.
    """
    best = math.inf if state.best_metric is None else state.best_metric
    improved = loss < best and best - loss > threshold
    state.evaluations_without_gain = 0 if improved else state.evaluations_without_gain + 1
    if not loss < best:
        return False
    state.best_metric, state.best_global_step = loss, state.global_step
    return True


def gives_up(state: TrainerState, settings: Hyperparameters) -> bool:
    patience = settings.early_stopping_patience
    return patience is not None and state.evaluations_without_gain >= patience


def forget_if_gone(state: TrainerState, run: Run, group: Group) -> None:
    """The best step, where no checkpoint of it is left to take weights from; all have to call it.

    None was kept before somebody wished for the best weights.
    """
    wished, best = run.config.hyperparameters.keeps_best, state.best_global_step
    gone = wished and best is not None and not (_folder(run, best) / MANIFEST).is_file()
    if not group.first(int(gone)):
        return
    log.warning(
        "No checkpoint is left of step %d, whose held-out loss %.4f was the lowest: the best "
        "weights are those of the lowest one from here on.",
        *_of(state),
    )
    state.best_metric = state.best_global_step = None
    loss = math.nan if state.eval_loss is None else state.eval_loss
    if state.evaluated_step == state.global_step and math.isfinite(loss):
        state.best_metric, state.best_global_step = loss, state.global_step


def _folder(run: Run, step: int) -> Path:
    return run.checkpoints / f"{CHECKPOINT_PREFIX}{step}"


def load_best(model: Any, run: Run, state: TrainerState, device: Device) -> Any:
    """The model with its best weights, where they are wished for and are not those it has."""
    best = state.best_global_step
    if not run.config.hyperparameters.keeps_best or best is None or best == state.global_step:
        return model
    folder = _folder(run, best)
    if problem := problem_with(folder):
        log.warning("The best weights cannot be used, so the last ones are kept: %s", problem)
        return model
    log.info("Taking the weights of step %d, whose held-out loss %.4f is the lowest.", *_of(state))
    state.eval_loss = state.best_metric
    if run.config.method is Method.FULL:
        return load_base(folder, run.config, device)
    load_adapter(model, folder)
    return model


def _of(state: TrainerState) -> tuple[int | None, float | None]:
    return state.best_global_step, state.best_metric
