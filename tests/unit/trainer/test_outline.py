"""Models that keep their positions in a table read no more than that; others have no last place."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.conftest import ROWS, write_rows
from tests.unit.trainer.test_architectures import gpt2, llama, mamba

from finetuning.base.app import main
from finetuning.base.outline import Outline, outline_of
from finetuning.monitoring.validators.checks import aim_profile
from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import subject

PLACES = 48
SIZES: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 64, "num_attention_heads": 4, "pad_token_id": 1,
    "max_position_embeddings": PLACES,
}  # fmt: skip


def opt() -> Any:
    """Its table begins two rows before the first place."""
    from transformers import OPTConfig, OPTForCausalLM

    return OPTForCausalLM(
        OPTConfig(**SIZES, num_hidden_layers=2, ffn_dim=64, word_embed_proj_dim=64)
    )


def roberta() -> Any:
    """Its first place comes after that of the padding."""
    from transformers import RobertaConfig, RobertaForCausalLM

    sizes = {**SIZES, "max_position_embeddings": PLACES + 2}
    config = RobertaConfig(**sizes, num_hidden_layers=2, intermediate_size=64, is_decoder=True)
    return RobertaForCausalLM(config)


def gptj() -> Any:
    """Its table is no parameter."""
    from transformers import GPTJConfig, GPTJForCausalLM

    return GPTJForCausalLM(
        GPTJConfig(vocab_size=320, n_embd=64, n_layer=2, n_head=4, rotary_dim=8, n_positions=PLACES)
    )


def mpt() -> Any:
    """It has no table: a bias for all places that it was made for takes its place."""
    from transformers import MptConfig, MptForCausalLM

    return MptForCausalLM(
        MptConfig(vocab_size=320, d_model=64, n_heads=4, n_layers=2, max_seq_len=PLACES)
    )


def gemma3() -> Any:
    """It reads pictures as well, whose places are no text's."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {**SIZES, "num_hidden_layers": 2, "intermediate_size": 64, "head_dim": 16}
    vision = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 56, "patch_size": 14,
    }  # fmt: skip
    return Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=16)
    )


@pytest.mark.parametrize("make", [opt, roberta, gptj, mpt])
def test_a_model_reads_as_many_tokens_as_its_outline_tells(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    import torch

    model = make().eval()
    model.save_pretrained(tmp_path)
    assert outline_of(tmp_path) == Outline(320, PLACES)
    ids = torch.full((1, PLACES + 1), 7)
    model(input_ids=ids[:, :PLACES], use_cache=False)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=ids, use_cache=False)


@pytest.mark.parametrize("make", [llama, mamba, gemma3])
def test_positions_that_are_computed_have_no_last_one(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    model = make()
    model.save_pretrained(tmp_path)
    tokens = len(model.get_input_embeddings().weight)
    assert outline_of(tmp_path) == Outline(tokens, None)


@pytest.fixture
def long_rows(tmp_path: Path) -> Path:
    rows = [{**row, "output": f"{row['output']} And so on." * 40} for row in ROWS[:4]]
    return write_rows(tmp_path / "long.jsonl", rows + ROWS)


@pytest.mark.training
@pytest.mark.parametrize(
    "more",
    [
        "--method full",
        "--packing",
        pytest.param("--sample-generations 2 --sample-max-new-tokens 300", marks=pytest.mark.long),
    ],
)
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
def test_rows_are_cut_where_the_models_table_ends(
    more: str,
    tokenizer: Any,
    long_rows: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And not at the default of 2048 tokens; no answer of it is longer either."""
    model, output = tmp_path / "model", tmp_path / "out"
    gpt2().save_pretrained(model)
    tokenizer.save_pretrained(model)
    command = [
        *("--model-id", str(model), "--dataset-path", str(long_rows), "--output-dir", str(output)),
        *("--target-modules", "all-linear", "--learning-rate", "1e-2", "--warmup-steps", "0"),
        *("--eval-split", "0.3", "--eval-steps", "4", "--max-steps", "8", "--no-fp16"),
        *more.split(),
    ]
    assert main(command) == 0, caplog.text
    assert "4 examples are longer than 256 tokens, the most that this model has places" in (
        caplog.text
    )
    report = json.loads((output / "data_report.json").read_text(encoding="utf-8"))
    assert (report["cut_examples"], report["model_places"]) == (4, 256)
    assert (report["max_seq_length"], report["lengths"]["max"] > 256) == (2048, True)
    profile = json.loads((output / "aim_profile.json").read_text(encoding="utf-8"))
    assert profile["context_tokens"] == 256
    about = output / "aim_profile.json"
    settings = ValidationSettings(base_model_path=str(model))
    judged = subject(output / "training_info.json", output, None, about, settings)
    assert aim_profile.check(judged).passed


def test_answers_beyond_the_models_table_leave_nothing_to_train_on(
    tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "model"
    gpt2().save_pretrained(model)
    tokenizer.save_pretrained(model)
    rows = [{"instruction": "And so on. " * 99, "output": "Yes."}]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    command = ["--model-id", str(model), "--dataset-path", str(data), "--check-data"]
    assert main([*command, "--output-dir", str(tmp_path / "out")]) == 2
    assert "beyond the first 256 tokens" in caplog.text
    assert "take a model that reads longer texts" in caplog.text
