"""The commands with the packages that `pip install finetuning-operator` brings, and no others."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from finetuning.jobs import judging

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / part for part in ("operator", "trainer", "sidecar")]
EXTRA = "the operator's libraries are needed: pip install 'finetuning-operator[operator]'"
COMMANDS = {
    "list": (2, EXTRA),
    "submit job.yaml": (2, EXTRA),
    "doctor": (2, EXTRA),
    "top -n team": (2, EXTRA),
    "top --runs .": (1, "holds no run"),
    f"run {ROOT}/examples/finetuningjob-lora.yaml": (2, "'finetuning-operator[trainer]'"),
    f"estimate {ROOT}/examples/qwen2.5-7b-lora.yaml": (0, "It fits."),
    "init --model a/b --data hf://a/b -": (0, "kind: FineTuningJob"),
    "report no-run": (2, "no-run"),
    "validate --local no-run": (2, "training_info.json"),
    "completion bash": (0, "complete"),
}
ALL = """
import contextlib, io, json, sys, traceback
from finetuning.cli.__main__ import main

def told(command):
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
        try:
            code = main(command.split())
        except Exception:
            return None, traceback.format_exc()
    return code, said.getvalue()

print(json.dumps({command: told(command) for command in sys.argv[1:]}))
"""
"""What each command ends with and says; in one process, for its libraries take their time."""


def brought(name: str, found: set[str]) -> set[str]:
    """A distribution and all that it needs without any extra."""
    if name not in found:
        found.add(name)
        for line in distribution(name).requires or ():
            needed, _, condition = line.partition(";")
            if "extra ==" not in condition and "sys_platform" not in condition:
                brought(re.split(r"[^\w.-]", needed)[0], found)
    return found


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with these packages, as they lie in this environment."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name in brought("finetuning-operator", set()):
        found = distribution(name)
        tops = {file.parts[0] for file in found.files or () if file.parts[0] != ".."}
        for top in tops - {"__pycache__", "finetuning"}:
            (folder / top).symlink_to(Path(str(found.locate_file(top))))
    return folder


def test_each_command_works_or_names_what_is_to_be_installed(site: Path, tmp_path: Path) -> None:
    done = alone(site, tmp_path, "-c", ALL, *COMMANDS)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for command, (code, words) in COMMANDS.items():
        found, said = told[command]
        assert (found, words in said) == (code, True), (command, said)


def alone(site: Path, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A module's own command, with these packages and no others."""
    path = os.pathsep.join(map(str, [site, *SOURCES]))
    return subprocess.run(
        [sys.executable, "-S", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_result_is_judged_as_far_as_that_goes_without_torch(site: Path, tmp_path: Path) -> None:
    """As `finetuning validate --local` has it judged: checks that read files need no torch."""
    (tmp_path / "training_info.json").write_text("{}")
    _, *words = judging.command(tmp_path, None, tmp_path / "report.txt")
    done = alone(site, tmp_path, *words)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "training_loss" in (tmp_path / "report.txt").read_text()


def test_what_publishes_says_what_it_lacks(site: Path, tmp_path: Path) -> None:
    done = alone(site, tmp_path, "-m", "finetuning.publish", "--model-path", ".")
    assert done.returncode == 2, done.stderr
    assert "pip install 'finetuning-operator[trainer]'" in done.stderr
    assert "Traceback" not in done.stderr
