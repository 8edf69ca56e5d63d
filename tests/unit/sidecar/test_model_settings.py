"""What decides how a model computes and answers, read of two folders by the same classes."""

import json
from pathlib import Path
from typing import Any

import pytest

from finetuning.monitoring.validators.checks.model_settings import (
    computes_otherwise,
    generates_otherwise,
)

HERE = {"local_files_only": True, "trust_remote_code": False}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}  # fmt: skip
MODEL = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
    "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 512, "eos_token_id": 2,
}  # fmt: skip
OLD = MODEL | {"rope_theta": 500000.0, "rope_scaling": LLAMA3, "torch_dtype": "float32"}
NEW = MODEL | {"rope_parameters": {**LLAMA3, "rope_theta": 500000.0}, "dtype": "bfloat16"}
QWEN = MODEL | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
WINDOW = {"use_sliding_window": True, "sliding_window": 128, "max_window_layers": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    def make(config: dict[str, Any], generation: dict[str, Any] | None = None) -> str:
        made = tmp_path / str(len(list(tmp_path.iterdir())))
        made.mkdir()
        (made / "config.json").write_text(json.dumps(config))
        if generation is not None:
            (made / "generation_config.json").write_text(json.dumps(generation))
        return str(made)

    return make


@pytest.mark.parametrize(
    ("own", "base"),
    [
        (NEW, OLD),
        (OLD, NEW),
        (QWEN, QWEN | {"use_sliding_window": False, "sliding_window": 4096}),
        (MODEL | {"attention_dropout": 0.0}, MODEL | {"attention_dropout": 0.1}),
        (MODEL | {"quantization_config": {"quant_method": "awq", "bits": 4}}, MODEL),
        (MODEL | {"pad_token_id": 2, "use_cache": False}, MODEL),
        (MODEL | {"unsloth_version": "2025.9.1", "auto_map": {"AutoConfig": "x.Y"}}, MODEL),
    ],
    ids=["old base", "new base", "no window", "dropout", "quantized", "padding", "notes"],
)
def test_what_two_versions_write_in_other_words_is_the_same(
    folder: Any, own: dict[str, Any], base: dict[str, Any]
) -> None:
    assert computes_otherwise(folder(own), folder(base), HERE) == ""


@pytest.mark.parametrize(
    ("own", "base", "told"),
    [
        (MODEL, OLD, "rope_parameters.factor is unset, not 8.0"),
        (OLD | {"rope_scaling": LLAMA3 | {"factor": 2.0}}, OLD, "rope_parameters.factor is 2.0"),
        (QWEN | WINDOW, QWEN, "layer_types is ['sliding_attention', "),
        (MODEL | {"rms_norm_eps": 1e-3}, MODEL, "rms_norm_eps is 0.001, not 1e-06"),
        (MODEL | {"head_dim": 8}, MODEL, "head_dim is 8, not 16"),
    ],
    ids=["lost", "another", "window", "norm", "heads"],
)
def test_a_setting_that_makes_another_model_of_the_weights_is_named(
    folder: Any, own: dict[str, Any], base: dict[str, Any], told: str
) -> None:
    assert computes_otherwise(folder(own), folder(base), HERE).startswith(told)


@pytest.mark.parametrize(
    ("own", "base", "told"),
    [
        ({"eos_token_id": 2}, {"eos_token_id": 2}, ""),
        ({"eos_token_id": 2, "transformers_version": "4.40.0"}, {"eos_token_id": 2}, ""),
        ({"eos_token_id": 2, "_from_model_config": True}, None, ""),
        (None, {"eos_token_id": 2}, ""),
        ({"eos_token_id": [3, 2]}, {"eos_token_id": [2, 3]}, ""),
        ({"eos_token_id": 2}, {"eos_token_id": [2], "do_sample": False, "top_k": 50}, ""),
        ({"eos_token_id": 2, "temperature": 1.0, "repetition_penalty": 1.0}, None, ""),
        ({"eos_token_id": 7}, None, "eos_token_id is [7], not [2]"),
        ({"eos_token_id": 2}, {"eos_token_id": 2, "top_p": 0.8}, "top_p is 1.0, not 0.8"),
        ({}, {"eos_token_id": 2}, "eos_token_id is [], not [2]"),
        ({"eos_token_id": 2, "do_sample": True}, None, "do_sample is True, not False"),
        ({"eos_token_id": 2, "max_new_tokens": 1}, None, "max_new_tokens is 1, not unset"),
    ],
)  # fmt: skip
def test_how_answers_are_made_is_compared_by_what_it_means(
    folder: Any, own: dict[str, Any] | None, base: dict[str, Any] | None, told: str
) -> None:
    found = generates_otherwise(folder(MODEL, own), folder(MODEL, base), HERE)
    assert found.startswith(told) if told else not found
