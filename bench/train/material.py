"""Models of about 0.3, 10 and 100 M random parameters, and rows that are all different.

Usage: python -m bench.train.material FOLDER [MODEL ...]. A token is a byte for all sides.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from finetuning.api.hyperparameters import Hyperparameters
from finetuning.base.plan import Plan

ROWS = 512
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 256, "heads": 4},
    "10M": {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 1024, "heads": 8},
    "100M": {"vocab_size": 32000, "hidden_size": 640, "intermediate_size": 2560, "heads": 10},
}
LAYERS = {"tiny": 2, "10M": 8, "100M": 12}
LENGTHS: dict[str, tuple[int, float, int, int]] = {
    "eight": (8, 0.0, 8, 8),
    "rows": (64, 0.6, 16, 400),
}
"""Of a row in tokens: median, spread of the logarithm, shortest, longest."""


def make_model(folder: Path, name: str) -> None:
    import torch  # noqa: PLC0415 - takes seconds
    from transformers import Qwen2Config, Qwen2ForCausalLM  # noqa: PLC0415 - takes seconds

    shape = dict(SHAPES[name])
    heads = shape.pop("heads")
    torch.manual_seed(0)
    config = Qwen2Config(
        num_hidden_layers=LAYERS[name],
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        tie_word_embeddings=True,
        eos_token_id=0,
        **shape,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415 - takes seconds
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - takes seconds

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    marks = {"<end>": 0, "<pad>": 1}
    ids = marks | {letter: n for n, letter in enumerate(letters, start=len(marks))}
    bpe = Tokenizer(models.BPE(ids, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    end, pad = marks
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=end, pad_token=pad)


def make_rows(kind: str) -> list[dict[str, str]]:
    """A quarter of each row is prompt; the rest, and the end of sequence, are trained."""
    median, spread, shortest, longest = LENGTHS[kind]
    random = np.random.default_rng(1)
    lengths = np.exp(np.log(median) + spread * random.standard_normal(ROWS))
    rows = []
    for length in lengths.round().astype(int).clip(shortest, longest).tolist():
        text = "".join(map(chr, random.integers(97, 123, length - 1)))
        rows.append({"prompt": text[: length // 4], "completion": text[length // 4 :]})
    return rows


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def taken(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows in the order in which the trainer takes them in its first epoch."""
    plan = Plan.of(Hyperparameters(batch_size=len(rows)), len(rows))
    return [rows[n] for n in plan.batches(0)[0]]


def main() -> None:
    root = Path(sys.argv[1])
    for name in sys.argv[2:] or SHAPES:
        make_model(root / name, name)
    for kind in LENGTHS:
        rows = make_rows(kind)
        write(root / kind / "train.jsonl", rows)
        write(root / f"{kind}-taken" / "train.jsonl", taken(rows))


if __name__ == "__main__":
    main()
