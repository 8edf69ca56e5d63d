"""The `finetuning` command as people type it: real processes."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.cost import cpu_seconds, import_of_pydantic

COMMAND = Path(sys.executable).with_name("finetuning")


def finetuning(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )


def test_help_names_the_commands() -> None:
    done = finetuning("--help")
    assert done.returncode == 0
    assert "run a FineTuningJob on this machine, without a cluster" in done.stdout
    assert "version" in done.stdout


def test_help_of_run_has_examples_and_exit_codes() -> None:
    done = finetuning("run", "--help")
    assert done.returncode == 0
    assert "finetuning run job.yaml --claims base-models=/data/models" in done.stdout
    assert "exit codes:" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 100


def test_help_is_quicker_than_reading_a_job_could_be() -> None:
    # 0.8 of it, and both vary by a fifth on a busy machine.
    assert cpu_seconds(str(COMMAND), "run", "--help") < 1.5 * import_of_pydantic()


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, finetuning.cli.__main__ as cli\n"
        "cli.parser().format_help()\n"
        "print([m for m in ('pydantic', 'rich', 'yaml', 'torch', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_run_needs_neither_a_cluster_client_nor_the_operators_libraries() -> None:
    code = (
        "import sys\n"
        "for name in ('kubernetes', 'kopf', 'aiohttp', 'torch', 'transformers'):\n"
        "    sys.modules[name] = None\n"
        "import finetuning.local.run"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("word", ["version", "--version"])
def test_the_version_is_the_distributions(word: str) -> None:
    done = finetuning(word)
    assert (done.returncode, done.stdout.strip()) == (
        0,
        importlib.metadata.version("finetuning-operator"),
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "required: command"),
        (("rum",), "invalid choice: 'rum'"),
        (("run",), "required: job.yaml"),
        (("run", "job.yaml", "--claims", "models"), "'models' must be NAME=PATH"),
        (("run", "job.yaml", "--configmap", "=x"), "'=x' must be NAME=PATH"),
        (("run", "job.yaml", "--metrics-port", "0"), "'0' must be a port from 1 to 65535"),
        (("run", "job.yaml", "--metrics-port", "x"), "'x' must be a port from 1 to 65535"),
        (("run", "nowhere.yaml"), "finetuning: nowhere.yaml: no such file"),
    ],
)
def test_a_wrong_command_says_what_is_wrong_with_exit_code_2(
    arguments: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    done = finetuning(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_manifest_is_one_line_with_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "apiVersion: aim.amd.com/v1alpha1\nkind: FineTuningJob\nmetadata: {name: x}\n"
        "spec:\n  method: lorra\n  baseModel: {modelId: a/b}\n  dataset: {source: hf://a/b}\n"
    )
    done = finetuning("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        'finetuning: job.yaml:5: spec.method: Unsupported value: "lorra": supported values: '
        '"lora", "qlora", "full"; did you mean "lora"?\n'
    )
    assert done.stdout == ""


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "apiVersion: aim.amd.com/v1alpha1\nkind: FineTuningJob\nmetadata: {name: x}\n"
        "spec:\n  baseModel: {modelId: a/b}\n  dataset: {source: hf://a/b}\n"
    )
    done = finetuning("run", "job.yaml", "--output", "/proc/nowhere/out", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("choose another folder with --output DIR\n")
