"""`finetuning init` as typed: what it writes is accepted, what it is told wrongly is said."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.cli.__main__ import main
from finetuning.local import manifest
from finetuning.scaffold.answers import Answers, suggested_name
from finetuning.scaffold.checked import problems
from finetuning.scaffold.page import page

COMMAND = str(Path(sys.executable).with_name("finetuning"))
GIVEN = ("--model", "Qwen/Qwen2.5-7B-Instruct", "--data", "hf://org/rows")


@pytest.fixture(autouse=True)
def _a_folder_without_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def written(name: str = "job.yaml") -> FineTuningJob:
    return manifest.load(Path(name)).job


@pytest.mark.parametrize(
    ("options", "rate", "has_adapter"),
    [
        ((), 2e-4, True),
        (("--method", "qlora"), 2e-4, True),
        (("--method", "full"), 2e-5, False),
        (("--objective", "dpo"), 5e-6, True),
        (("--method", "full", "--learning-rate", "0.00003"), 3e-5, False),
    ],
)
def test_what_it_writes_can_be_run_and_suits_the_method(
    *, options: tuple[str, ...], rate: float, has_adapter: bool, capsys: Any
) -> None:
    assert main(("init", *GIVEN, *options)) == 0
    job = written()
    assert job.spec.hyperparameters.learning_rate == rate
    assert ("loraConfig" in yaml.safe_load(Path("job.yaml").read_text())["spec"]) is has_adapter
    assert job.metadata.name == f"qwen2-5-7b-instruct-{job.spec.method}"
    assert "finetuning submit job.yaml" in capsys.readouterr().out


def test_every_option_reaches_its_field() -> None:
    options = {
        "--name": "mine", "-n": "lab", "--source": "pvc://models/qwen", "--token-secret": "hf=key",
        "--epochs": "7", "--batch-size": "8", "--max-seq-length": "512", "--eval-split": "0",
        "--claim": "kept",
    }  # fmt: skip
    assert main(("init", "other.yaml", *GIVEN, *(x for pair in options.items() for x in pair))) == 0
    job = written("other.yaml")
    spec, settings = job.spec, job.spec.hyperparameters
    assert (job.metadata.name, job.metadata.namespace) == ("mine", "lab")
    assert spec.base_model.source == "pvc://models/qwen"
    assert spec.base_model.token_secret_ref is not None
    assert spec.base_model.token_secret_ref.key == "key"
    assert (settings.epochs, settings.batch_size, settings.max_seq_length) == (7, 8, 512)
    assert (spec.dataset.eval_split, spec.output.storage.claim_name) == (0, "kept")


def test_a_file_that_exists_is_kept_without_force(capsys: pytest.CaptureFixture[str]) -> None:
    Path("job.yaml").write_text("mine")
    assert main(("init", *GIVEN)) == 2
    assert capsys.readouterr().err == (
        "finetuning: job.yaml exists; name another file, or replace it with --force\n"
    )
    assert Path("job.yaml").read_text() == "mine"
    assert main(("init", *GIVEN, "--force")) == 0
    assert written().spec.dataset.source == "hf://org/rows"
    assert [each.name for each in Path().iterdir()] == ["job.yaml"]


def test_a_small_file_becomes_a_configmap(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my rows").mkdir()
    Path("my rows/train.jsonl").write_text('{"text": "a row"}\n')
    assert main(("init", "--model", "a/b", "--data", "my rows/train.jsonl", "-n", "lab")) == 0
    assert written().spec.dataset.source == "configmap:b-lora-data:train.jsonl"
    told = capsys.readouterr().out
    assert "kubectl create configmap b-lora-data --from-file='my rows/train.jsonl' -n lab\n" in told
    assert "finetuning run job.yaml --configmap b-lora-data='my rows/train.jsonl'\n" in told


def test_a_file_below_the_home_is_one_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the question no shell has put the home in place of the tilde."""
    monkeypatch.setenv("HOME", str(Path.cwd()))
    Path("train.jsonl").write_text('{"text": "a row"}\n')
    assert main(("init", "--model", "a/b", "--data", "~/train.jsonl")) == 0
    assert written().spec.dataset.source == "configmap:b-lora-data:train.jsonl"


