"""The training knobs, once: used by the custom resource and by the trainer's command line.

Defaults are those of the public prototype's resource definition, so that a manifest written for it
trains with the same values here.
"""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from finetuning.api.base import ApiModel, Rule
from finetuning.api.text import TargetModule


def _no_default(schema: dict[str, Any]) -> None:
    """Keep the default out of the CRD: only a value that the user wrote may win over loraRank."""
    schema.pop("default", None)


class Method(StrEnum):
    """How the model is tuned."""

    LORA = "lora"
    QLORA = "qlora"
    FULL = "full"


class Objective(StrEnum):
    """What the loss asks for."""

    SFT = "sft"
    DPO = "dpo"


class Precision(StrEnum):
    """Numeric format of the forward and backward pass."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


class LrSchedulerType(StrEnum):
    """Shape of the learning rate over the run, by the names of transformers' SchedulerType."""

    LINEAR = "linear"
    COSINE = "cosine"
    COSINE_WITH_MIN_LR = "cosine_with_min_lr"
    POLYNOMIAL = "polynomial"
    CONSTANT = "constant"
    CONSTANT_WITH_WARMUP = "constant_with_warmup"
    INVERSE_SQRT = "inverse_sqrt"


class ComputeDtype(StrEnum):
    """Type in which 4-bit weights are multiplied."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


class QuantType(StrEnum):
    """4-bit data type of the stored weights."""

    NF4 = "nf4"
    FP4 = "fp4"


class ReportTo(StrEnum):
    """Where a run's curves go besides its own files, by the names of transformers' `report_to`."""

    TENSORBOARD = "tensorboard"
    MLFLOW = "mlflow"
    WANDB = "wandb"


DEFAULT_NEW_TOKENS = 64

ALL_LINEAR = "all-linear"
"""In place of names: every linear layer but the head."""


class Hyperparameters(ApiModel):
    """How the training runs, in the terms of transformers' TrainingArguments."""

    RULES: ClassVar = (
        Rule(
            "has(self.minLrRate) == (self.lrSchedulerType == 'cosine_with_min_lr')",
            lambda settings: (
                (settings.min_lr_rate is not None)
                == (settings.lr_scheduler_type is LrSchedulerType.COSINE_WITH_MIN_LR)
            ),
            "minLrRate and lrSchedulerType cosine_with_min_lr need each other: set both, such as "
            "minLrRate 0.1, or drop minLrRate and take the scheduler cosine",
            field="minLrRate",
        ),
        Rule(
            "!has(self.warmupRatio) || self.lrSchedulerType != 'constant'",
            lambda settings: (
                settings.warmup_ratio is None
                or settings.lr_scheduler_type is not LrSchedulerType.CONSTANT
            ),
            "warmupRatio does nothing with lrSchedulerType constant, which has no warm-up: take "
            "constant_with_warmup, or drop warmupRatio",
            field="warmupRatio",
        ),
        Rule(
            "self.earlyStoppingThreshold == 0.0 || has(self.earlyStoppingPatience)",
            lambda settings: (
                not settings.early_stopping_threshold
                or settings.early_stopping_patience is not None
            ),
            "earlyStoppingThreshold does nothing without earlyStoppingPatience: set that too, for "
            "example to 3, or drop earlyStoppingThreshold",
            field="earlyStoppingThreshold",
        ),
        Rule(
            f"self.sampleMaxNewTokens == {DEFAULT_NEW_TOKENS} || self.sampleGenerations > 0",
            lambda settings: (
                settings.sample_max_new_tokens == DEFAULT_NEW_TOKENS
                or settings.sample_generations > 0
            ),
            "sampleMaxNewTokens does nothing without sampleGenerations: set that too, for example "
            "to 3, or drop sampleMaxNewTokens",
            field="sampleMaxNewTokens",
        ),
        Rule(
            "!has(self.beta) || self.objective == 'dpo'",
            lambda settings: settings.beta is None or settings.objective is Objective.DPO,
            "beta is the strength of objective dpo: set objective to dpo, or drop beta",
            field="beta",
        ),
        Rule(
            "!self.packing || self.objective != 'dpo'",
            lambda settings: not settings.packing or settings.objective is not Objective.DPO,
            "packing true does not go with objective dpo, whose loss is of whole answers: drop "
            "packing, or set objective to sft",
            field="packing",
        ),
    )

    objective: Objective = Field(
        default=Objective.SFT,
        description="sft learns to give the answers in the data. dpo learns from pairs (columns "
        "prompt, chosen, rejected) to prefer one answer over another, held close to the model that "
        "it started from; take a learningRate of 1e-6 to 1e-5 with it.",
    )
    beta: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="How closely objective dpo keeps to the model that it started from; lower "
        "values let it drift further. 0.1 when absent.",
    )
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
    packing: bool = Field(
        default=False,
        description="Put several short rows into one sequence of at most maxSeqLength tokens, each "
        "blind to the others, so that little is computed for padding. batchSize then counts such "
        "sequences, so a step sees more rows than without it.",
    )
    warmup_steps: int = Field(
        default=100,
        ge=0,
        le=10_000_000,
        description="Optimizer steps over which the learning rate rises from zero. "
        "When the whole run is not longer than this, a tenth of the run is used instead.",
    )
    warmup_ratio: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="The same as a share of the run's steps, rounded up: 0.03 warms up over 3 % of "
        "them. Wins over warmupSteps.",
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
    fsdp: bool = Field(
        default=False,
        description="Share the weights, their gradients and the optimizer's state out over the "
        "processes of the run (torch's FSDP2), in place of a copy of all on each GPU; a layer is "
        "put together while it computes. For methods lora and full with more than one GPU. 16 bit "
        "is bf16 with it, also where fp16 is on.",
    )
    torch_compile: bool = Field(
        default=False,
        description="Compile the model's layers with torch.compile. The first steps take up to "
        "minutes longer, those after them mostly less time; losses stay the same. Needs Triton and "
        "a C compiler in the image on a GPU, a C++ compiler on a CPU.",
    )
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
        default=LrSchedulerType.LINEAR,
        description="Shape of the learning rate after warm-up. linear and cosine fall to zero, "
        "cosine_with_min_lr to minLrRate times learningRate, polynomial (power 1) to 1e-7; "
        "inverse_sqrt falls as 1/sqrt(step), constant_with_warmup stays at the peak, constant is "
        "there from the first step.",
    )
    min_lr_rate: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of learningRate at which lrSchedulerType cosine_with_min_lr ends; 0.1 "
        "is usual.",
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
        description="Optimizer steps between updates of progress, metrics and log lines; the loss "
        "told there is the mean over them.",
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
        "once per epoch when absent. Needs dataset.evalSplit or evalSource.",
    )
    early_stopping_patience: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Stop when the loss on the held-out split has not improved in this many "
        "evaluations in a row. The best weights are the result, unless loadBestModelAtEnd is "
        "false. Needs dataset.evalSplit or evalSource.",
    )
    early_stopping_threshold: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="How far the held-out loss must fall below the best to count as improved.",
    )
    load_best_model_at_end: bool | None = Field(
        default=None,
        description="Keep a checkpoint of the step with the lowest held-out loss, beyond "
        "saveTotalLimit, and make its weights the result in place of the last ones. When absent: "
        "true with earlyStoppingPatience, else false. Needs dataset.evalSplit or evalSource.",
    )
    sample_generations: int = Field(
        default=0,
        ge=0,
        le=16,
        description="At each evaluation the model answers this many prompts of held-out rows, each "
        "time the same, by its likeliest tokens; samples.jsonl and the report have the answers. "
        "Needs dataset.evalSplit or evalSource.",
    )
    sample_max_new_tokens: int = Field(
        default=DEFAULT_NEW_TOKENS,
        ge=1,
        le=1024,
        description="Longest answer of sampleGenerations, in tokens.",
    )
    neftune_noise_alpha: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Add noise of this size to the embeddings while training (NEFTune); 5 to 15 "
        "is usual, none when absent.",
    )
    report_to: Annotated[
        list[ReportTo],
        Rule(
            "self.all(name, self.exists_one(other, other == name))",
            lambda names: len(set(names)) == len(names),
            "must name each tracker once",
        ),
    ] = Field(
        default=[],
        max_length=len(ReportTo),
        description="Where the curves go besides the run's own files, of tensorboard (event files "
        "in the output folder), mlflow and wandb; nowhere when empty. A tracker that fails or "
        "hangs leaves the training alone.",
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

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the lowest held-out loss are the result."""
        if self.load_best_model_at_end is None:
            return self.early_stopping_patience is not None
        return self.load_best_model_at_end


class LoraConfig(ApiModel):
    """The low-rank adapter, in the terms of peft's LoraConfig; ignored by method `full`."""

    RULES: ClassVar = (
        Rule(
            "!('all-linear' in self.targetModules) || size(self.targetModules) == 1",
            lambda lora: ALL_LINEAR not in lora.target_modules or len(lora.target_modules) == 1,
            "targetModules: all-linear stands alone, since it means every linear layer: drop the "
            "other names, or drop all-linear",
            field="targetModules",
        ),
        Rule(
            "!self.modulesToSave.exists(name, name in self.targetModules)",
            lambda lora: not set(lora.modules_to_save) & set(lora.target_modules),
            "modulesToSave and targetModules name the same layer, which cannot be trained in full "
            "and by an adapter at once: drop it from one of them",
            field="modulesToSave",
        ),
    )

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
    use_rslora: bool = Field(
        default=False,
        description="Multiply the adapter's update by loraAlpha / sqrt(r) in place of "
        "loraAlpha / r (rsLoRA), so that a high rank learns as fast as a low one.",
    )
    use_dora: bool = Field(
        default=False,
        description="Train the length of each weight column apart from its direction (DoRA): "
        "closer to full tuning at a low rank, for more time per step.",
    )
    loraplus_lr_ratio: float | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Train the adapter's B matrices at this many times learningRate (LoRA+); 16 is "
        "usual, with a learningRate about half of that without it.",
    )
    modules_to_save: list[TargetModule] = Field(
        default=[],
        max_length=16,
        description="Layers that are trained in full beside the adapter and saved with it, by the "
        "end of their name, such as lm_head or embed_tokens when the data brings new tokens.",
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
