"""The model card says what the run's files say, whatever those files hold."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.publish.conftest import DATA, INFO, judge, write_run

from finetuning.api.v1alpha1 import ModelForm
from finetuning.artifacts.manifest import sha256_of
from finetuning.publish import card, facts
from finetuning.publish.__main__ import main


def card_of(run: Path, form: ModelForm = ModelForm.ADAPTER) -> str:
    told = facts.read(run, sha256_of(run / "manifest.json"))
    return card.render(told, adapter=True, form=form)


def header(text: str) -> dict[str, Any]:
    found = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_an_adapter_is_described_for_people_and_for_the_hub(run: Path) -> None:
    text = card_of(run)
    assert header(text) == {
        "base_model": "example/tiny",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["fine-tuned", "lora", "safetensors"],
    }
    for line in (
        "| final training loss | 0.0154 |",
        "| learning\\_rate | 0.003 |",
        "| bad rows, left out | 2 |",
        "✓ PASS - training_loss",
        "Summary: 1/1 checks passed",
        "| trained from | 2026-11-29T05:37:09+00:00 |",
        f"| sha256 of the run's manifest.json | {sha256_of(run / 'manifest.json')} |",
        'model = PeftModel.from_pretrained(model, ".")',
    ):
        assert line in text.splitlines(), line
    assert "packing" not in text


@pytest.mark.parametrize(
    ("revision", "loads"),
    [
        ("a1b2c3", "'example/tiny', revision='a1b2c3'"),
        (None, "'example/tiny'"),
        (7, "'example/tiny'"),
    ],
)
def test_an_adapter_is_put_on_the_weights_it_was_trained_on(
    tmp_path: Path, revision: object, loads: str
) -> None:
    named = json.dumps({"base_model_name_or_path": "example/tiny", "revision": revision})
    text = card_of(write_run(tmp_path / "run", adapter_config__json=named))
    assert f"model = AutoModelForCausalLM.from_pretrained({loads})" in text.splitlines()


@pytest.mark.parametrize("folder", ["/models/Qwen2.5-7B", "./Qwen2.5-7B", "../models/a", "a/b/c"])
def test_a_folder_is_no_base_model_of_the_hub(tmp_path: Path, folder: str) -> None:
    told = json.dumps(INFO | {"model_id": folder})
    text = card_of(write_run(tmp_path / "run", training_info__json=told))
    assert not [name for name in header(text) if name.startswith("base_model")]
    assert f"`{folder}`, tuned by lora." in text.splitlines()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/home/me/secret-project/train.jsonl", "train.jsonl"),
        ("s3://corpora/ships/train.jsonl", "s3://corpora/ships/train.jsonl"),
        ("my-org/rows", "my-org/rows"),
    ],
)
def test_a_card_says_nothing_of_the_machine_that_had_the_rows(
    tmp_path: Path, source: str, told: str
) -> None:
    text = card_of(
        write_run(tmp_path / "run", data_report__json=json.dumps(DATA | {"source": source}))
    )
    assert f"| source | {told} |" in text.splitlines()


def test_a_folder_that_looks_like_an_id_is_none(tmp_path: Path) -> None:
    """The adapter names where its base model was."""
    told = json.dumps({"base_model_name_or_path": "/home/me/models/tiny"})
    run = write_run(tmp_path / "run", adapter_config__json=told)
    assert "base_model" not in header(card_of(run))


def test_a_merged_model_is_one_that_transformers_loads(run: Path) -> None:
    text = card_of(run, ModelForm.MERGED)
    assert header(text)["library_name"] == "transformers"
    assert "PeftModel" not in text


def test_a_card_is_the_same_until_something_else_is_known(run: Path) -> None:
    first = card_of(run)
    assert card_of(run) == first
    judge(run, "Fail")
    assert "✗ FAIL - training_loss" in card_of(run)


def test_what_a_file_says_cannot_break_out_of_the_card(tmp_path: Path) -> None:
    evil = {
        "job_name": "a\n# heading <script>alert(1)</script>",
        "model_id": "x`y\n---\nlicense: mit",
        "results": {"final_loss": "| <img src=x> |\n## Data"},
        "training_config": {"note": "[click](javascript:alert(1))"},
    }
    run = write_run(tmp_path / "run", training_info__json=json.dumps(INFO | evil))
    text = card_of(run)
    assert not {"base_model", "license"} & set(header(text))
    body = text.split("---\n", 2)[2]
    headings = [line for line in body.splitlines() if line.startswith("#")]
    assert headings[1:] == ["## Use", "## Training", "## Data", "## Validation", "## Provenance"]
    assert "<script" not in body
    assert "<img" not in body
    assert "[click](" not in body


def test_the_card_is_made_without_any_place_to_publish_to(run: Path) -> None:
    assert main(["--model-path", str(run)]) == 0
    assert (run / "publish" / "README.md").read_text() == card_of(run)
