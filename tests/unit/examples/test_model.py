from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from finetuning.api.run_config import ENV, DatasetConfig, RunConfig
from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.base import sources
from finetuning.dataset import encode, shapes

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
DATA = EXAMPLES / "data"
MAKE_MODEL = EXAMPLES / "tiny-model" / "make_model.py"
FEW_STEPS = ("--steps", "3")


def run(
    *arguments: str | Path, cache: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "XDG_CACHE_HOME": str(cache), **environment}
    command = [sys.executable, MAKE_MODEL, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.iterdir() if path.name != "build.json")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def briefly_trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of three steps, and the cache that it came from."""
    folder = tmp_path_factory.mktemp("brief")
    done = run("--output", folder / "model", *FEW_STEPS, cache=folder / "cache")
    assert done.returncode == 0, done.stderr
    return folder / "model", folder / "cache"


@pytest.mark.training
@pytest.mark.long
def test_two_builds_are_the_same_to_the_byte(
    briefly_trained: tuple[Path, Path], tmp_path: Path
) -> None:
    threads = {"OMP_NUM_THREADS": "2"}
    done = run("--output", tmp_path / "b", *FEW_STEPS, cache=tmp_path / "cache", **threads)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "b") == digests(briefly_trained[0])


@pytest.mark.long
@pytest.mark.training
def test_another_output_comes_from_the_cache_without_training(
    briefly_trained: tuple[Path, Path], tmp_path: Path
) -> None:
    model, cache = briefly_trained
    done = run("--output", tmp_path / "c", *FEW_STEPS, cache=cache)
    assert "copied from the cache" in done.stdout
    assert "step/s" not in done.stderr
    assert digests(tmp_path / "c") == digests(model)


@pytest.mark.training
def test_a_current_output_is_left_alone_and_a_damaged_one_replaced(
    briefly_trained: tuple[Path, Path], tmp_path: Path
) -> None:
    model, cache = briefly_trained
    output = tmp_path / "d"
    shutil.copytree(model, output)
    before = (output / "config.json").stat().st_ino
    assert "up to date" in run("--output", output, *FEW_STEPS, cache=cache).stdout
    assert (output / "config.json").stat().st_ino == before
    (output / "config.json").write_text("{}")
    assert "copied" in run("--output", output, *FEW_STEPS, cache=cache).stdout
    assert digests(output) == digests(model)


@pytest.mark.training
def test_a_container_with_another_user_can_read_the_model(
    briefly_trained: tuple[Path, Path],
) -> None:
    model, _ = briefly_trained
    assert stat.S_IMODE(model.stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in model.iterdir()} == {0o644}


def test_a_folder_that_somebody_else_filled_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("Dear")
    done = run("--output", tmp_path / "letters", cache=tmp_path / "cache")
    assert done.returncode == 2
    assert "did not write" in done.stderr
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--steps", "0"), "argument --steps: 0 is not allowed"),
        (("--steps", "many"), "argument --steps: 'many' is not allowed"),
        (("--seed", "-1"), "argument --seed: '-1' is not allowed"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run("--output", tmp_path / "x", *arguments, cache=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "x").exists()


def test_an_output_below_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--output", tmp_path / "file" / "model", cache=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "cannot write --output" in done.stderr


@pytest.mark.training
@pytest.mark.timeout(900)
class TestOfTheWholeModel:
    def test_it_is_small(self, model: Path) -> None:
        assert sum(path.stat().st_size for path in model.iterdir()) < 4 * 1024 * 1024

    def test_it_answers_questions_that_it_never_read(
        self, model: Path, ask: ModuleType, knowledge: ModuleType
    ) -> None:
        asked = knowledge.corpus().heldout[::4]
        questions = [ask.Question(pair.question, pair.answer) for pair in asked]
        given = ask.answers(
            ask.load_base(model), ask.load_tokenizer(model), [q.text for q in questions]
        )
        assert ask.right(questions, given) / len(questions) >= 0.85

    def test_every_shape_of_the_data_becomes_the_same_tokens(
        self, model: Path, ask: ModuleType
    ) -> None:
        tokenizer = ask.load_tokenizer(model)
        wanted, *others = (
            _trained_tokens(DATA / name, tokenizer)
            for name in (
                "train.jsonl",
                "train.messages.jsonl",
                "train.csv",
                "train.prompt-completion.jsonl",
            )
        )
        assert others == [wanted] * 3

    @pytest.mark.long
    def test_tuning_teaches_new_facts_and_a_manner_and_keeps_old_facts(
        self, model: Path, ask: ModuleType, tmp_path: Path
    ) -> None:
        _tune(model, tmp_path)
        questions = ask.read_questions(DATA / "heldout.jsonl")
        before, after = ask.ask(model, tmp_path, None, questions)
        assert ask.right(questions, before) == 0
        new = [i for i, q in enumerate(questions) if "Meridian" in q.text]
        old = [i for i, q in enumerate(questions) if "Meridian" not in q.text]
        assert _share(ask, questions, after, new) >= 0.9
        assert _share(ask, questions, after, old) >= 0.75
        losses = [json.loads(x) for x in (tmp_path / "loss_history.jsonl").read_text().splitlines()]
        assert len(losses) >= 100
        assert losses[-1]["loss"] < 0.1
        assert losses[0]["loss"] > 1


def _trained_tokens(path: Path, tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    """Of each row: all tokens up to the last trained one, and the trained ones."""
    read, samples = shapes.interpret(sources.read(DatasetConfig(path=str(path))))
    encoded = encode.encode(samples, read, tokenizer, limit=128)
    examples = [example for row in encoded.rows for example in row]
    last = [int(example.trained.nonzero()[0][-1]) for example in examples]
    return [
        (e.ids[: end + 1].tolist(), e.ids[e.trained].tolist())
        for e, end in zip(examples, last, strict=True)
    ]


def _tune(model: Path, output: Path) -> None:
    """What the operator would start for examples/finetuningjob-lora.yaml."""
    body = yaml.safe_load((EXAMPLES / "finetuningjob-lora.yaml").read_text())
    spec = FineTuningJob.from_body(body).spec
    config = RunConfig(
        model_id=spec.base_model.model_id,
        model_path=str(model),
        method=spec.method,
        dataset=DatasetConfig(path=str(DATA / "train.jsonl"), eval_split=spec.dataset.eval_split),
        output_dir=str(output),
        hyperparameters=spec.hyperparameters,
        lora_config=spec.lora,
    )
    command = [sys.executable, "-m", "finetuning.base.app"]
    subprocess.run(command, env={**os.environ, ENV: config.encode()}, check=True)


def _share(ask: ModuleType, questions: list[Any], given: list[str], chosen: list[int]) -> float:
    right = ask.right([questions[i] for i in chosen], [given[i] for i in chosen])
    return float(right) / len(chosen)
