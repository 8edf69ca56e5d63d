"""Shapes from config.json and safetensors headers, against transformers and published numbers."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from finetuning.estimate import files, known
from finetuning.estimate.shape import MODEL_TYPES, UnknownShapeError, from_config

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
}
MORE: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 32},
    "granite": {"attention_bias": True},
    "llama": {"mlp_bias": True, "attention_bias": True, "tie_word_embeddings": True},
    "mistral": {"head_dim": 32},
    "phi3": {"pad_token_id": 0},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 32},
}
PUBLISHED = {
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-2-70b-chat-hf": 68_976_648_192,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "meta-llama/Llama-3.1-405B": 405_853_388_800,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-14B": 14_770_033_664,
    "Qwen/Qwen2.5-32B": 32_763_876_352,
    "Qwen/Qwen2.5-72B": 72_706_203_648,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-32B": 32_762_123_264,
}


@pytest.mark.parametrize("model_id", PUBLISHED)
def test_the_parameters_of_known_models_are_the_published_ones(model_id: str) -> None:
    shape = known.shape_of(model_id)
    assert shape is not None
    assert shape.parameters == PUBLISHED[model_id]


def test_every_known_model_has_its_positions() -> None:
    told = {name: shape.positions for name in known.names() if (shape := known.shape_of(name))}
    assert len(told) == len(known.names())
    assert None not in told.values()
    assert told["meta-llama/Meta-Llama-3-8B"] == 8192
    assert told["Qwen/Qwen2.5-7B"] == 131_072
    instruct = known.shape_of("Qwen/Qwen2.5-7B-Instruct")
    assert instruct is not None
    assert instruct.positions == 32768


def test_a_model_of_another_maker_is_not_known() -> None:
    assert known.shape_of("someone/Llama-3.1-8B") is None


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_every_parameter_of_a_real_model_is_counted(kind: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL, **MORE[kind]))
    count = sum(parameter.numel() for parameter in model.parameters())
    model.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    told = {**json.loads(config.read_bytes()), **SMALL, **MORE[kind]}
    assert from_config(told).parameters == count
    bare = {key: told[key] for key in ("model_type", "num_attention_heads", *_UNTOLD[kind])}
    config.write_text(json.dumps(bare), encoding="utf-8")
    read = files.shape_in(tmp_path)
    assert read.parameters == count
    assert (read.layers, read.hidden, read.vocabulary) == (2, 64, 320)
    assert [each.name for each in read.linears] == [each.name for each in from_config(told).linears]


_UNTOLD = {kind: ["num_key_value_heads"] if kind == "phi3" else [] for kind in MODEL_TYPES}
"""What headers alone do not tell: a fused layer has no keys of its own."""


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba' is not one"),
        ({"model_type": None}, "is not one whose memory is known"),
        ({"hidden_size": "64"}, "hidden_size is '64', and no whole number above 0"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"vocab_size": 1 << 40}, "vocab_size is"),
        ({"intermediate_size": None}, "config.json has no intermediate_size"),
    ],
)
def test_a_shape_that_cannot_be_told_is_refused_by_name(change: dict[str, Any], text: str) -> None:
    with pytest.raises(UnknownShapeError, match=text):
        from_config({"model_type": "llama", **SMALL, **change})


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        struct.pack("<Q", 1 << 60),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 15) + b'{"a":{"shape":[',
        struct.pack("<Q", 22) + b'{"a":{"shape":[-1,"x"]}}'[:22],
        struct.pack("<Q", 18) + b'{"a":{"shape":[0]}}'[:18],
    ],
)
def test_a_damaged_header_is_refused(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **SMALL}))
    (tmp_path / "model.safetensors").write_bytes(damage)
    with pytest.raises(UnknownShapeError, match=r"model\.safetensors"):
        files.shape_in(tmp_path)


def test_packed_weights_tell_no_shape(tmp_path: Path) -> None:
    """Those of a model in 4 bit already, whose matrices are columns of bytes."""
    settings = {"model_type": "llama", **SMALL}
    named = {
        "model.embed_tokens.weight": (320, 64),
        "model.layers.0.mlp.down_proj.weight": (1 << 25, 1),
    }
    header = json.dumps({name: {"shape": shape} for name, shape in named.items()}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    known = {**settings, "quantization_config": {"quant_method": "bitsandbytes"}}
    (tmp_path / "config.json").write_text(json.dumps(known))
    assert files.shape_in(tmp_path) == from_config(settings)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownShapeError, match=r"config\.json: No such file"):
        files.shape_in(tmp_path)
