"""checkpoint_integrity: adapters and tokenizers of base models that are unlike most."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from finetuning.monitoring.validators.checks.run import Run
from finetuning.monitoring.validators.checks.shapes import base_problem
from finetuning.monitoring.validators.checks.tokenizer import tokenizer_is_another
from finetuning.monitoring.validators.checks.tree import model_tree, tree_of
from finetuning.monitoring.validators.settings import ValidationSettings

ADAPTED = {
    "self_attn.q_proj.lora_A": (4, 8), "self_attn.q_proj.lora_B": (8, 4),
    "mlp.experts.lora_A": (8, 6), "mlp.experts.lora_B": (8, 8),
    "mlp.experts.base_layer.lora_A": (8, 8), "mlp.experts.base_layer.lora_B": (12, 8),
}  # fmt: skip
"""Two experts, as peft names what it puts beside their stacked parameters."""
BASE = {
    "self_attn.q_proj": (8, 8),
    "mlp.experts.0.down_proj": (8, 6),
    "mlp.experts.1.up_proj": (6, 8),
}


def weights(folder: Path, name: str, prefix: str, shapes: dict[str, tuple[int, int]]) -> Path:
    folder.mkdir(exist_ok=True)
    values = {f"{prefix}{key}.weight": np.ones(shape, "f4") for key, shape in shapes.items()}
    save_file(values, folder / name, metadata={"format": "pt"})
    return folder


def problem_of(folder: Path, targets: list[str], base: dict[str, tuple[int, int]]) -> str:
    prefix = "base_model.model.model.layers.1."
    adapter = weights(folder / "run", "adapter_model.safetensors", prefix, ADAPTED)
    settings = json.dumps({"peft_type": "LORA", "r": 4, "target_parameters": targets})
    (adapter / "adapter_config.json").write_text(settings)
    own = weights(folder / "base", "model.safetensors", "model.layers.1.", base)
    return base_problem(tree_of(adapter, is_checkpoint=False), model_tree(own).weights)


def test_experts_that_are_stacked_when_loaded_are_not_missing(tmp_path: Path) -> None:
    targets = ["down_proj", "gate_up_proj"]
    assert problem_of(tmp_path, targets, BASE) == ""
    attention = {"self_attn.q_proj": (16, 8)} | {k: v for k, v in BASE.items() if "mlp" in k}
    assert "self_attn.q_proj is [16, 8] in the base model" in problem_of(
        tmp_path, targets, attention
    )
    assert "has no model.layers.1.mlp.experts" in problem_of(tmp_path, [], BASE)
    without = {"self_attn.q_proj": (8, 8)}
    assert "has no model.layers.1.mlp.experts" in problem_of(tmp_path, targets, without)


def folder_with(path: Path, words: int, added: dict[str, int]) -> Path:
    """A model of four tokens with a tokenizer of `words` and some that were added."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"vocab_size": 4}))
    tokenizer = {
        "model": {"type": "WordLevel", "vocab": {f"word{n}": n for n in range(words)}},
        "added_tokens": [{"content": token, "id": number} for token, number in added.items()],
    }
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    return path


IMAGE = {"<image>": 4}


@pytest.mark.parametrize(
    ("words", "added", "base", "said"),
    [
        (4, IMAGE, IMAGE, ""),
        (4, IMAGE, None, ""),
        (4, {}, {}, ""),
        (4, {"<new>": 5}, {}, "the tokenizer has a token 5, the model a vocabulary of 4"),
        (4, {**IMAGE, "<new>": 5}, IMAGE, "the tokenizer has a token 5"),
        (4, {"<image>": 5}, IMAGE, "the tokenizer has a token 5"),
        (9, {}, {}, "the tokenizer has a token 8"),
        (9, IMAGE, None, "the tokenizer has a token 8"),
    ],
)
def test_a_token_more_than_embeddings_may_be_the_base_models(
    words: int, added: dict[str, int], base: dict[str, int] | None, said: str, tmp_path: Path
) -> None:
    """As Gemma's for an image; what a token of no rows is worth, the model never asks."""
    result = tree_of(folder_with(tmp_path / "run", words, added), is_checkpoint=False)
    own = model_tree(folder_with(tmp_path / "base", 4, base)) if base is not None else None
    found = tokenizer_is_another(Run(result, (), own, None, ValidationSettings()))
    assert (found.message if found else "").startswith(said)
    assert bool(found) == bool(said)
