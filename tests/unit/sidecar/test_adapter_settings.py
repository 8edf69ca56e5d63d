from typing import Any

import pytest

from finetuning.monitoring.validators.checks.adapter_settings import (
    foreign_setting,
    loaded_settings,
)

PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["q_proj"],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [("init_lora_weights", "gaussian"), ("init_lora_weights", False), ("megatron_config", None),
     ("loftq_config", {}), ("megatron_core", "megatron.core"), ("of_a_newer_peft", False),
     ("lora_dropout", 0.1), ("use_dora", True), ("alpha_pattern", {"q_proj": 32})],
)  # fmt: skip
def test_what_changes_nothing_or_is_carried_over_is_allowed(name: str, value: Any) -> None:
    assert foreign_setting({**PLAIN, name: value}) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [("init_lora_weights", "pissa"), ("init_lora_weights", "olora"), ("init_lora_weights", [1]),
     ("alora_invocation_tokens", [1]), ("megatron_core", "evil"), ("auto_mapping", {"x": "os"}),
     ("of_a_newer_peft", 1), ("qalora_group_size", 8), ("peft_type", "lora"), ("peft_type", None)],
)  # fmt: skip
def test_what_would_be_dropped_is_named(name: str, value: Any) -> None:
    assert foreign_setting({**PLAIN, name: value}).startswith(f"{name} is ")


def test_a_long_value_is_cut() -> None:
    assert len(foreign_setting({**PLAIN, "corda_config": "x" * 9999})) < 120


def test_only_plain_settings_are_carried_over() -> None:
    found = loaded_settings({**PLAIN, "peft_version": "1", "bias": None})
    assert found == {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
