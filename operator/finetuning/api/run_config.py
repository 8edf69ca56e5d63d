"""What one training run needs to know: the operator writes it as JSON, the trainer reads it.

It travels as one environment variable. Nothing that kubelet or a shell could expand survives in it
(`encode`), and nothing secret is ever part of it.
"""

import json
from typing import Any, ClassVar, Self

from pydantic import Field

from finetuning.api.base import ApiModel
from finetuning.api.dataset import EVALUATION_RULES, RowOptions
from finetuning.api.hyperparameters import (
    Hyperparameters,
    LoraConfig,
    Method,
    QuantizationConfig,
)
from finetuning.api.method_rules import METHOD_RULES

ENV = "FINETUNING_RUN_CONFIG"
"""Name of the environment variable that carries the run's configuration."""


def compact(value: Any) -> str:
    """Short JSON in which no `$` stands, so `$(NAME)` has nothing to expand."""
    # Any script as it is: as escapes it would be of twice the length.
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return text.replace("$", "\\u0024")


class DatasetConfig(RowOptions):
    """Where the rows are, as the trainer sees it."""

    RULES: ClassVar = EVALUATION_RULES

    path: str = Field(
        min_length=1, description="Local file or folder, or a Hub data set as hf://org/name."
    )
    eval_source: str | None = Field(
        default=None, min_length=1, description="The same, with rows to evaluate on."
    )

    def of_evaluation(self) -> Self | None:
        """The rows to evaluate on as a source of its own, read by the same options."""
        if self.eval_source is None:
            return None
        return self.model_copy(update={"path": self.eval_source, "eval_source": None})


class RunConfig(ApiModel):
    """The whole configuration of `python3 -m finetuning.base.app`."""

    RULES: ClassVar = METHOD_RULES

    job_name: str = "finetuning"
    model_id: str = Field(min_length=1)
    model_path: str | None = Field(
        default=None, description="Folder with the base model; the Hub is asked when absent."
    )
    revision: str | None = None
    method: Method = Method.LORA
    dataset: DatasetConfig
    output_dir: str = "./output"
    state_dir: str | None = Field(default=None, description="<outputDir>/state when absent.")
    profile: str = "auto-generate"
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)
    lora_config: LoraConfig = Field(default_factory=LoraConfig)
    quantization_config: QuantizationConfig = Field(default_factory=QuantizationConfig)

    def encode(self) -> str:
        """As JSON that survives kubelet."""
        return compact(self.model_dump(mode="json", by_alias=True, exclude_none=True))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read what `encode` wrote; raises pydantic.ValidationError on anything else."""
        return cls.model_validate_json(text)
