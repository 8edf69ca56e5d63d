"""aim_profile: the file that a serving stack sizes itself by says what it must, and the truth."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.monitoring.validators.checks.base_model import base_folder
from finetuning.monitoring.validators.checks.weights import Tensor, read_header
from finetuning.monitoring.validators.outcome import (
    CheckOutcome,
    Finding,
    Passed,
    Rule,
    all_findings,
    first_finding,
    outcome,
)
from finetuning.monitoring.validators.subject import Subject

NAME = "aim_profile"
PRECISIONS = ("auto", "fp4", "fp8", "fp16", "fp32", "bf16", "int4", "int8")
REQUIRED_TEXT = ("model_id", "base_model_id", "fine_tuning_method")
MEMORY_REQUIRED = "memory_gb"
MEMORY_OPTIONAL = "recommended_partition_gb"
BREAKDOWN = "memory_breakdown_gb"

_BITS = {"fp4": 4, "int4": 4, "fp8": 8, "int8": 8, "fp16": 16, "bf16": 16, "fp32": 32}
_STORED = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
_STORED_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}
_MOST_PER_WEIGHT = 20.0
_SMALL_GB = 64.0
"""However small the weights, a long context may take this much beside them."""

_MOST_PARTITION, _LARGE_GPU_GB = 16, 512
_STRETCHED, _LONGEST = 8, 100_000_000
"""Position encodings can be stretched; no model reads as much as the second."""

_ADAPTER_SETTINGS = ("r", "lora_alpha", "use_rslora", "use_dora")
_RESULTS = ("train_loss", "final_loss", "eval_loss", "global_step")
_COUNT = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s?([KMBTkmbt]?)")
_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_COUNTED_OTHERWISE = 1.5
"""Names of models are rounded, and embeddings are counted once, twice or not at all."""

_SUM_TOLERANCE = 0.02
_LARGEST = 2**53


@dataclass(frozen=True)
class Facts:
    """The profile and what else is known of the run; None is unknown."""

    profile: Mapping[str, Any]
    model_id: str | None
    method: str | None
    weights: tuple[Tensor, ...]
    """Of the result, without those of a base model."""
    base_weights: tuple[Tensor, ...] | None
    """None where the result is an adapter whose base model is not at hand."""
    adapter: Mapping[str, Any] = field(default_factory=dict)
    """adapter_config.json of the result; empty for a whole model."""
    results: Mapping[str, Any] = field(default_factory=dict)
    """What training_info.json tells of the run's end."""
    positions: int | None = None
    """The longest text, in tokens, that the model was made for."""

    @property
    def weights_gb(self) -> float:
        """What the weights take in the profile's precision, 2^30 bytes each.

        2^30 and not 10^9: whichever of the two the profile means, this is the milder reading.
        """
        bits = _BITS.get(self.profile.get("precision", "auto"))
        both = (*self.weights, *(self.base_weights or ()))
        return sum(_bytes_in(tensor, bits) for tensor in both) / 2**30


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
    facts = gather(profile, subject)
    finding = first_finding(RULES, facts)
    warnings = [] if finding else all_findings(WARNINGS, facts)
    verdict = finding or Passed("AIM profile is valid")
    return outcome(NAME, verdict, details=_details(facts), warnings=warnings)


def gather(profile: Mapping[str, Any], subject: Subject) -> Facts:
    info, folder = subject.info, subject.model_path
    config = _adapter_config(folder)
    base = base_folder(subject) if config else None
    return Facts(
        profile,
        subject.settings.model_id or (info.model_id if info else None),
        subject.settings.method or (info.method if info else None),
        _tensors(folder, links=False),
        (_tensors(base, links=True) or None) if config else (),
        config,
        info.results.model_dump(exclude_none=True) if info else {},
        _positions(base or folder),
    )


def _adapter_config(folder: Path | None) -> Mapping[str, Any]:
    return _object(folder, "adapter_config.json")


def _positions(folder: Path | None) -> int | None:
    found = _object(folder, "config.json").get("max_position_embeddings")
    return found if _is_count(found) else None


def _object(folder: Path | None, name: str) -> Mapping[str, Any]:
    try:
        found = read_json(folder / name) if folder else None
    except UnreadableFileError:
        return {}
    return found if isinstance(found, dict) else {}


def _tensors(folder: Path | None, *, links: bool) -> tuple[Tensor, ...]:
    """From the headers; a file that is none is the other check's business.

    A base model may be one of the Hub's cache, which is made of links; a result may not.
    """
    found: list[Tensor] = []
    for path in sorted(folder.glob("*.safetensors")) if folder and folder.is_dir() else ():
        try:
            found += (
                read_header(path).tensors
                if path.is_file() and (links or not path.is_symlink())
                else ()
            )
        except (ImportError, UnreadableFileError):
            continue
    return tuple(found)


