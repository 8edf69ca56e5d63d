"""aim_profile: the file that a serving stack sizes itself by says what it must, and the truth."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.monitoring.training_info import TrainingInfo
from finetuning.monitoring.validators.checks.base_model import base_folder
from finetuning.monitoring.validators.checks.serving import (
    MOST_GPUS,
    cache_bytes_per_token,
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
_MOST_PER_WEIGHT, _RUNTIME_GB, _TEXTS_AT_ONCE = 20.0, 4.0, 16
"""Beside the weights a server takes its own buffers, and the cache of some texts of full length."""

_SMALL_GB = 64.0
"""Where the model does not tell what a token takes: a long context may take this much."""

_MOST_PARTITION, _LARGE_GPU_GB = 16, 512
_STRETCHED, _LONGEST = 8, 100_000_000
"""Position encodings can be stretched; no model reads as much as the second."""

_ADAPTER_SETTINGS = ("r", "lora_alpha", "use_rslora", "use_dora")
_RESULTS = ("train_loss", "final_loss", "eval_loss", "global_step")
_MORE_RESULTS = ("best_eval_loss", "train_runtime", "epoch", "total_steps", "tokens_total")
_COUNT = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s?([KMBTkmbt]?)")
_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_COUNTED_OTHERWISE = 1.5
"""Names of models are rounded, and embeddings are counted once, twice or not at all."""

_SUM_TOLERANCE = 0.02


@dataclass(frozen=True)
class Facts:
    """The profile and what else is known of the run; None is unknown."""

    profile: Mapping[str, Any]
    model_ids: tuple[str, ...]
    """All that may be the base model's name; empty where it is not known."""
    method: str | None
    weights: tuple[Tensor, ...]
    """Of the result, without those of a base model."""
    base_weights: tuple[Tensor, ...] | None
    """None where the result is an adapter whose base model is not at hand."""
    adapter: Mapping[str, Any] = field(default_factory=dict)
    """adapter_config.json of the result; empty for a whole model."""
    results: Mapping[str, Any] = field(default_factory=dict)
    """What training_info.json tells of the run's end."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """config.json of the base model, or of the whole one."""
    trained: Mapping[str, Any] = field(default_factory=dict)
    """The run's settings; empty where the profile is not the trainer's own."""

    @property
    def positions(self) -> int | None:
        """The longest text, in tokens, that the model was made for."""
        found = self.config.get("max_position_embeddings")
        return found if is_count(found) else None

    @property
    def cache_gb(self) -> float | None:
        """What texts of full length take beside the weights; None where it is unknown."""
        each = cache_bytes_per_token(self.config)
        length = max(self.profile.get("context_tokens") or 0, self.positions or 0)
        return None if each is None or not length else _TEXTS_AT_ONCE * each * length / 2**30

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
        _names(subject),
        subject.settings.method or (info.method if info else None),
        _tensors(folder, links=False),
        (_tensors(base, links=True) or None) if config else (),
        config,
        info.results.model_dump(exclude_none=True) if info else {},
        _object(base or folder, "config.json", links=base is not None),
        _trained(info),
    )


def _names(subject: Subject) -> tuple[str, ...]:
    told = subject.settings.model_id
    if told is None:
        return (subject.info.model_id,) if subject.info and subject.info.model_id else ()
    # A run names a folder by a path that holds from anywhere.
    return (told, str(Path(told).resolve())) if Path(told).is_dir() else (told,)


def _adapter_config(folder: Path | None) -> Mapping[str, Any]:
    return _object(folder, "adapter_config.json")


def _trained(info: TrainingInfo | None) -> Mapping[str, Any]:
    """The trainer says where it ran; whoever writes a description by hand does not."""
    return {"model_id": info.model_id, **info.training_config} if info and info.environment else {}


def _object(folder: Path | None, name: str, *, links: bool = False) -> Mapping[str, Any]:
    path = folder / name if folder else None
    try:
        found = read_json(path.resolve() if links else path) if path else None
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


def optional_field_has_another_type(facts: Facts) -> Finding | None:
    """Fields that a profile need not have, those of a native AIM profile among them."""
    for name, (is_right, wanted) in _OPTIONAL.items():
        value = _at(facts.profile, name)
        if value is not None and not is_right(value):
            # What an object holds may be a credential.
            told = "" if is_object(value) else f" is {value!r}"
            return Finding("WrongType", f"AIM profile: {name}{told}; {wanted} is needed")
    return None


def result_is_no_number(facts: Facts) -> Finding | None:
    for name in (*_RESULTS, *_MORE_RESULTS):
        value = _at(facts.profile, f"training_info.{name}")
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


def name_is_another(facts: Facts) -> Finding | None:
    """The trainer's own profile: named after the base model."""
    base = facts.trained.get("model_id")
    return _disagreement(
        "model_id", facts.profile["model_id"], f"{base}-finetuned" if base else None
    )


def quantization_is_another(facts: Facts) -> Finding | None:
    told = facts.profile.get("quantization_info")
    if not facts.trained or facts.method is None:
        return None
    if bool(told) != (facts.method == "qlora"):
        return _disagreement("quantization_info", "there" if told else "absent", facts.method)
    for name, value in (told or {}).items():
        if found := _disagreement(f"quantization_info.{name}", value, facts.trained.get(name)):
            return found
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
    cache = facts.cache_gb
    beside = _SMALL_GB if cache is None else _RUNTIME_GB + cache
    most = _MOST_PER_WEIGHT * facts.weights_gb + beside
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
    told, known = facts.profile["base_model_id"], facts.model_ids
    return _disagreement("base_model_id", told, told if told in known else next(iter(known), None))


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
        if is_number(told) and known is not None and not math.isclose(told, known, rel_tol=1e-3):
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
    """By the type that most bytes of the base model, or of the whole one, are stored in.

    A profile by hand may mean to round the weights when they are served; the trainer's does not.
    """
    sizes: Counter[str] = Counter()
    for tensor in facts.weights if facts.base_weights == () else facts.base_weights or ():
        sizes[tensor.dtype] += tensor.size
    stored = _STORED.get(sizes.most_common(1)[0][0]) if sizes else None
    told = facts.profile.get("precision", "auto")
    text = f"AIM profile: precision is {told!r}, the weights are stored as {stored}"
    if stored is None or told == stored:
        return _metadata_disagrees(told, facts.profile)
    by_hand = not facts.trained and (told == "auto" or _BITS[told] < _BITS["fp16"])
    is_adapter = facts.base_weights != () and not facts.trained
    return None if by_hand or is_adapter else Finding("PrecisionMismatch", text)


def _metadata_disagrees(told: str, profile: Mapping[str, Any]) -> Finding | None:
    other = _at(profile, "metadata.precision")
    text = f"AIM profile: precision is {told!r}, metadata.precision {other!r}"
    return None if other in (None, told) or told == "auto" else Finding("PrecisionMismatch", text)


def memory_is_unchecked(facts: Facts) -> Finding | None:
    if facts.base_weights is not None and facts.weights:
        return None
    return Finding("MemoryUnchecked", f"{MEMORY_REQUIRED} was not held against the base's weights")


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
    optional_field_has_another_type,
    result_is_no_number,
    serving_is_unsafe,
    partition_is_too_small,
    partition_is_too_large,
    context_is_too_long,
    memory_is_below_the_weights,
    memory_is_far_above_the_weights,
    memory_is_not_its_parts,
    model_is_another,
    method_is_another,
    name_is_another,
    quantization_is_another,
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
