"""The training knobs, once: used by the custom resource and by the trainer's command line.

Defaults are those of the public prototype's resource definition, so that a manifest written for it
trains with the same values here.
"""

from enum import StrEnum
from typing import Any

from pydantic import Field

from finetuning.api.base import ApiModel
from finetuning.api.text import TargetModule


def _no_default(schema: dict[str, Any]) -> None:
    """Keep the default out of the CRD: only a value that the user wrote may win over loraRank."""
    schema.pop("default", None)


class Method(StrEnum):
    """How the model is tuned."""

    LORA = "lora"
    QLORA = "qlora"
    FULL = "full"


class Precision(StrEnum):
    """Numeric format of the forward and backward pass."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


class LrSchedulerType(StrEnum):
    """Shape of the learning rate after warm-up."""

    LINEAR = "linear"
    COSINE = "cosine"
    CONSTANT = "constant"


class ComputeDtype(StrEnum):
    """Type in which 4-bit weights are multiplied."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class QuantType(StrEnum):
    """4-bit data type of the stored weights."""

    NF4 = "nf4"
    FP4 = "fp4"


class Hyperparameters(ApiModel):
    """How the training runs, in the terms of transformers' TrainingArguments."""

    learning_rate: float = Field(
        default=2e-4,
        gt=0,
        le=1,
        description="Peak learning rate of AdamW, reached after warm-up. 1e-4 to 3e-4 suits lora "
        "and qlora, 1e-5 to 5e-5 suits full.",
    )
    batch_size: int = Field(
        default=4,
        ge=1,
        le=4096,
        description="Rows per GPU in one forward pass. When memory runs out, halve it and double "
        "gradientAccumulationSteps: the optimizer sees as many rows per step as before.",
    )
    epochs: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="Passes over the training data; maxSteps, if set, decides.",
    )
    max_seq_length: int = Field(
        default=2048,
        ge=16,
        le=1_048_576,
        description="Longest row in tokens; what is longer is cut, and counted in the log. Memory "
        "grows with it.",
    )
    warmup_steps: int = Field(
        default=100,
        ge=0,
        le=10_000_000,
        description="Optimizer steps over which the learning rate rises from zero. "
        "When the whole run is not longer than this, a tenth of the run is used instead.",
    )
    gradient_accumulation_steps: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Forward passes per optimizer step: a larger batch without more memory.",
    )
    gradient_checkpointing: bool = Field(
        default=True, description="Save GPU memory by computing activations twice, for more time."
    )
    fp16: bool = Field(
        default=True,
        description="Train in 16-bit floating point with loss scaling. bf16 wins when both are on; "
        "a device that cannot do it trains in 32 bit and says so.",
    )
    bf16: bool = Field(default=False, description="Train in bfloat16. Takes precedence over fp16.")
    seed: int = Field(
        default=42, ge=0, le=4_294_967_295, description="Seed of data order, dropout and adapters."
    )
    max_steps: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Stop after this many optimizer steps, whatever epochs says.",
    )
    lr_scheduler_type: LrSchedulerType = Field(
        default=LrSchedulerType.LINEAR, description="Shape of the learning rate after warm-up."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, le=1, description="How strongly AdamW pulls weights to zero."
    )
    max_grad_norm: float = Field(
        default=1.0, ge=0, le=1000, description="Clip gradients to this norm; 0 turns clipping off."
    )
    logging_steps: int = Field(
        default=1,
        ge=1,
        le=100_000,
        description="Optimizer steps between updates of progress, metrics and log lines.",
    )
    save_steps: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Optimizer steps between checkpoints; ten per run when absent.",
    )
    save_total_limit: int = Field(
        default=2, ge=1, le=1000, description="Complete checkpoints kept; older ones are deleted."
    )
    eval_steps: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Optimizer steps between evaluations of the held-out split; "
        "once per epoch when absent. Needs dataset.evalSplit.",
    )
    lora_rank: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Older spelling of loraConfig.r, which wins when it is given.",
    )
    lora_alpha: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="Older spelling of loraConfig.loraAlpha, which wins when it is given.",
    )

    @property
    def precision(self) -> Precision:
        """The wished precision; `bf16: true` alone must not clash with the default of fp16."""
        if self.bf16:
            return Precision.BF16
        return Precision.FP16 if self.fp16 else Precision.FP32


class LoraConfig(ApiModel):
    """The low-rank adapter, in the terms of peft's LoraConfig; ignored by method `full`."""

    r: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="Rank of the adapter matrices, 16 when absent: higher learns more and costs "
        "more memory.",
        json_schema_extra=_no_default,
    )
    lora_alpha: int = Field(
        default=32,
        ge=1,
        le=65_536,
        description="Scale, 32 when absent: the adapter's update is multiplied by loraAlpha / r.",
        json_schema_extra=_no_default,
    )
    target_modules: list[TargetModule] = Field(
        default=["q_proj", "v_proj", "k_proj", "o_proj"],
        min_length=1,
        max_length=64,
        description="Linear layers that get an adapter, by the end of their name; "
        "`all-linear` alone means every linear layer but the head.",
    )
    lora_dropout: float = Field(
        default=0.05, ge=0, lt=1, description="Dropout before the adapter, in training only."
    )


class QuantizationConfig(ApiModel):
    """How method `qlora` stores the frozen base weights, in bitsandbytes' terms."""

    load_in_4bit: bool = Field(
        default=True,
        alias="loadIn4bit",
        description="Store the base weights in 4 bit; false leaves them unquantised.",
    )
    bnb_4bit_compute_dtype: ComputeDtype = Field(
        default=ComputeDtype.FLOAT16,
        alias="bnb4bitComputeDtype",
        description="Type in which the 4-bit weights are multiplied.",
    )
    bnb_4bit_use_double_quant: bool = Field(
        default=True,
        alias="bnb4bitUseDoubleQuant",
        description="Quantise the scales of the blocks as well; saves 0.4 bit per weight.",
    )
    bnb_4bit_quant_type: QuantType = Field(
        default=QuantType.NF4, alias="bnb4bitQuantType", description="4-bit data type."
    )
