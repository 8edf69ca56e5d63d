"""One run's trees side by side: what the rules about agreement look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from finetuning.artifacts import CHECKPOINT_PREFIX
from finetuning.artifacts.files import UnreadableFileError
from finetuning.monitoring.training_info import TrainingInfo
from finetuning.monitoring.validators.checks.tree import Tree, step_of, tree_of
from finetuning.monitoring.validators.checks.weights import Tensor
from finetuning.monitoring.validators.settings import ValidationSettings


@dataclass(frozen=True)
class Run:
    """All trees of a run that are whole by themselves; what is None is not at hand."""

    result: Tree
    checkpoint: Tree | None
    base: Tree | None
    info: TrainingInfo | None
    settings: ValidationSettings
    leftovers: tuple[str, ...] = ()
    """Half-written checkpoints beside the newest one."""

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

    @cached_property
    def kept(self) -> Tree | None:
        """The checkpoint whose weights became the result.

        None where it is not there, or cannot be read: only the newest is judged by itself.
        """
        step = self.info.results.result_step if self.info else None
        if self.checkpoint is None or step is None or step_of(self.checkpoint.root) == step:
            return self.checkpoint if step is not None else None
        folder = self.checkpoint.root.with_name(f"{CHECKPOINT_PREFIX}{step}")
        if folder.is_symlink() or not folder.is_dir():
            return None
        tree = tree_of(folder, is_checkpoint=True)
        try:
            return tree if tree.contents else None
        except (OSError, UnreadableFileError):
            return None
