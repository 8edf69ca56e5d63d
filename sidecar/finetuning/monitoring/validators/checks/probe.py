"""What the check of the model's output and the process that loads the model say to each other."""

from pydantic import BaseModel, ConfigDict, Field


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class ProbeRequest(_Message):
    """What to load and what to ask it; `base` is a folder or, when it is none, a Hub id."""

    model_path: str
    is_adapter: bool
    base: str | None = None
    base_is_local: bool = True
    revision: str | None = None
    prompts: list[str]
    max_new_tokens: int = 96
    parent: int | None = None
    """Process id of whoever asks; without it nobody wants the answer."""


class Answer(_Message):
    """What a model generated for one prompt, without the prompt."""

    text: str
    tokens: list[int]
    finite: bool = Field(description="Whether every logit on the way was a finite number.")


class ProbeFailure(_Message):
    """Why there is no answer."""

    stage: str
    """base, model, adapter, tokenizer or generation."""

    message: str
    out_of_memory: bool = False


class ProbeReport(_Message):
    """The child's whole answer; what could not be compared stays None."""

    failure: ProbeFailure | None = None
    answers: list[Answer] = Field(default_factory=list)
    base_answers: list[Answer] | None = None
    largest_logit_difference: float | None = None
    adapter_is_zero: bool | None = None
    device: str = ""
    seconds: float = 0.0