def _bytes_in(tensor: Tensor, bits: int | None) -> float:
    """In the profile's precision, where it is smaller than the stored one; else as stored."""
    stored = _STORED_BITS.get(tensor.dtype)
    return tensor.size if bits is None or stored is None else tensor.size * min(bits / stored, 1)


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


def optional_field_has_another_type(facts: Facts) -> Finding | None:
    """Fields that a profile need not have, those of a native AIM profile among them."""
    for name, (is_right, wanted) in _OPTIONAL.items():
        value = _at(facts.profile, name)
        if value is not None and not is_right(value):
            return Finding("WrongType", f"AIM profile: {name} is {value!r}; {wanted} is needed")
    return None


def _at(profile: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    value: Any = profile
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def partition_is_too_small(facts: Facts) -> Finding | None:
    memory = facts.profile[MEMORY_REQUIRED]
    partition = facts.profile.get(MEMORY_OPTIONAL, memory)
    if partition >= memory:
        return None
    return Finding(
        "MemoryInvalid", f"AIM profile: {MEMORY_OPTIONAL} {partition} is below the {memory} needed"
    )


def partition_is_too_large(facts: Facts) -> Finding | None:
    """No model that fits a small part of a GPU needs a rack."""
    memory = facts.profile[MEMORY_REQUIRED]
    partition = facts.profile.get(MEMORY_OPTIONAL, memory)
    if partition <= max(_MOST_PARTITION * memory, _LARGE_GPU_GB):
        return None
    text = f"AIM profile: {MEMORY_OPTIONAL} is {partition}, {memory} are needed"
    return Finding("MemoryImplausible", text, numbers={"partition": partition, "memoryGb": memory})


def context_is_too_long(facts: Facts) -> Finding | None:
    context = facts.profile.get("context_tokens")
    most = _LONGEST if facts.positions is None else _STRETCHED * facts.positions
    if context is None or context <= most:
        return None
    text = f"AIM profile: context_tokens is {context}; up to {most} is plausible for the model"
    return Finding("ContextImplausible", text, numbers={"context": context, "most": most})


def memory_is_below_the_weights(facts: Facts) -> Finding | None:
    memory, weights = facts.profile[MEMORY_REQUIRED], facts.weights_gb
    if memory >= weights:
        return None
    return Finding(
        "MemoryInvalid",
        f"AIM profile: {MEMORY_REQUIRED} is {memory}, but the weights alone take {weights:.2f}",
        numbers={"memoryGb": memory, "weightsGb": weights},
    )


def memory_is_far_above_the_weights(facts: Facts) -> Finding | None:
    if facts.base_weights is None or not facts.weights:
        return None
    memory = facts.profile[MEMORY_REQUIRED]
    most = _MOST_PER_WEIGHT * facts.weights_gb + _SMALL_GB
    if memory <= most:
        return None
    return Finding(
        "MemoryImplausible",
        f"AIM profile: {MEMORY_REQUIRED} is {memory}, the weights take {facts.weights_gb:.2f}; "
        f"up to {most:.0f} is plausible",
        numbers={"memoryGb": memory, "weightsGb": facts.weights_gb, "mostGb": most},
    )


def memory_is_not_its_parts(facts: Facts) -> Finding | None:
    parts = facts.profile.get(BREAKDOWN)
    if not parts:
        return None
    memory, total = facts.profile[MEMORY_REQUIRED], sum(parts.values())
    # A tiny model's memory is rounded up to what a partition can be.
    if total <= memory * (1 + _SUM_TOLERANCE) and memory <= max(total * (1 + _SUM_TOLERANCE), 0.05):
        return None
    text = f"AIM profile: the parts of {BREAKDOWN} are {total:.4g} together, {MEMORY_REQUIRED} is"
    return Finding("MemoryImplausible", f"{text} {memory}", numbers={"parts": total})


def model_is_another(facts: Facts) -> Finding | None:
    return _disagreement("base_model_id", facts.profile["base_model_id"], facts.model_id)


def method_is_another(facts: Facts) -> Finding | None:
    return _disagreement("fine_tuning_method", facts.profile["fine_tuning_method"], facts.method)


def adapter_is_another(facts: Facts) -> Finding | None:
    for name in _ADAPTER_SETTINGS:
        told = _at(facts.profile, f"lora_config.{name}")
        found = _disagreement(f"lora_config.{name}", told, facts.adapter.get(name))
        if told is not None and found:
            return found
    return None


def results_are_others(facts: Facts) -> Finding | None:
    for name in _RESULTS:
        told, known = _at(facts.profile, f"training_info.{name}"), facts.results.get(name)
        if _is_number(told) and known is not None and not math.isclose(told, known, rel_tol=1e-3):
            return _disagreement(f"training_info.{name}", told, known)
    return None


def size_is_another(facts: Facts) -> Finding | None:
    """By the weights of the base model, or of the whole one; packed ones cannot be counted."""
    tensors = facts.weights if facts.base_weights == () else facts.base_weights or ()
    told = _parameters(facts.profile.get("parameters"))
    if told is None or not tensors or {t.dtype for t in tensors} - _STORED_BITS.keys():
        return None
    known = sum(math.prod(tensor.shape) for tensor in tensors)
    if known / _COUNTED_OTHERWISE <= told <= known * _COUNTED_OTHERWISE:
        return None
    return _disagreement("parameters", facts.profile["parameters"], known)


def _parameters(value: Any) -> float | None:
    """7.6B is 7600000000; None for what is no such figure."""
    match = _COUNT.fullmatch(str(value))
    return float(match[1]) * _UNITS[match[2].upper()] if match else None


def _disagreement(name: str, told: Any, known: Any) -> Finding | None:
    if known is None or told == known:
        return None
    return Finding("RunMismatch", f"AIM profile: {name} is {told!r}, the run was of {known!r}")


def precision_is_another(facts: Facts) -> Finding | None:
    """Of a whole model, by the type that most of its bytes are stored in."""
    sizes: Counter[str] = Counter()
    for tensor in facts.weights if facts.base_weights == () else ():
        sizes[tensor.dtype] += tensor.size
    stored = _STORED.get(sizes.most_common(1)[0][0]) if sizes else None
    told = facts.profile.get("precision", "auto")
    if stored is None or told in ("auto", stored) or _BITS[told] < _BITS["fp16"]:
        return None
    text = f"AIM profile: precision is {told!r}, the weights are stored as {stored}"
    return Finding("PrecisionMismatch", text)


def memory_is_unchecked(facts: Facts) -> Finding | None:
    if facts.base_weights is not None and facts.weights:
        return None
    return Finding("MemoryUnchecked", f"{MEMORY_REQUIRED} was not held against the base's weights")


def _is_amount(value: Any) -> bool:
    """In Python a bool is an int; in a profile it is a mistake."""
    return _is_number(value) and value > 0


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _LARGEST if isinstance(value, int) else math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_amount(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _are_amounts(value: Any) -> bool:
    return _is_object(value) and _all(value.values(), lambda part: _is_number(part) and part >= 0)


def _are_settings(value: Any) -> bool:
    return _is_object(value) and _all(value.values(), lambda part: isinstance(part, str))


def _all(values: Iterable[Any], is_right: Callable[[Any], bool]) -> bool:
    return all(is_right(value) for value in values)


_OPTIONAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "profile_name": (_is_text, "a text"),
    "parameters": (lambda value: _is_text(value) or _is_count(value), "a text or a whole number"),
    "context_tokens": (_is_count, "a whole number above 0"),
    BREAKDOWN: (_are_amounts, "an object of numbers"),
    "lora_config": (_is_object, "an object"),
    "lora_config.r": (_is_count, "a whole number above 0"),
    "quantization_info": (_is_object, "an object"),
    "training_info": (_is_object, "an object"),
    "engine_args": (_is_object, "an object"),
    "env_vars": (_are_settings, "an object of texts"),
    "metadata": (_is_object, "an object"),
    "metadata.engine": (_is_text, "a text"),
    "metadata.gpu": (_is_text, "a text"),
    "metadata.gpu_count": (_is_count, "a whole number above 0"),
    "metadata.metric": (_is_text, "a text"),
    "metadata.precision": (lambda value: value in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    "metadata.type": (_is_text, "a text"),
}
"""Those of `metadata`, `engine_args` and `env_vars` are a native AIM runtime profile's."""

RULES: tuple[Rule[Facts], ...] = (
    field_is_missing,
    text_is_no_text,
    memory_is_no_amount,
    precision_is_unknown,
    optional_field_has_another_type,
    partition_is_too_small,
    partition_is_too_large,
    context_is_too_long,
    memory_is_below_the_weights,
    memory_is_far_above_the_weights,
    memory_is_not_its_parts,
    model_is_another,
    method_is_another,
    adapter_is_another,
    results_are_others,
    size_is_another,
    precision_is_another,
)
WARNINGS: tuple[Rule[Facts], ...] = (memory_is_unchecked,)


def _details(facts: Facts) -> dict[str, Any]:
    shown = (*REQUIRED_TEXT, "precision", MEMORY_REQUIRED, MEMORY_OPTIONAL)
    told = {name: str(facts.profile[name])[:200] for name in shown if name in facts.profile}
    return {**told, "weightsBytes": sum(tensor.size for tensor in facts.weights)}
