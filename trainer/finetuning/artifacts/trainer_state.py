"""trainer_state.json of a checkpoint: what a run needs to go on, beside weights and optimizer."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from finetuning.artifacts.base_weights import BaseWeights
from finetuning.artifacts.models import WireFloat

TRAINER_STATE = "trainer_state.json"
OPTIMIZER = "optimizer.safetensors"
"""Beside it: AdamW's state as `<parameter>.exp_avg`, `.exp_avg_sq` and `.step`."""

SIZES_KEPT = 4096

BINDING = (
    "model_id",
    "revision",
    "method",
    "objective",
    "dataset_sha256",
    "eval_split",
    "eval_sha256",
    "max_seq_length",
    "packing",
    "seed",
    "lora_rank",
    "lora_alpha",
    "target_modules",
    "use_rslora",
    "use_dora",
    "modules_to_save",
    "load_in_4bit",
    "bnb_4bit_quant_type",
    "bnb_4bit_use_double_quant",
)
"""A checkpoint continues only a run that agrees in these: they decide what its tensors mean and
which rows its steps have seen."""


class TrainerState(BaseModel):
    """Where the run is; the names shared with transformers' file of this name mean the same."""

    model_config = ConfigDict(extra="ignore")

    global_step: int = Field(default=0, ge=0)
    max_steps: int = Field(default=0, ge=0)
    epoch: float = Field(default=0.0, ge=0)
    num_train_epochs: int = Field(default=0, ge=0)
    train_seconds: float = Field(default=0.0, ge=0)
    tokens_total: int = Field(default=0, ge=0)
    samples_total: int = Field(default=0, ge=0)
    nonfinite_losses: int = Field(default=0, ge=0)
    bad_steps_in_a_row: int = Field(default=0, ge=0)
    loss: WireFloat | None = None
    eval_loss: WireFloat | None = None
    evaluated_step: int | None = Field(default=None, ge=0)
    """The step of `eval_loss`."""
    best_metric: float | None = None
    best_global_step: int | None = Field(default=None, ge=0)
    evaluations_without_gain: int = Field(default=0, ge=0)
    evaluation_due: bool = False
    """Whether a wish to stop left off the evaluation of this step: going on begins with it."""
    checkpoints_total: int = Field(default=0, ge=0)
    checkpoint_sizes_bytes: list[int] = Field(default_factory=list)
    loss_scaler: dict[str, float] = Field(default_factory=dict)
    run: dict[str, Any] = Field(default_factory=dict)
    """The settings of the run, in the flags' words."""
    base_weights: BaseWeights | None = None
    """Of the base model that the run began with; None where they could not be read."""

    def add_checkpoint(self, size: int) -> None:
        """Count a checkpoint once it is complete."""
        self.checkpoints_total += 1
        self.checkpoint_sizes_bytes = [*self.checkpoint_sizes_bytes, size][-SIZES_KEPT:]
