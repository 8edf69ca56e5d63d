"""The real lm-evaluation-harness on a model that the real trainer has tuned: `make test-eval`."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file, save_file
from tests.unit.sidecar.test_benchmarks import TASK

from finetuning.artifacts.manifest import seal

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "examples" / "data"

pytestmark = [
    pytest.mark.training,
    # To know the library's own names fourteen thousand files are read.
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("lm_eval") is None, reason="`make test-eval` installs lm-eval"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    make_model = ROOT / "examples" / "tiny-model" / "make_model.py"
    subprocess.run([sys.executable, make_model, "--output", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def tuned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tuned") / "output"
    flags = "--method lora --no-fp16 --max-steps 40 --batch-size 8 --warmup-steps 3"
    command: list[Any] = [
        *(sys.executable, "-m", "finetuning.base.app", "--model-id", base, "--output-dir", output),
        *("--dataset-path", DATA / "train.jsonl", "--learning-rate", "0.003", *flags.split()),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return output


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Each question with its own answer and those of the next two."""
    rows = [json.loads(line) for line in (DATA / "heldout.jsonl").read_text().splitlines()]
    answers = [row["output"] for row in rows]
    lines = [
        {"question": row["instruction"], "choices": (answers * 2)[place : place + 3], "answer": 0}
        for place, row in enumerate(rows)
    ]
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    write_task(folder)
    return folder


def write_task(folder: Path, **change: Any) -> None:
    (folder / "capitals.yaml").write_text(yaml.safe_dump(TASK | change))


def validated(output: Path, base: Path, tasks: Path, names: str = "capitals") -> dict[str, Any]:
    """The check model_output, from the command line, without a network."""
    report = tasks.parent / "report.txt"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "finetuning.monitoring.validate_job", "--model-path", output),
            *("--training-info", output / "training_info.json", "--base-model", base),
            *("--tasks", names, "--include-path", tasks, "--limit", "60", "--max-drop", "0.1"),
            *("--output", report),
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HOME": str(tasks)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    checks = json.loads(report.with_suffix(".json").read_text())["checks"]
    (found,) = (check for check in checks if check["name"] == "model_output")
    return dict(found)


def test_a_tuned_model_is_compared_with_its_base(tuned: Path, base: Path, tasks: Path) -> None:
    found = validated(tuned, base, tasks)
    assert found["result"] == "Pass", found["message"]
    (score,) = found["details"]["benchmarks"]
    assert (score["task"], score["metric"], score["samples"]) == ("capitals", "acc", 60)
    assert score["verdict"] in ("same", "better")
    assert score["base"] > 0.5
    assert f"capitals acc {score['tuned']:.4g}" in found["message"]


def test_a_model_that_forgot_is_blamed(tuned: Path, base: Path, tasks: Path) -> None:
    broken = tasks.parent / "broken"
    subprocess.run(["cp", "-r", tuned, broken], check=True)
    path = broken / "adapter_model.safetensors"
    larger = {name: value * 12 for name, value in load_file(path).items()}
    save_file(larger, path, metadata={"format": "pt"})
    (broken / "manifest.json").unlink()
    seal(broken, [each.name for each in broken.iterdir() if each.is_file()])
    found = validated(broken, base, tasks)
    assert (found["result"], found["reason"]) == ("Fail", "BenchmarkWorse"), found["message"]
    assert found["numbers"]["drop"] > 0.1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"doc_to_text": "{{ ''.__class__.__mro__[1].__subclasses__() }}"}, "SecurityError"),
        ({"metric_list": [{"metric": "./program"}]}, "none of the library's own"),
        ({"task": "of_another_name"}, "capitals"),
    ],
    ids=["a template that reaches for Python", "a metric that is a program", "no such task"],
)
def test_what_cannot_be_run_is_told_and_never_passes(
    change: dict[str, Any], says: str, tuned: Path, base: Path, tasks: Path
) -> None:
    write_task(tasks, **change)
    found = validated(tuned, base, tasks)
    assert (found["result"], found["reason"]) == ("Error", "BenchmarksNotCompared")
    assert says in found["message"]


def test_a_task_of_the_library_needs_its_rows(tuned: Path, base: Path, tasks: Path) -> None:
    found = validated(tuned, base, tasks, "arc_easy")
    assert found["reason"] == "BenchmarksNotCompared"
    assert "arc" in found["message"]
