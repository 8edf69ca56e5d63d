"""aim_profile.json: what serving the result takes, estimated from the model itself."""

import math
from dataclasses import dataclass
from typing import Any

from finetuning.api.hyperparameters import Method
from finetuning.api.run_config import RunConfig

GIGABYTE = 1e9
WORKSPACE_SHARE = 0.1
"""Activations and the runtime's own buffers, as a share of the weights."""

PARTITION_FACTOR = 1.25
MINIMUM_GB = 0.01
AUTO = "auto-generate"
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
_UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "K"))


@dataclass(frozen=True)
class ModelShape:
    """The sizes that the estimate goes by."""

    parameters: int
    adapter_parameters: int
    precision: str
    """Of the saved base weights: fp32, fp16 or bf16."""
    kv_bytes_per_token: int
    context_tokens: int
    """The longest text that it was trained on."""


def aim_profile(
    config: RunConfig, base: str, shape: ModelShape, training_info: dict[str, Any]
) -> dict[str, Any]:
    """The profile of a result that names its base model `base`."""
    weights = (shape.parameters + shape.adapter_parameters) * BYTES[shape.precision]
    cache = shape.kv_bytes_per_token * shape.context_tokens
    parts = {"weights": weights, "kv_cache": cache, "workspace": weights * WORKSPACE_SHARE}
    memory = max(MINIMUM_GB, _gigabytes(sum(parts.values())))
    profile: dict[str, Any] = {
        "profile_name": _name(config, base, shape.precision),
        "model_id": f"{base}-finetuned",
        "base_model_id": base,
        "fine_tuning_method": config.method.value,
        "precision": shape.precision,
        "memory_gb": memory,
        "recommended_partition_gb": round(memory * PARTITION_FACTOR, 4),
        "memory_breakdown_gb": {name: _gigabytes(size) for name, size in parts.items()},
        "context_tokens": shape.context_tokens,
        "parameters": readable_count(shape.parameters),
    }
    if config.method is not Method.FULL:
        profile["lora_config"] = config.lora_config.model_dump(mode="json")
    if config.method is Method.QLORA:
        profile["quantization_info"] = config.quantization_config.model_dump(mode="json")
    return profile | {"training_info": training_info}


def readable_count(number: int) -> str:
    """7615616512 is 7.6B."""
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def kv_bytes_per_token(model_config: Any, precision: str) -> int:
    """Keys and values of all layers for one token; 0 for architectures that do not tell."""
    settings = model_config.to_dict()
    heads = settings.get("num_attention_heads") or 0
    kv_heads = settings.get("num_key_value_heads") or heads
    size = settings.get("head_dim") or (settings.get("hidden_size", 0) // heads if heads else 0)
    return 2 * (settings.get("num_hidden_layers") or 0) * kv_heads * size * BYTES[precision]


def _gigabytes(size: float) -> float:
    return math.ceil(size / GIGABYTE * 1e4) / 1e4


def _name(config: RunConfig, base: str, precision: str) -> str:
    if config.profile != AUTO:
        return config.profile
    model = base.rstrip("/").rsplit("/", maxsplit=1)[-1]
    return f"{model}-{config.method}-{precision}".lower()