def test_columns_by_other_names_are_said() -> None:
    """As the trainer reads them: it refuses the file without that."""
    Path("qa.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    columns = ("--columns", "prompt=question", "completion=answer")
    assert main(("init", "job.yaml", "--model", "a/b", "--data", "qa.jsonl", *columns)) == 0
    found = written().spec.dataset.columns
    assert found is not None
    assert found.named == {"prompt": "question", "completion": "answer"}


@pytest.mark.parametrize(
    "data", ["org/rows", "rows", "/workspace/templates/t.jsonl", "s3://b/t.jsonl", "pvc://c/t.csv"]
)
def test_what_is_elsewhere_need_not_be_here(data: str) -> None:
    assert main(("init", "--model", "a/b", "--data", data)) == 0
    assert written().spec.dataset.source == data


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["--model and --data must be given where nobody can be asked"]),
        (("--model", "a/b"), ["--data must be given where nobody can be asked"]),
        (
            ("--model", "Qwen x", "--data", "a b", "--epochs", "0", "--learning-rate", "nan"),
            ["--model 'Qwen x': must be a Hugging", "--data 'a b': must be one of", "--epochs 0:",
             "--learning-rate 'nan': "],
        ),
        ((*GIVEN, "--name", "My_Job"), ["--name 'My_Job': must be at most 63"]),
        ((*GIVEN, "--namespace", "Team A"), ["--namespace 'Team A': must be at most 63"]),
        ((*GIVEN, "--size", "much"), ["--size 'much': "]),
        ((*GIVEN, "--size", "5"), ["--size '5': size is in bytes unless it has a unit"]),
        ((*GIVEN, "--source", "/models"), ["--source '/models': must be pvc://"]),
        ((*GIVEN, "--token-secret", "hf"), ["'hf' must be NAME=KEY"]),
        ((*GIVEN, "--method", "lorra"), ["invalid choice: 'lorra'"]),
        ((*GIVEN, "--eval-split", "2"), ["--eval-split 2"]),
        (("--model", "a/b", "--data", "big.jsonl"), ["--data big.jsonl: 2.0 MB are too much for"]),
        (("--model", "a/b", "--data", "trian.jsonl"), ["--data trian.jsonl: no such file here"]),
        (("--model", "a/b", "--data", "rows"), ["--data rows: is a folder here; name a file"]),
        (("--model", "a/b", "--data", "empty.csv"), ["--data empty.csv: is empty"]),
        (("--model", "a/b", "--data", "a b.jsonl"), ["--data a b.jsonl: its name must be of"]),
        (("--model", "a/b", "--data", "cut.jsonl"), ["--data cut.jsonl: line 2: not valid JSON"]),
        (("--model", "a/b", "--data", "qa.csv"),
         ["--data qa.csv: line 2: cannot train on the columns found (answer, question)",
          "with --columns (prompt=question completion=answer)"]),
        (("--model", "a/b", "--data", "qa.csv", "--columns", "promt=question"),
         ["--columns 'question': "]),
        ((*GIVEN, "--columns", "prompt"), ["'prompt' must be NAME=COLUMN"]),
        (("--model", "a/b", "--data", "text.jsonl", "--objective", "dpo"),
         ["--data text.jsonl: line 1: cannot train on the columns found (text)"]),
    ],
)  # fmt: skip
def test_a_mistake_names_its_option_with_exit_code_2(
    options: tuple[str, ...], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("big.jsonl").write_bytes(b" " * 2_000_000)
    Path("a b.jsonl").write_bytes(b"{}")
    Path("empty.csv").touch()
    Path("qa.csv").write_text("question,answer\na,b\n")
    Path("text.jsonl").write_text('{"text": "a"}\n')
    Path("cut.jsonl").write_text('{"text": "a"}\n{"text": "b\n')
    Path("rows").mkdir()
    try:
        code: Any = main(("init", *options))
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    told = capsys.readouterr().err
    assert [each for each in expected if each not in told] == []
    assert not Path("job.yaml").exists()


def test_a_folder_that_is_not_there_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("init", "no/job.yaml", *GIVEN)) == 1
    assert capsys.readouterr().err == "finetuning: no/job.yaml: No such file or directory\n"


def test_stdout_gets_the_manifest_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("init", "-", *GIVEN)) == 0
    FineTuningJob.from_body(yaml.safe_load(capsys.readouterr().out))
    assert list(Path().iterdir()) == []


def test_behind_a_pipe_the_rows_are_not_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    assert main(("init", "-", "--model", "a/b", "--data", "rows.jsonl", "-n", "law")) == 0
    told = capsys.readouterr()
    FineTuningJob.from_body(yaml.safe_load(told.out))
    step = "kubectl create configmap b-lora-data --from-file=rows.jsonl -n law"
    assert told.err == f"its rows: {step}\n"


def test_a_person_is_asked_until_each_answer_can_be_used() -> None:
    answers = ["", "lorra", "full", "", "a b", "hf://org/rows", "Bad Name", "mine"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [COMMAND, "init"], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        os.write(ours, "".join(f"{each}\n" for each in answers).encode())
        told = run.communicate(timeout=60)[1].decode()
    os.close(ours)
    os.close(theirs)
    assert run.returncode == 0
    job = written()
    assert (job.spec.base_model.model_id, job.spec.method, job.metadata.name) == (
        "Qwen/Qwen2.5-7B-Instruct", "full", "mine",
    )  # fmt: skip
    assert "Method: lora, qlora, full [lora]: " in told
    assert "'lorra': " in told
    assert "Name of the job [qwen2-5-7b-instruct-full]: " in told


def test_whoever_goes_away_leaves_nothing() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([COMMAND, "init"], stdin=theirs, stderr=subprocess.PIPE) as run:
        os.write(ours, b"\x04")
        run.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert run.returncode == 130
    assert list(Path().iterdir()) == []


@settings(max_examples=50)
@given(model=st.text(max_size=80), method=st.sampled_from(["lora", "qlora", "full"]))
def test_a_suggested_name_is_a_name(model: str, method: str) -> None:
    answers = Answers(model="a/b", data="hf://a/b", name=suggested_name(model, method))
    assert problems(answers) == {}


@settings(max_examples=50)
@given(text=st.text(max_size=30))
def test_no_answer_can_break_out_of_its_field(text: str) -> None:
    found = yaml.safe_load(page(Answers(model=text, data=text, source=text, claim=text or "c")))
    assert found["spec"]["baseModel"]["modelId"] == text
    assert found["spec"]["output"]["storage"]["claimName"] == (text or "c")
