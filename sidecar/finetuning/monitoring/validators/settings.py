"""How strict the validation is and what it asks the model; the operator passes it as JSON."""

import os
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from finetuning.api.v1alpha1 import ValidationPrompt

CONFIG_ENV = "FINETUNING_VALIDATION_CONFIG"
DEFAULT_PROMPT = "Tell me in one sentence what you can do."


class ValidationSettings(BaseModel):
    """The defaults are those of a person at a command line; a cluster requires everything."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", protected_namespaces=()
    )

    require_all: bool = False
    """Whether model_output counts even where no model can be loaded."""

    base_model_path: str | None = None
    max_loss: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    prompts: list[ValidationPrompt] = Field(default_factory=list, max_length=32)
    model_id: str | None = None
    """What the profile must name as its base; training_info's word counts when absent."""

    method: str | None = None

    @property
    def questions(self) -> list[ValidationPrompt]:
        return self.prompts or [ValidationPrompt(prompt=DEFAULT_PROMPT)]

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
            raise ValueError(f"${CONFIG_ENV}: {field}: {first['msg']}") from error
