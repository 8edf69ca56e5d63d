"""What the sidecar and the validator take from training_info.json; everything else is ignored."""

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finetuning.artifacts.base_weights import BaseWeights
from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.artifacts.models import Count, WireFloat
from finetuning.artifacts.reference import Reference


class _Info(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class Results(_Info):
    """How the run ended; absent means unknown."""

    train_loss: WireFloat | None = None
    final_loss: WireFloat | None = None
    train_runtime: float | None = Field(default=None, ge=0)
    train_samples_per_second: float | None = Field(default=None, ge=0)
    train_tokens_per_second: float | None = Field(default=None, ge=0)
    eval_loss: WireFloat | None = None
    best_eval_loss: WireFloat | None = None
    best_global_step: Count | None = None
    nonfinite_losses: Count | None = None
    global_step: Count | None = None
    total_steps: Count | None = None
    planned_steps: Count | None = None
    """More than the total where a run has stopped early."""
    epoch: float | None = Field(default=None, ge=0)
    total_epochs: Count | None = None
    tokens_total: Count | None = None
    samples_total: Count | None = None
    checkpoints_total: Count | None = None
    checkpoint_sizes_bytes: list[Count] | None = Field(default=None, max_length=4096)

    @property
    def result_step(self) -> int | None:
        """The step whose weights are the result: the last, or the best where that was taken.

        Then the evaluation loss that is told of the run is the lowest one.
        """
        took_best = self.eval_loss is not None and self.eval_loss == self.best_eval_loss
        return self.best_global_step if took_best and self.best_global_step else self.global_step


class TrainingInfo(_Info):
    """The file that the trainer writes when the result is saved."""

    model_id: str | None = None
    base_model_path: str | None = None
    """Folder that the base model was loaded from, where its id does not say it."""
    method: str | None = None
    training_config: dict[str, Any] = Field(default_factory=dict)
    results: Results = Field(default_factory=Results)
    environment: dict[str, Any] = Field(default_factory=dict)
    """Where the trainer ran; empty where another has written the file."""
    reference: Reference | None = None
    """What the model said of some texts when it was saved; null where it could not be asked."""
    base_weights: BaseWeights | None = None
    """Of the model that was tuned; null where they could not be read."""
    base_files_sha256: dict[str, str] = Field(default_factory=dict)
    """Of the files that the trainer copied from the base model, by name."""
    added_chat_template_sha256: str | None = None
    """Of the file that the trainer wrote for a base model without a chat template."""
    started_at: float | None = Field(default=None, ge=0)
    finished_at: float | None = Field(default=None, ge=0)
    added_generation_config_sha256: str | None = None
    """Of the one that it wrote of a whole model whose base has none."""
    train_loss: WireFloat | None = None
    """Where a file made by hand may have it; `results` comes first."""

    @property
    def logging_steps(self) -> int:
        """Steps over which the trainer takes the mean of the loss that it tells of."""
        told = self.training_config.get("logging_steps")
        return told if isinstance(told, int) and told > 0 else 1

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step; 1 where that is not told."""
        names = ("batch_size", "gradient_accumulation_steps", "processes")
        told = (self.training_config.get(name, 1) for name in names)
        return math.prod(n if isinstance(n, int) and n > 0 else 1 for n in told)

    @property
    def loss(self) -> float | None:
        """The loss told last, or the mean of the run where only that is told."""
        known = (self.results.final_loss, self.results.train_loss, self.train_loss)
        return next((loss for loss in known if loss is not None), None)


def parse_training_info(data: Any, origin: str) -> TrainingInfo:
    """Check the fields that matter; raises UnreadableFileError naming the first bad one."""
    try:
        return TrainingInfo.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise UnreadableFileError(f"{origin}: {field}: {first['msg']}") from error


def read_training_info(path: Path) -> TrainingInfo:
    """Read training_info.json; raises UnreadableFileError."""
    return parse_training_info(read_json(path), str(path))
