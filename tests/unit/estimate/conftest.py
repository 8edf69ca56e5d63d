"""Models of known sizes, made once."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.conftest import ROWS, make_tokenizer

from finetuning.base.options import parse
from finetuning.estimate.formula import Job
from finetuning.estimate.shape import Shape, from_config

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SIZES: dict[str, tuple[int, int, int, int, int, int]] = {
    "warm": (64, 128, 2, 4, 2, 512),
    "10M": (256, 1024, 8, 8, 4, 4096),
    "30M": (512, 1536, 8, 8, 4, 4096),
    "100M": (768, 2560, 11, 12, 4, 8192),
}
"""hidden, intermediate, layers, heads, key-value heads, vocabulary"""

MakeModel = Callable[[str], Path]


def config_of(size: str) -> dict[str, Any]:
    hidden, intermediate, layers, heads, keys, vocabulary = SIZES[size]
    return {
        "model_type": "qwen2",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "vocab_size": vocabulary,
        "tie_word_embeddings": size != "10M",
    }


def shape_of(size: str) -> Shape:
    return from_config(config_of(size))


def job_of(*argv: str, processes: int = 1) -> Job:
    """The settings of a trainer's command line."""
    config = parse(["--model-id", "m", "--dataset-path", "d", "--no-fp16", *argv], {}).config
    sections = (config.lora_config, config.quantization_config)
    return Job(config.method, config.hyperparameters, *sections, processes)


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    root = tmp_path_factory.mktemp("models")
    tokenizer = make_tokenizer([text for row in ROWS for text in row.values()])

    def make(size: str) -> Path:
        import torch
        from transformers import Qwen2Config, Qwen2ForCausalLM
        from transformers.utils import logging

        folder = root / size
        if not folder.exists():
            logging.disable_progress_bar()
            torch.manual_seed(0)
            settings = {key: value for key, value in config_of(size).items() if key != "model_type"}
            Qwen2ForCausalLM(Qwen2Config(**settings)).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def long_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of text, trained from end to end, longer than the longest sequence of the tests."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [{"text": _text(random.Random(0))}] * 8
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def short_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which many go into one sequence."""
    path = tmp_path_factory.mktemp("rows") / "short.jsonl"
    text = _text(random.Random(0))
    rows = [{"text": text[n : n + 60 + 20 * (n % 12)]} for n in range(600)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def long_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as two answers to a prompt of next to nothing."""
    dice = random.Random(0)
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [{"prompt": "a", "chosen": _text(dice), "rejected": _text(dice)}] * 8
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _text(dice: random.Random) -> str:
    return " ".join(f"{dice.choice('abcdefgh')}{dice.randrange(10)}" for _ in range(700))
