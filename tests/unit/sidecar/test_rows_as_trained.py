"""Rows held out cost the loaded model what they cost the trainer, in every form that it reads."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.conftest import write_rows
from tests.unit.trainer.test_chat_templates import tokenizer_of

from finetuning.base.app import main
from finetuning.monitoring.validators.checks.held_out import compare
from finetuning.monitoring.validators.checks.held_out_rows import read_rows
from finetuning.monitoring.validators.checks.probe import HeldOutRow, ProbeRequest

pytestmark = pytest.mark.training

Row = dict[str, Any]

FIND = {"type": "function", "function": {"name": "find", "arguments": {"place": "Oslo"}}}
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]


def asked(text: str = "Where is Peru?") -> Row:
    return {"role": "user", "content": text}


def said(text: str = "In America.", **more: Any) -> Row:
    return {"role": "assistant", "content": text, **more}


TALK = [{"role": "system", "content": "You are terse."}, asked(), said(), asked("And Chad?")]
CALLED = [
    asked(),
    said("", tool_calls=[FIND]),
    {"role": "tool", "content": '{"in": "Norway"}'},
    said("In Norway."),
]
INSTRUCTION = {"instruction": "Turn it.", "input": "hot", "output": "cold", "system": "Be terse."}
FORMS: dict[str, Row] = {
    "messages": {"messages": [*TALK, said("In Africa."), asked("Thanks")]},
    "tools": {"messages": CALLED, "tools": TOOLS},
    "a call at the end": {"messages": CALLED[:2], "tools": TOOLS},
    "reasoning": {"messages": [asked(), said(reasoning_content="It is not in Asia.")]},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Aye"}],
        "system": "You are a pirate.",
    },
    "conversations of roles": {"conversations": [asked(), said()]},
    "instruction": INSTRUCTION,
    "response": {"instruction": "Turn it.", "context": "hot", "response": "cold"},
    "completion": {"prompt": "Where is Peru?", "completion": " In America."},
    "prompt of messages": {"prompt": [asked()], "completion": [said()], "tools": None},
    "text": {"text": "Peru is in America, Chad in Africa."},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, and a template that shows tools, their calls and thoughts."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = tokenizer_of("qwen3")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
    )
    folder = tmp_path_factory.mktemp("model") / "tiny"
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def asking(model: Path, rows: Path) -> ProbeRequest:
    """For the loss of a file's rows, and as little besides as can be asked."""
    return ProbeRequest(
        model_path=str(model),
        is_adapter=False,
        prompts=["Hi"],
        max_new_tokens=1,
        held_out=read_rows(rows, 64).rows,
    )


def losses(model: Path, file: Path, output: Path) -> tuple[float, float]:
    """The trainer's loss of a file's rows after one step, and the validator's."""
    from finetuning.monitoring.validators.checks import model_process

    arguments = {
        "--model-id": model,
        "--method": "full",
        "--dataset-path": file,
        "--eval-source": file,
        "--output-dir": output,
        "--max-steps": 1,
        "--eval-steps": 1,
        "--learning-rate": 1e-2,
        "--max-seq-length": 2048,
    }
    assert main([str(part) for pair in arguments.items() for part in pair]) == 0
    lines = (output / "loss_history.jsonl").read_text().splitlines()
    seen = [line["eval_loss"] for line in map(json.loads, lines) if line.get("eval_loss")]
    request = asking(output, file)
    report = model_process.answer_to(request)
    assert report.failure is None, report.failure
    assert report.refused == []
    found = compare(report.held_out, None)
    assert found is not None
    assert found.rows == len(request.held_out)
    return seen[-1], found.loss


@pytest.mark.parametrize("form", FORMS)
def test_a_row_costs_what_it_costs_the_trainer(model: Path, tmp_path: Path, form: str) -> None:
    file = write_rows(tmp_path / "rows.jsonl", [FORMS[form]] * 2)
    trainer, validator = losses(model, file, tmp_path / "run")
    assert validator == pytest.approx(trainer, abs=2e-4)


def write_csv(path: Path, rows: list[Row]) -> None:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[Row]) -> None:
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pylist(rows), path)


def write_list(path: Path, rows: list[Row]) -> None:
    path.write_text(json.dumps({"data": rows}))


FILES = {
    "rows.csv": (write_csv, "instruction"),
    "rows.tsv": (write_csv, "instruction"),
    "rows.parquet": (write_parquet, "messages"),
    "calls.parquet": (write_parquet, "tools"),
    "lines.json": (write_rows, "messages"),
    "list.json": (write_list, "messages"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_costs_what_it_costs_the_trainer(model: Path, tmp_path: Path, name: str) -> None:
    write, form = FILES[name]
    write(tmp_path / name, [FORMS[form]] * 2)
    trainer, validator = losses(model, tmp_path / name, tmp_path / "run")
    assert validator == pytest.approx(trainer, abs=2e-4)


def test_of_several_templates_and_of_none_the_trainer_s_is_taken(model: Path) -> None:
    from finetuning.base.model import load_tokenizer
    from finetuning.monitoring.validators.checks.model_texts import examples_in

    tokenizer = load_tokenizer(model)
    row = HeldOutRow(**FORMS["a call at the end"])
    (expected,) = examples_in(tokenizer, row)
    own = tokenizer.chat_template
    tokenizer.chat_template = {"default": "{{ raise_exception('no tools') }}", "tool_use": own}
    (found,) = examples_in(tokenizer, row)
    assert found.ids.tolist() == expected.ids.tolist()
    tokenizer.chat_template = None
    (found,) = examples_in(tokenizer, HeldOutRow(**FORMS["messages"]))
    assert "<|im_start|>system\nYou are terse.<|im_end|>" in tokenizer.decode(found.ids)


def test_rows_that_the_template_refuses_are_left_out_and_told(model: Path, tmp_path: Path) -> None:
    from finetuning.monitoring.validators.checks import model_process

    two_thoughts = said(reasoning_content="Not in Asia.", thinking="Nor in Africa.")
    rows = [{"messages": [asked(), two_thoughts]}, {"messages": [asked(), said()]}]
    request = asking(model, write_rows(tmp_path / "rows.jsonl", rows))
    report = model_process.answer_to(request)
    assert len(report.held_out) == 1
    assert ["leaves thinking" in each for each in report.refused] == [True]
    alone = request.model_copy(update={"held_out": request.held_out[:1]})
    failure = model_process.answer_to(alone).failure
    assert failure is not None
    assert (failure.stage, "leaves thinking" in failure.message) == ("rows", True)


def test_a_row_longer_than_the_model_has_places_is_cut(model: Path, tmp_path: Path) -> None:
    """What learnt a vector for each place has none behind the last."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    from finetuning.monitoring.validators.checks import model_process

    tokenizer = AutoTokenizer.from_pretrained(model)
    torch.manual_seed(0)
    size = {"n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 1}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **size)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    rows = [{"text": "Peru is in America, Chad in Africa. " * 20}, FORMS["text"]]
    request = asking(tmp_path, write_rows(tmp_path / "rows.jsonl", rows))
    report = model_process.answer_to(request)
    assert report.failure is None, report.failure
    assert report.held_out[0].tokens == 31
