"""The same recipe for other families of models: nothing in it knows Qwen."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.unit.trainer.conftest import Pair

from finetuning.base.app import main
from finetuning.monitoring.validators.checks import checkpoint_integrity
from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import subject

pytestmark = pytest.mark.training

SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False))


def gpt2() -> Any:
    """Its layers are no torch.nn.Linear, and their names are its own."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=320, n_embd=64, n_layer=2, n_head=4, n_positions=256)
    )


def gemma2() -> Any:
    """It caps its logits after the head."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=16))


def mixtral() -> Any:
    """Several experts in each layer."""
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=2, num_experts_per_tok=1))


def mamba() -> Any:
    """No attention: its state runs on from one sequence to the next."""
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(MambaConfig(vocab_size=320, hidden_size=64, num_hidden_layers=2))


def gemma3() -> Any:
    """It sees as well, by layers that are called as those for text are."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config = Gemma3Config(
        text_config={**SIZES, "head_dim": 16},
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=319,
        boi_token_index=318,
        eoi_token_index=317,
    )
    return Gemma3ForConditionalGeneration(config)


MODELS: list[Callable[[], Any]] = [llama, gpt2, gemma2, mixtral]


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("make", MODELS)
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
def test_any_causal_model_trains_and_resumes(
    make: Callable[[], Any], method: str, tokenizer: Any, rows_file: Path, tmp_path: Path
) -> None:
    import torch

    torch.manual_seed(0)
    model = tmp_path / "model"
    make().save_pretrained(model)
    tokenizer.save_pretrained(model)
    output = tmp_path / "out"
    command = [
        *("--model-id", str(model), "--dataset-path", str(rows_file), "--output-dir", str(output)),
        *("--method", method, "--target-modules", "all-linear", "--learning-rate", "1e-2"),
        *("--warmup-steps", "0", "--save-steps", "6"),
    ]
    assert main([*command, "--max-steps", "6"]) == 0
    assert main([*command, "--max-steps", "12"]) == 2
    (output / "manifest.json").unlink()
    assert main([*command, "--max-steps", "12"]) == 0
    text = (output / "loss_history.jsonl").read_text(encoding="utf-8")
    losses = [json.loads(line)["loss"] for line in text.splitlines()]
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.1


def test_an_adapter_for_gpt2_in_4_bits_fits_its_base_model(
    tokenizer: Any, rows_file: Path, tmp_path: Path
) -> None:
    """Whose layers are stored transposed, and are as any other's once they are of 4 bits."""
    model, output = tmp_path / "model", tmp_path / "out"
    gpt2().save_pretrained(model)
    tokenizer.save_pretrained(model)
    command = ["--model-id", str(model), "--dataset-path", str(rows_file), "--method", "qlora"]
    more = ["--target-modules", "all-linear", "--max-steps", "2", "--warmup-steps", "0"]
    assert main([*command, *more, "--output-dir", str(output)]) == 0
    settings = ValidationSettings(base_model_path=str(model))
    judged = subject(output / "training_info.json", output, None, None, settings)
    found = checkpoint_integrity.check(judged)
    assert found.passed, found.message
    weights = model / "model.safetensors"
    other = load_file(weights)
    one = next(name for name in other if name.endswith("mlp.c_fc.weight"))
    other[one] = np.ascontiguousarray(other[one].T)
    save_file(other, weights)
    found = checkpoint_integrity.check(judged)
    assert found.reason == "BaseMismatch", "one layer lies otherwise than the rest"


@pytest.mark.parametrize("targets", [[], ["--target-modules", "all-linear"]])
def test_of_a_model_that_sees_what_reads_is_tuned(
    targets: list[str], tokenizer: Any, rows_file: Path, tmp_path: Path
) -> None:
    model, output = tmp_path / "model", tmp_path / "out"
    gemma3().save_pretrained(model)
    tokenizer.save_pretrained(model)
    command = ["--model-id", str(model), "--dataset-path", str(rows_file), *targets]
    more = ["--max-steps", "3", "--warmup-steps", "0", "--output-dir", str(output)]
    assert main([*command, *more]) == 0
    adapted = load_file(output / "adapter_model.safetensors")
    assert adapted
    assert not [name for name in adapted if "language_model" not in name]
    settings = ValidationSettings(base_model_path=str(model))
    judged = subject(output / "training_info.json", output, None, None, settings)
    found = checkpoint_integrity.check(judged)
    assert found.passed, found.message
    assert not found.warnings


@pytest.mark.long
def test_two_processes_tune_in_full_what_reads_of_a_model_that_sees(
    tokenizer: Any, rows_file: Path, tmp_path: Path, pair: Pair
) -> None:
    """Each would wait for gradients of the other part, of which there are none."""
    model, output = tmp_path / "model", tmp_path / "out"
    gemma3().save_pretrained(model)
    tokenizer.save_pretrained(model)
    command = ["--model-id", str(model), "--dataset-path", str(rows_file), "--method", "full"]
    more = ["--max-steps", "3", "--warmup-steps", "0", "--output-dir", str(output), "--no-fp16"]
    codes, words = pair(*command, *more)
    assert codes == [0, 0], words
    before, after = (load_file(folder / "model.safetensors") for folder in (model, output))
    assert before.keys() == after.keys()
    moved = {name for name, weight in before.items() if (weight != after[name]).any()}
    assert moved
    assert not [name for name in moved if "language_model" not in name]


def test_all_linear_layers_are_those_that_can_have_an_adapter(
    tokenizer: Any, rows_file: Path, tmp_path: Path
) -> None:
    """Mamba's own code takes the weight of one past an adapter, which no gradient ever reaches."""
    model, output = tmp_path / "model", tmp_path / "out"
    mamba().save_pretrained(model)
    tokenizer.save_pretrained(model)
    command = ["--model-id", str(model), "--dataset-path", str(rows_file), "--target-modules"]
    more = ["all-linear", "--max-steps", "3", "--warmup-steps", "0"]
    assert main([*command, *more, "--output-dir", str(output)]) == 0
    adapter = json.loads((output / "adapter_config.json").read_text(encoding="utf-8"))
    assert sorted(adapter["target_modules"]) == ["dt_proj", "in_proj", "x_proj"]
    settings = ValidationSettings(base_model_path=str(model))
    judged = subject(output / "training_info.json", output, None, None, settings)
    found = checkpoint_integrity.check(judged)
    assert found.passed, found.message
    assert "AdapterPartlyZero" in [each.reason for each in found.warnings]
