"""Whether a profile is of the run that it lies beside, and of the model that came of it."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from finetuning.monitoring.validators.checks.profile_facts import (
    BITS,
    RESULTS,
    STORED_BITS,
    Facts,
    value_at,
)
from finetuning.monitoring.validators.checks.serving import argument
from finetuning.monitoring.validators.checks.values import is_number
from finetuning.monitoring.validators.outcome import Finding, Rule

_STORED = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
_ADAPTER_SETTINGS = ("r", "lora_alpha", "use_rslora", "use_dora")
_ADAPTERS = ("lora", "qlora")
_LORA_SETTINGS = ("lora_alpha", "target_modules")
"""As the run was asked for them: an adapter's own file has `all-linear` by the layers' names."""

_PLACE = re.compile(r"[/.~]|\w+://")
"""A folder, or an address of one."""

_PLAIN = re.compile(r"[^a-z0-9]|finetuned$")

_COUNT = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s?([KMBTkmbt]?)")
_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_COUNTED_OTHERWISE = 1.5
"""Names of models are rounded, and embeddings are counted once, twice or not at all."""


def model_is_another(facts: Facts) -> Finding | None:
    told, known = facts.profile["base_model_id"], facts.model_ids
    return _disagreement("base_model_id", told, told if told in known else next(iter(known), None))


def method_is_another(facts: Facts) -> Finding | None:
    return _disagreement("fine_tuning_method", facts.profile["fine_tuning_method"], facts.method)


def name_is_another(facts: Facts) -> Finding | None:
    """The trainer's own profile: named after the base model."""
    base = facts.trained.get("model_id")
    return _disagreement(
        "model_id", facts.profile["model_id"], f"{base}-finetuned" if base else None
    )


def served_model_is_another(facts: Facts) -> Finding | None:
    """A place is where whoever serves the model has put it; a name is that of a model."""
    told, own = argument(facts.profile, "model"), facts.profile["model_id"]
    base = facts.profile["base_model_id"]
    is_base, is_whole = told == base, facts.base_weights == ()
    if told is None or (is_base and not is_whole):
        return None
    known = (own, base, *facts.model_ids)
    if not is_base and (_PLACE.match(str(told)) or any(_may_be(told, each) for each in known)):
        return None
    what = "the base model, untuned" if is_base else "none that this profile is of"
    text = f"AIM profile: engine_args.model is {told!r}, {what}; leave it out, or give {own!r}"
    return Finding("RunMismatch", text)


def _may_be(told: Any, known: str) -> bool:
    """A model in a folder may have a longer or shorter name elsewhere."""
    if told == known or not _PLACE.match(known):
        return bool(told == known)
    one, other = (_PLAIN.sub("", str(each).rpartition("/")[2].lower()) for each in (told, known))
    return bool(one and other) and (one in other or other in one)


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


def adapter_is_another(facts: Facts) -> Finding | None:
    for name in _ADAPTER_SETTINGS:
        told = value_at(facts.profile, f"lora_config.{name}")
        found = _disagreement(f"lora_config.{name}", told, facts.adapter.get(name))
        if told is not None and found:
            return found
    return None


def lora_is_another(facts: Facts) -> Finding | None:
    """The trainer's own profile has the settings of the run, and nothing of a whole model's."""
    told = facts.profile.get("lora_config")
    if not facts.trained or facts.method is None:
        return None
    if bool(told) != (facts.method in _ADAPTERS):
        return _disagreement("lora_config", "there" if told else "absent", facts.method)
    for name in _LORA_SETTINGS if told else ():
        if found := _disagreement(
            f"lora_config.{name}", (told or {}).get(name), facts.trained.get(name)
        ):
            return found
    return None


def results_are_others(facts: Facts) -> Finding | None:
    for name in RESULTS:
        told, known = value_at(facts.profile, f"training_info.{name}"), facts.results.get(name)
        if is_number(told) and known is not None and not math.isclose(told, known, rel_tol=1e-3):
            return _disagreement(f"training_info.{name}", told, known)
    return None


def size_is_another(facts: Facts) -> Finding | None:
    """By the weights of the base model, or of the whole one; packed ones cannot be counted."""
    tensors = facts.weights if facts.base_weights == () else facts.base_weights or ()
    told = _parameters(facts.profile.get("parameters"))
    if told is None or not tensors or {t.dtype for t in tensors} - STORED_BITS.keys():
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
    by_hand = not facts.trained and (told == "auto" or BITS[told] < BITS["fp16"])
    is_adapter = facts.base_weights != () and not facts.trained
    return None if by_hand or is_adapter else Finding("PrecisionMismatch", text)


def _metadata_disagrees(told: str, profile: Mapping[str, Any]) -> Finding | None:
    other = value_at(profile, "metadata.precision")
    text = f"AIM profile: precision is {told!r}, metadata.precision {other!r}"
    return None if other in (None, told) or told == "auto" else Finding("PrecisionMismatch", text)


RULES: tuple[Rule[Facts], ...] = (
    model_is_another,
    method_is_another,
    name_is_another,
    served_model_is_another,
    quantization_is_another,
    lora_is_another,
    adapter_is_another,
    results_are_others,
    size_is_another,
    precision_is_another,
)
