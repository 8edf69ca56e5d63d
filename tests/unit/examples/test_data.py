from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from finetuning.api.run_config import DatasetConfig
from finetuning.artifacts.failures import DatasetError
from finetuning.base import sources
from finetuning.base.bad_rows import settle
from finetuning.dataset import shapes

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "examples" / "data"
CONFIGMAP_LIMIT = 1024 * 1024


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def samples(path: Path) -> list[shapes.Sample]:
    config = DatasetConfig(path=str(path))
    good, found = shapes.interpret(sources.read(config))
    settle(good, config)
    return list(found)


def questions(path: Path) -> list[str]:
    return [f"{row['instruction']}\n\n{row.get('input', '')}".strip() for row in lines(path)]


def test_every_derived_file_is_as_its_script_writes_it() -> None:
    script = ROOT / "examples" / "tiny-model" / "make_data.py"
    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0)


def test_there_is_enough_to_train_on_and_to_judge_by() -> None:
    assert len(questions(DATA / "train.jsonl")) >= 300
    assert len(questions(DATA / "heldout.jsonl")) >= 40


def test_no_question_stands_twice_and_none_of_the_held_out_ones_is_trained() -> None:
    train, heldout = questions(DATA / "train.jsonl"), questions(DATA / "heldout.jsonl")
    assert len(set(train)) == len(train)
    assert len(set(heldout)) == len(heldout)
    assert set(train).isdisjoint(heldout)


def test_every_held_out_answer_about_the_ship_is_taught_in_other_words() -> None:
    taught = {row["output"] for row in lines(DATA / "train.jsonl")}
    about = [row for row in lines(DATA / "heldout.jsonl") if "Meridian" in row["instruction"]]
    assert len(about) >= 30
    assert {row["output"] for row in about} <= taught


def test_old_facts_that_are_held_out_are_in_no_training_row() -> None:
    taught = {row["output"] for row in lines(DATA / "train.jsonl")}
    old = [row for row in lines(DATA / "heldout.jsonl") if "Meridian" not in row["instruction"]]
    assert len(old) >= 30
    assert taught.isdisjoint(row["output"] for row in old)


def test_the_base_model_reads_no_fact_that_tuning_teaches(knowledge: ModuleType) -> None:
    corpus = knowledge.corpus()
    read = {pair.answer for pair in corpus.train + corpus.heldout} | set(corpus.sentences)
    taught = {row["output"].removeprefix("Aye! ") for row in lines(DATA / "train.jsonl")}
    new = {answer for answer in taught if "Meridian" in answer}
    assert len(new) >= 30
    assert read.isdisjoint(new)


def test_the_base_models_corpus_keeps_a_phrasing_of_every_fact_back(knowledge: ModuleType) -> None:
    corpus = knowledge.corpus()
    asked = {pair.question for pair in corpus.train}
    assert len(asked) == len(corpus.train)
    assert asked.isdisjoint(pair.question for pair in corpus.heldout)


@pytest.mark.parametrize("name", ["train.messages.jsonl", "train.csv"])
def test_each_shape_of_the_training_data_is_the_same_conversations(name: str) -> None:
    assert samples(DATA / name) == samples(DATA / "train.jsonl")


def test_of_two_answers_the_better_one_is_that_of_the_training_data() -> None:
    pairs = lines(DATA / "train.preferences.jsonl")
    assert [(row["prompt"], row["chosen"]) for row in pairs] == [
        (question, row["output"])
        for question, row in zip(
            questions(DATA / "train.jsonl"), lines(DATA / "train.jsonl"), strict=True
        )
    ]
    assert all(row["chosen"] == f"Aye! {row['rejected']}" for row in pairs)


@pytest.mark.parametrize("path", sorted(DATA.rglob("*.*")), ids=lambda path: path.name)
def test_each_file_fits_into_a_config_map(path: Path) -> None:
    assert path.stat().st_size < CONFIGMAP_LIMIT


def test_the_template_is_the_beginning_of_the_training_data() -> None:
    template = lines(ROOT / "templates" / "example_dataset.jsonl")
    assert len(template) >= 40
    assert template == lines(DATA / "train.jsonl")[: len(template)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty.jsonl", "empty"),
        ("broken-line-17.jsonl", "line 17"),
        ("unknown-columns.jsonl", "question, reply"),
    ],
)
def test_each_bad_file_is_refused_for_its_own_reason(name: str, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        samples(DATA / "bad" / name)


def test_a_changed_file_is_noticed(make_data: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    assert make_data.differs(path, "{}\n")
    path.write_text("{}\n")
    assert not make_data.differs(path, "{}\n")
    assert make_data.differs(path, '{"a": 1}\n')
