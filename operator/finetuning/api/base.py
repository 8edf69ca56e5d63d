"""What every API model shares: camelCase on the wire, no unknown fields, rules in two languages."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from typing_extensions import override

CEL_RULES = "x-kubernetes-validations"

_AS_ADMITTED: ContextVar[bool] = ContextVar("as_admitted", default=False)


@contextmanager
def as_admitted() -> Iterator[None]:
    """Ask no rules: an earlier version may have had others, and what it let in has begun."""
    token = _AS_ADMITTED.set(True)
    try:
        yield
    finally:
        _AS_ADMITTED.reset(token)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule in two languages, CEL for the API server and Python for local runs, one message.

    In `Annotated[...]` it judges a field's value; in a model's RULES the whole model.
    """

    cel: str
    holds: Callable[[Any], bool]
    message: str
    field: str = ""
    """The field that the API server names in its answer, for a rule on a whole model."""

    @classmethod
    def matching(cls, pattern: str, message: str, never: str = "") -> Self:
        """The whole text must match; keep to what RE2 and Python's `re` read alike."""
        fits = re.compile(pattern).fullmatch
        cel = f"self.matches(r'^({pattern})$')"
        if not never:
            return cls(cel, lambda text: fits(text) is not None, message)
        return cls(
            f"{cel} && !self.contains('{never}')",
            lambda text: fits(text) is not None and never not in text,
            message,
        )

    def check(self, value: Any) -> Any:
        if not (_AS_ADMITTED.get() or self.holds(value)):
            raise ValueError(self.message)
        return value

    def as_cel(self) -> dict[str, str]:
        rule = {"rule": self.cel, "message": self.message}
        return rule | ({"fieldPath": f".{self.field}"} if self.field else {})

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core)
        return schema | {CEL_RULES: [*schema.get(CEL_RULES, []), self.as_cel()]}


class ApiModel(BaseModel):
    """A part of the FineTuningJob; accepts both spellings, so `--config` files may use either."""

    RULES: ClassVar[tuple[Rule, ...]] = ()
    """What must hold between the fields; the API server checks it as well."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        allow_inf_nan=False,
        use_enum_values=False,
        defer_build=True,  # `--help` and the like read the fields and validate nothing.
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """`epochs:` with nothing behind it means the default, as it does for the API server."""
        if isinstance(data, dict) and None in data.values():
            return {name: value for name, value in data.items() if value is not None}
        return data

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        for rule in self.RULES:
            rule.check(self)
        return self

    @classmethod
    @override
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core)
        if cls.RULES:
            handler.resolve_ref_schema(schema)[CEL_RULES] = [rule.as_cel() for rule in cls.RULES]
        return schema
