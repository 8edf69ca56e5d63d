"""Which settings of an adapter_config.json are carried over when an adapter is loaded here.

peft knows many more: some change the base model, some say which module to import or which file to
read. An adapter that needs one of those would be judged as another one than its users load, so it
is refused by the setting's name.
"""

import json
from collections.abc import Mapping
from typing import Any

KIND = "LORA"
LOADED = (
    "r",
    "lora_alpha",
    "target_modules",
    "target_parameters",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "bias",
    "fan_in_fan_out",
    "modules_to_save",
    "ensure_weight_tying",
    "use_rslora",
    "use_dora",
    "lora_bias",
    "task_type",
)
"""What decides how an adapter computes, and is plain data."""

_ABOUT = frozenset(
    {"base_model_name_or_path", "revision", "peft_version", "inference_mode", "lora_dropout"}
)
"""Names, and what only matters to a training."""

_AT_REST: Mapping[str, tuple[Any, ...]] = {
    "peft_type": (KIND,),
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
    "megatron_core": ("megatron.core",),
    "qalora_group_size": (16,),
}
"""What a setting may be that does nothing then, where that is not nothing itself.

The starts of an adapter that are not named here take a part out of the base model's weights, once
more whenever the adapter is loaded.
"""

_SHOWN_CHARACTERS = 60


def foreign_setting(config: Mapping[str, Any]) -> str:
    """The first setting that is not carried over, and its value; empty where there is none."""
    if config.get("peft_type") != KIND:
        return f"peft_type is {_shown(config.get('peft_type'))}; {KIND} is needed"
    for name in sorted(config.keys() - {*LOADED, *_ABOUT}):
        value, allowed = config[name], _AT_REST.get(name, ())
        if value not in (None, False, "") and value not in ({}, []) and value not in allowed:
            wanted = " or ".join(json.dumps(each) for each in (*allowed, None))
            return f"{name} is {_shown(value)}; {wanted} is allowed"
    return ""


def loaded_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for peft's LoraConfig."""
    return {name: config[name] for name in LOADED if config.get(name) is not None}


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
