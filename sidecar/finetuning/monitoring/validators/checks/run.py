"""One run's trees side by side: what the rules about agreement look at."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from finetuning.artifacts import LOSS_HISTORY
from finetuning.artifacts.files import UnreadableFileError
from finetuning.artifacts.history import read_history, window_start
from finetuning.monitoring.training_info import TrainingInfo
from finetuning.monitoring.validators.checks.tree import Tree, step_of
from finetuning.monitoring.validators.checks.weights import Tensor
from finetuning.monitoring.validators.settings import ValidationSettings


@dataclass(frozen=True)
class Run:
    """All trees of a run that are whole by themselves; what is None is not at hand."""

    result: Tree
    checkpoints: tuple[Tree, ...]
    """The oldest first."""
    base: Tree | None
    info: TrainingInfo | None
    settings: ValidationSettings
    leftovers: tuple[str, ...] = ()
    """Half-written checkpoints beside them."""

    @property
    def checkpoint(self) -> Tree | None:
        """The newest."""
        return self.checkpoints[-1] if self.checkpoints else None

    @cached_property
    def base_weights(self) -> Mapping[str, Tensor]:
        try:
            return self.base.weights if self.base else {}
        except UnreadableFileError:
            return {}  # The base model is not on trial.

    @property
    def method(self) -> str | None:
        return self.settings.method or (self.info.method if self.info else None)

    @property
    def training_config(self) -> dict[str, Any]:
        return self.info.training_config if self.info else {}

    @property
    def is_as_trained(self) -> bool:
        """Whether the trainer itself wrote the result: it says where it ran, and what it tuned."""
        told = self.info is not None and bool(self.info.environment)
        return told and self.result.is_adapter == (self.method != "full")

    @cached_property
    def kept(self) -> Tree | None:
        """The checkpoint whose weights became the result; None where it is not there."""
        step = self.info.results.result_step if self.info else None
        found = {step_of(tree.root): tree for tree in self.checkpoints}
        if step is None or not self.checkpoints:
            return None
        return found.get(step) or (self.checkpoint if None in found else None)

    @cached_property
    def _history(self) -> tuple[dict[int, float], dict[int, float]]:
        """The losses of all steps, and the epochs after the steps of the checkpoints."""
        losses: dict[int, float] = {}
        wanted, epochs = {step_of(tree.root) for tree in self.checkpoints}, {}
        try:
            for line in read_history(self.result.root / LOSS_HISTORY):
                losses[line.step] = line.loss
                if line.step in wanted:
                    epochs[line.step] = line.epoch
        except UnreadableFileError:
            pass  # Another check says so.
        return losses, epochs

    @property
    def last_step(self) -> int | None:
        """Of the history of losses."""
        return max(self._history[0], default=None)

    def mean_loss(self, step: int, window: int) -> float | None:
        """What the trainer told after `step` where it tells of `window` steps each.

        None where a line of them is lost, or a loss is no number.
        """
        steps = range(window_start(step, window) + 1, step + 1)
        known = [self._history[0].get(each, math.nan) for each in steps]
        mean = sum(known) / len(known)
        return mean if math.isfinite(mean) else None

    @property
    def epochs(self) -> dict[int, float]:
        """By step, from the history, for the steps of checkpoints."""
        return self._history[1]
