"""Whether a profile's sizes fit each other, the model and the GPUs."""

from finetuning.monitoring.validators.checks.profile_facts import (
    MEMORY_OPTIONAL,
    MEMORY_REQUIRED,
    Facts,
    value_at,
)
from finetuning.monitoring.validators.checks.profile_fields import BREAKDOWN
from finetuning.monitoring.validators.checks.serving import argument, gpus_of
from finetuning.monitoring.validators.outcome import Finding, Rule

_MOST_PER_WEIGHT, _RUNTIME_GB = 20.0, 4.0
"""Beside the weights a server takes its own buffers, and the cache of some texts of full length."""

_SMALL_GB = 64.0
"""Where the model does not tell what a token takes: a long context may take this much."""

_MOST_PARTITION, _LARGE_GPU_GB = 16, 512
_STRETCHED, _LONGEST = 8, 100_000_000
"""Position encodings can be stretched; no model reads as much as the second."""

_SUM_TOLERANCE = 0.02


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
    most = _LONGEST if facts.positions is None else _STRETCHED * facts.positions
    told = {
        "context_tokens": facts.profile.get("context_tokens"),
        "engine_args.max-model-len": argument(facts.profile, "max-model-len"),
    }
    for name, context in told.items():
        if context is not None and context > most:
            text = f"AIM profile: {name} is {context}; up to {most} is plausible for the model"
            return Finding("ContextImplausible", text, numbers={"context": context, "most": most})
    return None


def gpus_do_not_divide(facts: Facts) -> Finding | None:
    """Several servers may share the GPUs; none can have a part of one, or more than there are."""
    told, count = gpus_of(facts.profile), value_at(facts.profile, "metadata.gpu_count")
    if count is None or count % told == 0:
        return None
    text = f"AIM profile: engine_args divide the model over {told} GPUs, metadata.gpu_count is"
    return Finding("GpusMismatch", f"{text} {count}", numbers={"gpus": told, "gpuCount": count})


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


def memory_is_unchecked(facts: Facts) -> Finding | None:
    if facts.base_weights is not None and facts.weights:
        return None
    return Finding("MemoryUnchecked", f"{MEMORY_REQUIRED} was not held against the base's weights")


RULES: tuple[Rule[Facts], ...] = (
    partition_is_too_small,
    partition_is_too_large,
    context_is_too_long,
    gpus_do_not_divide,
    memory_is_below_the_weights,
    memory_is_far_above_the_weights,
    memory_is_not_its_parts,
)
WARNINGS: tuple[Rule[Facts], ...] = (memory_is_unchecked,)
