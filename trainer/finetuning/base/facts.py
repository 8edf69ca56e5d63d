"""What makes a run the same run: compared before anything is resumed or called finished."""

from typing import Any

from finetuning.api.hyperparameters import Hyperparameters, LoraConfig, Method
from finetuning.api.run_config import RunConfig
from finetuning.artifacts.trainer_state import BINDING
from finetuning.base.hub import base_name

Facts = dict[str, Any]

PER_STEP = ("batch_size", "gradient_accumulation_steps", "processes")
"""Together the rows of a step: another split of as many rows is the same run. They bind as
`BINDING` does; the rest (rates, lengths, intervals) may be changed on the way."""

COSMETIC = (
    "fsdp",
    "logging_steps",
    "save_steps",
    "save_total_limit",
    "eval_steps",
    "report_to",
    "sample_generations",
    "sample_max_new_tokens",
    "torch_compile",
)
"""Settings that leave the trained weights as they are."""

_DEFAULTS: Facts = (
    Hyperparameters().model_dump(mode="json")
    | LoraConfig().model_dump(mode="json")
    | {"processes": 1}
)


def facts_of(
    config: RunConfig, dataset_sha256: str, eval_sha256: str | None = None, processes: int = 1
) -> Facts:
    """Every setting that shapes the result, flat and in the flags' words."""
    facts: Facts = {
        "model_id": base_name(config),
        "revision": config.revision,
        "method": config.method.value,
        "dataset_sha256": dataset_sha256,
        "eval_split": config.dataset.eval_split,
        "eval_sha256": eval_sha256,
    }
    facts |= config.hyperparameters.model_dump(mode="json", exclude={"lora_rank", "lora_alpha"})
    if config.method is not Method.FULL:
        lora = config.lora_config.model_dump(mode="json")
        facts |= {"lora_rank": lora.pop("r"), **lora}
    if config.method is Method.QLORA:
        facts |= config.quantization_config.model_dump(mode="json")
    if processes > 1:
        facts["processes"] = processes
    return facts


def binding_differences(before: Facts, now: Facts) -> list[str]:
    """What forbids to continue a checkpoint of `before`."""
    return _changes(before, now, (*BINDING, *PER_STEP))


def differences(before: Facts, now: Facts) -> list[str]:
    """What makes it another run with another result."""
    cosmetic = {*COSMETIC} - ({"eval_steps"} if _hangs_on_evaluations(now) else set())
    names = sorted({*before, *now} - cosmetic)
    return _changes(before, now, tuple(names))


def _hangs_on_evaluations(facts: Facts) -> bool:
    """Whether they decide which weights are the result."""
    stops_early = facts.get("early_stopping_patience") is not None
    return stops_early or bool(facts.get("load_best_model_at_end"))


def _changes(before: Facts, now: Facts, names: tuple[str, ...]) -> list[str]:
    """A setting that an earlier version did not write down had its default there."""
    same = _rows_per_step(before) == _rows_per_step(now)
    idle = ("fp16",) if before.get("bf16") and now.get("bf16") else ()  # bf16 wins over it.
    pairs = [
        (name, *(facts.get(name, _DEFAULTS.get(name)) for facts in (before, now)))
        for name in names
        if not (same and name in PER_STEP) and name not in idle
    ]
    return [f"{name}: {was} → {is_now}" for name, was, is_now in pairs if was != is_now]


def _rows_per_step(facts: Facts) -> int:
    batch, accumulated, processes = (int(facts.get(n) or _DEFAULTS[n]) for n in PER_STEP)
    return batch * accumulated * processes
