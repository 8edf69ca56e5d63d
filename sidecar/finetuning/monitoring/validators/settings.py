"""How strict the validation is and what it asks the model; the operator passes it as JSON."""

import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from finetuning.monitoring.validators.reasons import CHECKS, CheckName

CONFIG_ENV = "FINETUNING_VALIDATION_CONFIG"
TASK_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.:+-]{0,127}$"
"""No path: a file is read from `includePath` alone."""

DEFAULT_PROMPT = "Tell me in one sentence what you can do."


class _Setting(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", protected_namespaces=()
    )


class Match(StrEnum):
    """How many of the expected words an answer must hold."""

    ANY = "any"
    ALL = "all"


class Question(_Setting):
    """A question for the tuned model and what a good answer holds."""

    prompt: str = Field(min_length=1, max_length=2000)
    expected_keywords: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default_factory=list, max_length=16
    )
    match: Match = Match.ANY


class HeldOut(_Setting):
    """Rows that the run has not trained on."""

    source: str | None = None
    """A data file of any kind that the trainer takes, with rows of its shapes."""

    max_rows: int = Field(default=64, ge=1, le=10_000)
    columns: dict[str, str] | None = None
    """The file's names of columns by the trainer's, where they differ."""


class Baseline(_Setting):
    """What is asked of the tuned model beside the base model."""

    compare: bool = True
    max_perplexity_increase: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """The held-out perplexity may be at most (1 + this) times the base model's.

    None fails what is 1.5 times as high or more, beyond 3 standard errors.
    """


class Benchmarks(_Setting):
    """Tasks of lm-evaluation-harness, which is an extra of its own; the names are those there."""

    tasks: list[Annotated[str, Field(pattern=TASK_NAME)]] = Field(
        default_factory=list, max_length=8
    )
    include_path: str | None = None
    """A folder of further tasks, *.yaml, and of their data."""

    limit: int | None = Field(default=200, ge=1, le=100_000)
    """Questions of a task, from the first; None asks all."""

    num_fewshot: int | None = Field(default=None, ge=0, le=64)
    """None leaves it to the task."""

    apply_chat_template: bool = False
    max_drop: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """A score that is clearly worse may be so by this share of the base model's; None warns."""


_Unset = BeforeValidator(lambda value: {} if value is None else value)
"""A part that is null has its defaults."""


class ValidationSettings(_Setting):
    """The defaults are those of a person at a command line; a cluster requires everything."""

    require_all: bool = False
    """Whether model_output counts even where no model can be loaded."""

    checks: list[Literal[CheckName]] = Field(default_factory=lambda: list(CHECKS), min_length=1)
    """Those that must pass; any other runs as well and is only reported."""

    base_model_path: str | None = None
    max_loss: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    min_loss_decrease: float = Field(default=0.0, ge=0, lt=1)
    """By which share of its first value the loss must have fallen at the end."""

    max_overfit: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """The last held-out loss may be at most (1 + this) times the lowest; None only warns."""

    prompts: list[Question] = Field(default_factory=list, max_length=32)
    max_new_tokens: int = Field(default=256, ge=1, le=4096)
    """Of an answer, as in transformers; one that is not at its end then is cut."""

    held_out: Annotated[HeldOut, _Unset] = Field(default_factory=HeldOut)
    baseline: Annotated[Baseline, _Unset] = Field(default_factory=Baseline)
    benchmarks: Annotated[Benchmarks, _Unset] = Field(default_factory=Benchmarks)
    timeout_seconds: float = Field(default=3300.0, gt=0, le=86_400)
    """For the process with the model; less than the Job's own hour, so that a report is written."""

    model_id: str | None = None
    """What the profile must name as its base; training_info's word counts when absent."""

    method: str | None = None

    @property
    def questions(self) -> list[Question]:
        return self.prompts or [Question(prompt=DEFAULT_PROMPT)]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read $FINETUNING_VALIDATION_CONFIG; raises ValueError naming the bad field."""
        text = environment.get(CONFIG_ENV)
        if not text:
            return cls()
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "the whole value"
            raise ValueError(f"${CONFIG_ENV}: {field}: {_told(first)}") from error


def _told(error: ErrorDetails) -> str:
    """A setting that is passed over would be one that nobody misses."""
    if error["type"] != "extra_forbidden":
        return error["msg"]
    return "no such setting; take it out, or use the validator of the operator's version"
