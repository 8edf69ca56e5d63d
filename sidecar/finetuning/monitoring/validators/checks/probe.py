"""What the check of the model's output and the process that loads the model say to each other."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from finetuning.artifacts.models import WireFloat

LONG_ENOUGH = 1024
"""New tokens in which an answer to a general question ends, from a model that ends any."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class HeldOutRow(_Message):
    """A row to score: a conversation whose assistant counts, or a text whose completion does."""

    messages: list[dict[str, Any]] = Field(default_factory=list)
    """As they stand in the row: a chat template may show any of their keys."""

    tools: list[Any] | None = None
    prompt: str = ""
    completion: str = ""


class BenchmarkRequest(_Message):
    """Tasks of lm-evaluation-harness: its own by name, and others as configurations."""

    names: list[str] = Field(default_factory=list)
    tasks: list[dict[str, Any]] = Field(default_factory=list)
    limit: int | None = None
    num_fewshot: int | None = None
    apply_chat_template: bool = False


class FourBits(_Message):
    """How the trainer stored the base model of an adapter, as bitsandbytes has it."""

    quant_type: Literal["nf4", "fp4"]
    double_quant: bool
    weights: Literal["float32", "float16", "bfloat16"]
    """What the weights were rounded to before."""


class ProbeRequest(_Message):
    """What to load and what to ask it; `base` is a folder or, when it is none, a Hub id."""

    model_path: str
    is_adapter: bool
    base: str | None = None
    base_is_local: bool = True
    revision: str | None = None
    compare: bool = True
    """Whether the base model is asked as well."""
    prompts: list[str]
    held_out: list[HeldOutRow] = Field(default_factory=list)
    left_out: list[str] = Field(default_factory=list)
    """What is wrong with other rows of that file; for the verdict alone."""

    reference: bool = False
    """Whether the tuned model scores the texts that the trainer has scored."""
    base_reference: bool = False
    """And its base model, whose rounding in the training is to be told from a fault."""
    four_bits: FourBits | None = None
    """For these texts the base model is stored like this, where that can be done here."""
    benchmarks: BenchmarkRequest | None = None
    max_new_tokens: int = Field(ge=1)
    parent: int | None = None
    """Process id of whoever asks; without it nobody wants the answer."""


class Answer(_Message):
    """What a model generated for one prompt, without the prompt."""

    text: str
    tokens: list[int]
    finite: bool = Field(description="Whether every logit on the way was a finite number.")
    stopped: bool | None = None
    """Whether it ended by itself; None where nothing says which token ends."""


class RowLoss(_Message):
    """What predicting one row's answer cost."""

    tokens: int = Field(ge=1)
    nats: WireFloat
    """Summed over the tokens."""


class Score(_Message):
    """What one model made of one task."""

    task: str
    metric: str
    score: WireFloat
    error: float | None = None
    """Standard error."""
    samples: int = Field(ge=0)
    higher_is_better: bool = True


class ProbeFailure(_Message):
    """Why there is no answer."""

    stage: str
    """machine, base, model, adapter, tokenizer, words, template, rows or generation."""

    message: str
    out_of_memory: bool = False


class ProbeReport(_Message):
    """The child's whole answer; what could not be compared stays None."""

    failure: ProbeFailure | None = None
    answers: list[Answer] = Field(default_factory=list)
    base_answers: list[Answer] | None = None
    held_out: list[RowLoss] = Field(default_factory=list)
    base_held_out: list[RowLoss] | None = None
    refused: list[str] = Field(default_factory=list)
    """What the chat template says of the held-out rows that it cannot write."""

    reference: list[WireFloat] = Field(default_factory=list)
    """Nats, token by token."""
    base_reference: list[WireFloat] = Field(default_factory=list)
    """The same of an adapter's base model."""
    reference_in_4_bits: bool = False
    """Whether both are of the base model stored as the trainer had it."""
    is_quantized: bool = False
    is_in_32_bits: bool = False
    """Whether the tuned model computes so here."""
    scores: list[Score] = Field(default_factory=list)
    base_scores: list[Score] | None = None
    scores_problem: str = ""
    """Why the tasks were not run."""
    largest_logit_difference: float | None = None
    computes: str = ""
    """By which setting of config.json a whole model computes otherwise than its base;"""
    generates: str = ""
    """and the same of how its answers are made."""
    device: str = ""
    seconds: float = 0.0
    answering_seconds: float = 0.0
    """Of these; in the others the libraries and the models were loaded."""
