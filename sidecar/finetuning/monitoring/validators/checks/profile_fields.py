"""Fields of a profile, each for itself: there, of its type, in its range, and safe to take over."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from finetuning.monitoring.validators.checks.profile_facts import (
    MEMORY_OPTIONAL,
    MEMORY_REQUIRED,
    REQUIRED_TEXT,
    RESULTS,
    Facts,
    value_at,
)
from finetuning.monitoring.validators.checks.serving import (
    MOST_GPUS,
    unsafe_argument,
    unsafe_variable,
)
from finetuning.monitoring.validators.checks.values import (
    are_amounts,
    are_settings,
    is_amount,
    is_count,
    is_number,
    is_object,
    is_text,
)
from finetuning.monitoring.validators.outcome import Finding, Rule

PRECISIONS = ("auto", "fp4", "fp8", "fp16", "fp32", "bf16", "int4", "int8")
BREAKDOWN = "memory_breakdown_gb"
_MORE_RESULTS = ("best_eval_loss", "train_runtime", "epoch", "total_steps", "tokens_total")


def field_is_missing(facts: Facts) -> Finding | None:
    missing = [name for name in (*REQUIRED_TEXT, MEMORY_REQUIRED) if name not in facts.profile]
    if not missing:
        return None
    return Finding("FieldMissing", f"AIM profile lacks {', '.join(missing)}")


def text_is_no_text(facts: Facts) -> Finding | None:
    for name in REQUIRED_TEXT:
        value = facts.profile[name]
        if not isinstance(value, str) or not value.strip():
            return Finding("WrongType", f"AIM profile: {name} is {value!r}; a text is needed")
    return None


def memory_is_no_amount(facts: Facts) -> Finding | None:
    for name in (MEMORY_REQUIRED, MEMORY_OPTIONAL):
        if name in facts.profile and not is_amount(facts.profile[name]):
            value = facts.profile[name]
            return Finding(
                "MemoryInvalid", f"AIM profile: {name} is {value!r}; a number above 0 is needed"
            )
    return None


def precision_is_unknown(facts: Facts) -> Finding | None:
    precision = facts.profile.get("precision", "auto")
    if precision in PRECISIONS:
        return None
    allowed = ", ".join(PRECISIONS)
    return Finding("PrecisionUnknown", f"AIM profile: precision is {precision!r}; one of {allowed}")


def number_is_none_of_json(facts: Facts) -> Finding | None:
    """Python reads NaN and Infinity, and what is too large as the latter; other readers do not."""
    found = next(_no_numbers(dict(facts.profile)), None)
    if found is None:
        return None
    text = f"AIM profile: {found[0]} is {found[1]}, which is no number in JSON"
    return Finding("WrongType", f"{text}; give one, or leave the field out")


def _no_numbers(profile: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Dotted paths of them, whatever they lie in."""
    waiting: list[tuple[str, Any]] = [("", profile)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            yield path.lstrip(".")[:200], value
        elif isinstance(value, dict):
            waiting += ((f"{path}.{name}", each) for name, each in value.items())
        elif isinstance(value, list):
            waiting += ((f"{path}[{n}]", each) for n, each in enumerate(value))


def optional_field_has_another_type(facts: Facts) -> Finding | None:
    """Fields that a profile need not have, those of a native AIM profile among them."""
    for name, (is_right, wanted) in _OPTIONAL.items():
        value = value_at(facts.profile, name)
        if value is not None and not is_right(value):
            # What an object holds may be a credential.
            told = "" if is_object(value) else f" is {value!r}"
            return Finding("WrongType", f"AIM profile: {name}{told}; {wanted} is needed")
    return None


def result_is_no_number(facts: Facts) -> Finding | None:
    for name in (*RESULTS, *_MORE_RESULTS):
        value = value_at(facts.profile, f"training_info.{name}")
        if value is not None and not is_number(value):
            text = f"AIM profile: training_info.{name} is {value!r}; a number is needed"
            return Finding("WrongType", text)
    return None


def serving_is_unsafe(facts: Facts) -> Finding | None:
    if problem := unsafe_argument(facts.profile.get("engine_args") or {}):
        return Finding("ServingUnsafe", f"AIM profile: engine_args: {problem}")
    name = unsafe_variable(facts.profile.get("env_vars") or {})
    text = f"AIM profile: env_vars: {name} is not for a profile to set"
    return Finding("ServingUnsafe", text) if name else None


_OPTIONAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "profile_name": (is_text, "a text"),
    "parameters": (lambda value: is_text(value) or is_count(value), "a text or a whole number"),
    "context_tokens": (is_count, "a whole number above 0"),
    BREAKDOWN: (are_amounts, "an object of numbers"),
    "lora_config": (is_object, "an object"),
    "lora_config.r": (is_count, "a whole number above 0"),
    "quantization_info": (is_object, "an object"),
    "training_info": (is_object, "an object"),
    "engine_args": (is_object, "an object"),
    "env_vars": (are_settings, "an object of texts"),
    "metadata": (is_object, "an object"),
    "metadata.engine": (is_text, "a text"),
    "metadata.gpu": (is_text, "a text"),
    "metadata.gpu_count": (lambda n: is_count(n) and n <= MOST_GPUS, "1 to 1024, a whole number"),
    "metadata.metric": (is_text, "a text"),
    "metadata.precision": (lambda value: value in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    "metadata.type": (is_text, "a text"),
}
"""Those of `metadata`, `engine_args` and `env_vars` are a native AIM runtime profile's."""

RULES: tuple[Rule[Facts], ...] = (
    field_is_missing,
    text_is_no_text,
    memory_is_no_amount,
    precision_is_unknown,
    number_is_none_of_json,
    optional_field_has_another_type,
    result_is_no_number,
    serving_is_unsafe,
)
