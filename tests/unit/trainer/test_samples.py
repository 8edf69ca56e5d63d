"""Answers to held-out prompts: which are asked, what is answered, and that training is the same."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.trainer.conftest import PLACES
from tests.unit.trainer.test_resume import arguments, flip_a_bit, history

from finetuning.artifacts.history import SampleLine, read_lines
from finetuning.base.app import main
from finetuning.base.plan import split_rows
from finetuning.dataset.encode import Example

FLAGS = ("--eval-split", 0.2, "--eval-steps", 2, "--max-steps", 6, "--learning-rate", 5e-3)
ASKS = ("--sample-generations", 2, "--sample-max-new-tokens", 6)


def lines(output: Path) -> list[SampleLine]:
    return list(read_lines(output / "samples.jsonl", SampleLine))


@pytest.mark.parametrize(
    ("trained", "prompt", "expected"),
    [
        ([0, 0, 1, 1], [0, 1], [2, 3]),
        ([0, 1, 1, 0], [0], [1, 2]),
        ([1, 1, 1, 1], [0, 1], [2, 3]),
        ([1] * 99, list(range(16)), list(range(16, 99))),
    ],
)
def test_the_question_is_what_stands_before_the_answer(
    trained: list[int], prompt: list[int], expected: list[int]
) -> None:
    from finetuning.base.samples import Question, question_of

    ids = np.arange(len(trained), dtype=np.int32)
    example = Example(ids, np.array(trained, dtype=np.bool_))
    assert question_of(example) == Question(prompt, expected)


@pytest.mark.training
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_answers_are_those_of_the_model_and_training_does_not_notice(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    asked, plain = tmp_path / "asked", tmp_path / "plain"
    assert main(arguments(tiny_model, rows_file, asked, *FLAGS, *ASKS)) == 0
    assert main(arguments(tiny_model, rows_file, plain, *FLAGS)) == 0
    assert history(asked) == history(plain)
    assert not (plain / "samples.jsonl").exists()
    found = lines(asked)
    assert [(line.step, line.number) for line in found] == [
        *((2, 1), (2, 2), (4, 1), (4, 2), (6, 1), (6, 2))
    ]
    assert all(line.prompt.startswith("<|im_start|>user\nWhere is ") for line in found)
    assert all(" is on the map" in line.expected for line in found)
    assert [line.answer for line in found[-2:]] == [
        greedy(tiny_model, asked, line.prompt) for line in found[-2:]
    ]
    sealed = json.loads((asked / "manifest.json").read_text(encoding="utf-8"))["files"]
    assert "samples.jsonl" in sealed


def greedy(base: Path, adapter: Path, prompt: str) -> str:
    """By transformers and peft alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(adapter)
    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    ids = tokenizer(prompt, return_tensors="pt")
    whole = model.eval().generate(**ids, do_sample=False, max_new_tokens=6)
    text: str = tokenizer.decode(whole[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    return text


@pytest.mark.training
def test_a_run_that_goes_on_has_each_answer_once(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = arguments(tiny_model, rows_file, output, *FLAGS, *ASKS, "--save-steps", 2)
    assert main(command) == 0
    before = lines(output)
    (output / "manifest.json").unlink()
    flip_a_bit(output / "checkpoints" / "checkpoint-6" / "adapter_model.safetensors")
    assert main(command) == 0
    assert lines(output) == before


@pytest.mark.training
@pytest.mark.parametrize("more", [["--packing"], ["--objective", "dpo"]])
def test_packs_and_pairs_are_asked_row_by_row(
    more: list[str], tiny_model: Path, rows_file: Path, pairs_file: Path, tmp_path: Path
) -> None:
    data = pairs_file if "dpo" in more else rows_file
    command = arguments(tiny_model, data, tmp_path / "out", *FLAGS, *ASKS, *more)
    assert main(command) == 0
    prompts = [line.prompt for line in lines(tmp_path / "out")]
    _, held_out = split_rows(len(PLACES * 2), 0.2, seed=42)
    asked = [f"Where is {(PLACES * 2)[number]}?" for number in held_out[:2]]
    assert len(prompts) == 6
    for prompt, question in zip(prompts, asked * 3, strict=True):
        assert question in prompt
        assert prompt.count("Where is ") == 1


@pytest.mark.training
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_model_that_is_answered_for_by_code_of_the_hub_is_asked_without(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """By these settings transformers wants to load contrastive search from there."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    settings = {"eos_token_id": 2, "penalty_alpha": 0.6, "top_k": 4}
    (model / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    flags = (*FLAGS[:4], "--max-steps", 2, *ASKS)
    assert main(arguments(model, rows_file, tmp_path / "out", *flags)) == 0
    assert len(lines(tmp_path / "out")) == 2
