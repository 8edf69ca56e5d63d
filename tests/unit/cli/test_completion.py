"""Completion in a real shell, and the name under which kubectl finds the command."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.client.server import Api, served

BIN = Path(sys.executable).parent
IN_BASH = """
source <(finetuning completion bash)
COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9 COMP_WORDBREAKS=$' \\t\\n"=><'
read -ra COMP_WORDS <<< "$1"
COMP_CWORD=${#COMP_WORDS[@]}
_python_argcomplete finetuning
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    found = Api()
    with served(found, tmp_path / "kubeconfig"):
        yield found


def completed(line: str, tmp_path: Path) -> list[str]:
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
    }
    done = subprocess.run(
        ["bash", "-c", IN_BASH, "bash", line],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [word.strip() for word in done.stdout.splitlines()]


def test_bash_completes_commands_options_and_names_of_jobs(api: Api, tmp_path: Path) -> None:
    api.keep("mine")
    api.keep("mood")
    api.keep("theirs", namespace="other")
    assert completed("finetuning pau", tmp_path) == ["pause"]
    assert completed("finetuning list --all", tmp_path) == ["--all-namespaces"]
    assert completed("finetuning logs m", tmp_path) == ["mine", "mood"]
    assert completed("finetuning logs -n other t", tmp_path) == ["theirs"]


def test_a_silent_cluster_completes_nothing_and_says_nothing(tmp_path: Path) -> None:
    assert completed("finetuning logs m", tmp_path) == [""]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_code(shell: str) -> None:
    done = subprocess.run(
        [str(BIN / "finetuning"), "completion", shell], capture_output=True, text=True, check=True
    )
    assert "complete" in done.stdout
    assert "finetuning" in done.stdout


def test_kubectl_is_told_what_may_be_typed(api: Api, tmp_path: Path) -> None:
    """In kubectl's own way: a word a line, its help behind a tab, and how the shell goes on."""
    api.keep("mine")
    api.keep("mood")

    def told(*words: str) -> list[str]:
        command = [str(BIN / "kubectl_complete-finetune"), *words]
        environment = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig")}
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    assert told("pau") == ["pause\tsave a job's work and free its GPU", ":4"]
    assert told("logs", "") == ["mine", "mood", ":4"]
    assert told("list", "--all") == ["--all-namespaces\tof all namespaces", ":4"]
    assert told("get", "x", "-o", "y") == ["yaml\tanother form than a page", ":4"]
    assert len(told("")) > 10
    (tmp_path / "manifests").mkdir()
    assert told("submit", "mani") == ["manifests/", ":6"]


def test_under_kubectls_name_it_speaks_of_kubectl() -> None:
    command = [str(BIN / "kubectl-finetune"), "get", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: kubectl finetune get [-h]")
