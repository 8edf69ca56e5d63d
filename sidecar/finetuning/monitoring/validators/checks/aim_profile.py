"""aim_profile: the file that a serving stack sizes itself by says what it must, and the truth."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.monitoring.validators.outcome import (
    CheckOutcome,
    Finding,
    Passed,
    first_finding,
    outcome,
)
from finetuning.monitoring.validators.subject import Subject

NAME = "aim_profile"
PRECISIONS = ("auto", "fp4", "fp8", "fp16", "fp32", "bf16", "int4", "int8")
REQUIRED_TEXT = ("model_id", "base_model_id", "fine_tuning_method")
MEMORY_REQUIRED = "memory_gb"
MEMORY_OPTIONAL = "recommended_partition_gb"


@dataclass(frozen=True)
class Facts:
    """The profile and what else is known of the run; None is unknown."""

    profile: Mapping[str, Any]
    model_id: str | None
    method: str | None
    weights_bytes: int


def check(subject: Subject) -> CheckOutcome:
    """Read the profile and hold it against the rest of the run."""
    if subject.profile_path is None:
        return outcome(NAME, Finding("ProfileMissing", "no profile was given"))
    try:
        profile = read_json(subject.profile_path)
    except UnreadableFileError as error:
        return outcome(NAME, Finding("ProfileUnreadable", str(error)))
    if not isinstance(profile, dict):
        return outcome(
            NAME, Finding("ProfileUnreadable", f"{subject.profile_path}: no JSON object")
        )
    verdict = first_finding(RULES, _facts(profile, subject)) or Passed("AIM profile is valid")
    return outcome(NAME, verdict, details=_details(profile))


def _facts(profile: Mapping[str, Any], subject: Subject) -> Facts:
    info = subject.info
    folder = subject.model_path
    weights = folder.glob("*.safetensors") if folder and folder.is_dir() else ()
    return Facts(
        profile,
        subject.settings.model_id or (info.model_id if info else None),
        subject.settings.method or (info.method if info else None),
        sum(path.lstat().st_size for path in weights),
    )


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
        if name in facts.profile and not _is_amount(facts.profile[name]):
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


def partition_is_too_small(facts: Facts) -> Finding | None:
    memory = facts.profile[MEMORY_REQUIRED]
    partition = facts.profile.get(MEMORY_OPTIONAL, memory)
    if partition >= memory:
        return None
    return Finding(
        "MemoryInvalid", f"AIM profile: {MEMORY_OPTIONAL} {partition} is below the {memory} needed"
    )


def memory_is_below_the_weights(facts: Facts) -> Finding | None:
    # 2^30 and not 10^9: whichever of the two the profile means, this is the milder reading.
    weights = facts.weights_bytes / 2**30
    if facts.profile[MEMORY_REQUIRED] >= weights:
        return None
    return Finding(
        "MemoryInvalid",
        f"AIM profile: {MEMORY_REQUIRED} is {facts.profile[MEMORY_REQUIRED]}, "
        f"but the weights alone take {weights:.2f}",
    )


def model_is_another(facts: Facts) -> Finding | None:
    return _disagreement("base_model_id", facts.profile["base_model_id"], facts.model_id)


def method_is_another(facts: Facts) -> Finding | None:
    return _disagreement("fine_tuning_method", facts.profile["fine_tuning_method"], facts.method)


def _disagreement(name: str, told: Any, known: str | None) -> Finding | None:
    if known is None or told == known:
        return None
    return Finding("RunMismatch", f"AIM profile: {name} is {told!r}, the run was of {known!r}")


def _is_amount(value: Any) -> bool:
    """In Python a bool is an int; in a profile it is a mistake."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value > 0 and (isinstance(value, int) or math.isfinite(value))


RULES = (
    field_is_missing,
    text_is_no_text,
    memory_is_no_amount,
    precision_is_unknown,
    partition_is_too_small,
    memory_is_below_the_weights,
    model_is_another,
    method_is_another,
)


def _details(profile: Mapping[str, Any]) -> dict[str, Any]:
    shown = (*REQUIRED_TEXT, "precision", MEMORY_REQUIRED, MEMORY_OPTIONAL)
    return {name: str(profile[name]) for name in shown if name in profile}
