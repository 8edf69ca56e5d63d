"""A tiny random model with a tokenizer, rows to train on, and trainers in their own processes."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port
from tests.unit.trainer.warm import WarmTrainer

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLACES = ("Kenya", "Peru", "Norway", "Japan", "Chad", "Chile", "Ghana", "Laos", "Malta", "Nepal")
ROWS = [
    {"instruction": f"Where is {place}?", "output": f"{place} is on the map, at number {n}."}
    for n, place in enumerate(PLACES * 2)
]
PAIRS = [
    {
        "prompt": f"Where is {place}?",
        "chosen": f" {place} is far away{', by the sea' * (n % 3)}.",
        "rejected": f" I will not tell{', not today' * (n % 2)}, number {n}.",
    }
    for n, place in enumerate(PLACES * 2)
]

Run = Callable[..., int]
Pair = Callable[..., tuple[list[int], list[str]]]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_tokenizer(texts: list[str]) -> Any:
    """Byte-level BPE, so that every text has tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    made = make_tokenizer([text for row in ROWS for text in row.values()])
    made.chat_template = TEMPLATE
    return made


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """Qwen2's architecture with random weights: 64 wide, two layers."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("model") / "tiny"
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", ROWS)


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", PAIRS)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmTrainer]:
    """Starts trainers in processes of their own, without the seconds that torch takes."""
    with WarmTrainer.started(tmp_path_factory.mktemp("warm")) as trainer:
        yield trainer


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, warm: WarmTrainer) -> Iterator[Pair]:
    """Runs the trainer as two processes, told what torchrun would tell them."""
    with WarmTrainer.started(tmp_path_factory.mktemp("warm-1")) as second:

        def run(*argv: object, kill_in: str = "", **environ: str) -> tuple[list[int], list[str]]:
            ours = environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
            ours |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            children = [
                trainer.start(
                    *argv,
                    kill_in=kill_in if number else "",
                    **ours,
                    RANK=str(number),
                    LOCAL_RANK=str(number),
                )
                for number, trainer in enumerate((warm, second))
            ]
            return [child.wait() for child in children], [child.output() for child in children]

        yield run
