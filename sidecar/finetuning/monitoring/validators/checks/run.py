"""One run's trees side by side: what the rules about agreement look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from finetuning.artifacts import LOSS_HISTORY
from finetuning.artifacts.files import UnreadableFileError
from finetuning.artifacts.history import read_history
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
    def _history(self) -> tuple[int | None, dict[int, float]]:
        """The last step, and the epochs after the steps of the checkpoints."""
        wanted, last, epochs = {step_of(tree.root) for tree in self.checkpoints}, None, {}
        try:
            for line in read_history(self.result.root / LOSS_HISTORY):
                last = line.step if last is None else max(last, line.step)
                if line.step in wanted:
                    epochs[line.step] = line.epoch
        except UnreadableFileError:
            pass  # Another check says so.
        return last, epochs

    @property
    def last_step(self) -> int | None:
        """Of the history of losses."""
        return self._history[0]

    @property
    def epochs(self) -> dict[int, float]:
        """By step, from the history, for the steps of checkpoints."""
        return self._history[1]
