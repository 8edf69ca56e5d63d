"""Whether a profile's arguments and variables for the server are such as a person would give.

Whoever takes them over starts a program with them, beside the model and with its rights.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from finetuning.monitoring.validators.checks.values import is_amount, is_count

_FORMATS = ("auto", "safetensors")
_RUN_CODE = frozenset({
    "trust-remote-code", "worker-cls", "worker-extension-cls", "middleware", "hf-token", "api-key",
    "tool-parser-plugin", "reasoning-parser-plugin", "allowed-local-media-path",
})  # fmt: skip
"""Arguments of vLLM that load code of others, open files of the machine, or are credentials."""

_SIZES = re.compile(r".*-parallel-size|max-model-len|max-num-seqs|block-size")
_DIVIDE = ("tensor", "pipeline", "data")
"""The kinds of parallelism that take GPUs of their own; others share those of these."""

MOST_GPUS = 1024
_VARIABLES = re.compile(
    r"LD_.*|PYTHON.*|PATH|.*(TOKEN|SECRET|PASSWORD|CREDENTIAL|ACCESS_KEY|API_KEY).*"
)
"""By which a program loads other code, or which are credentials."""


def unsafe_argument(arguments: Mapping[str, Any]) -> str:
    """What is wrong with the first one, without its value; empty where all are right."""
    for told, value in arguments.items():
        if problem := _argument_problem(_plain(told), value):
            return f"{told} {problem}"
    return ""


def argument(profile: Mapping[str, Any], name: str) -> Any:
    """Of a profile's `engine_args`, however its name is spelled; None where it is not given."""
    told = profile.get("engine_args") or {}
    return next((value for each, value in told.items() if _plain(each) == name), None)


def gpus_of(profile: Mapping[str, Any]) -> int:
    """Over how many GPUs `engine_args` divide and copy the model; what is not given is 1."""
    return math.prod(argument(profile, f"{kind}-parallel-size") or 1 for kind in _DIVIDE)


def _plain(name: Any) -> str:
    return str(name).lstrip("-").replace("_", "-").lower()


def _argument_problem(name: str, value: Any) -> str:
    if name in _RUN_CODE and value not in (None, False):
        return "is not for a profile to set"
    if name == "load-format" and value not in (*_FORMATS, None):
        return f"must be one of {', '.join(_FORMATS)}"
    if _SIZES.fullmatch(name) and not _is_size(name, value):
        return "must be a whole number above 0 that hardware can have"
    if name == "gpu-memory-utilization" and not _is_share(value):
        return "must be above 0 and at most 1"
    return ""


def _is_size(name: str, value: Any) -> bool:
    return is_count(value) and (value <= MOST_GPUS or not name.endswith("-parallel-size"))


def _is_share(value: Any) -> bool:
    return is_amount(value) and value <= 1


def unsafe_variable(variables: Mapping[str, Any]) -> str:
    """The first name that is not for a profile to set; empty where there is none."""
    found = (str(name) for name in variables if _VARIABLES.fullmatch(str(name).upper()))
    return next(found, "")


def cache_bytes_per_token(config: Mapping[str, Any]) -> int | None:
    """Keys and values of all layers in 32 bit, as in the trainer's estimate; None if unknown."""
    heads = config.get("num_key_value_heads") or config.get("num_attention_heads")
    sizes = [config.get("num_hidden_layers"), heads, config.get("head_dim") or _width(config)]
    told = [size for size in sizes if is_count(size)]
    return 2 * math.prod(told) * 4 if len(told) == len(sizes) else None


def _width(config: Mapping[str, Any]) -> int | None:
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    return hidden // heads if is_count(hidden) and is_count(heads) else None
