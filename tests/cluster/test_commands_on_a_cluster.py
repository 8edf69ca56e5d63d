"""The `finetuning` command against the real API server, operator and kubelet."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.cluster.jobs import brief, example, long_run, reached_step
from tests.cluster.support import STATE

from finetuning.cli.__main__ import main

if TYPE_CHECKING:
    from tests.cluster.support import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def _known_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(STATE / "kubeconfig"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def finetuning(*arguments: str, code: int = 0) -> str:
    """Both streams of the command, which must end with this exit code; without a new process."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        found = main(arguments)
    assert found == code, told.getvalue()
    return told.getvalue()


def test_a_jobs_life_by_the_command_line(workspace: Cluster, tmp_path: Path) -> None:
    here = ("-n", workspace.namespace)
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(long_run("lora", "typed")))
    assert "would be created" in finetuning("submit", str(job), "--dry-run", *here)
    assert "typed created" in finetuning("submit", str(job), *here)
    assert "exists" in finetuning("submit", str(job), *here, code=1)
    try:
        reached_step(workspace, "typed", 2)
        # The resource definition's columns: kubectl must show the very same.
        ours = finetuning("list", "-o", "wide", *here).splitlines()[0].split()
        theirs = workspace.kubectl("get", "ftj", "-o", "wide").splitlines()[0].split()
        assert ours == theirs
        assert "step" in finetuning("logs", "typed", *here)
        assert finetuning("logs", "typed", "--of", "sidecar", "--tail", "1", *here)
        assert "typed is Paused" in finetuning(
            "pause", "typed", "--wait", "--timeout", "200", *here
        )
        assert "a model is judged when" in finetuning("validate", "typed", *here, code=1)
        assert "typed resumes" in finetuning("resume", "typed", *here)
        assert (
            json.loads(finetuning("get", "typed", "-o", "json", *here))["spec"]["suspend"] is False
        )
        assert "deleted with its claim typed-output" in finetuning("cancel", "typed", *here, code=2)
    finally:
        assert "deleted" in finetuning("cancel", "typed", "--yes", *here)
    assert 'no FineTuningJob "typed"' in finetuning("get", "typed", *here, code=1)


@pytest.mark.long
def test_a_pipeline_gets_the_verdict(workspace: Cluster, tmp_path: Path) -> None:
    here = ("-n", workspace.namespace)
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(brief("lora", "piped")))
    try:
        told = finetuning("submit", str(job), "--wait", "--timeout", "600", *here)
        assert "Summary: 4/4 checks passed" in told
        assert "Summary: 4/4 checks passed" in finetuning("get", "piped", *here)
        assert "Summary: 4/4 checks passed" in finetuning("validate", "piped", *here)
        assert "4/4 checks passed" in finetuning("logs", "piped", "--of", "validation", *here)
    finally:
        finetuning("cancel", "piped", "--yes", *here)


def test_the_api_servers_own_words_end_with_exit_code_2(workspace: Cluster, tmp_path: Path) -> None:
    manifest = example("lora", "labelled")
    manifest["metadata"]["labels"] = {"team": "not a label"}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(manifest))
    where = (str(tmp_path / "job.yaml"), "-n", workspace.namespace)
    assert "not a label" in finetuning("submit", *where, code=2)


def test_kubectl_takes_it_for_its_own(operator: Cluster) -> None:
    """kubectl itself finds the plugin on PATH."""
    path = f"PATH={Path(sys.executable).parent}:{STATE / 'bin'}:{os.environ['PATH']}"
    assert "kubectl-finetune" in operator.run("env", path, "kubectl", "plugin", "list")
    completed = operator.run("env", path, "kubectl", "__complete", "finetune", "pau")
    assert completed.startswith("pause\t")

    def alike() -> bool:
        """Other tests make jobs and delete them between the two."""
        ours = operator.run("env", path, "kubectl", "finetune", "list", "-A", "-o", "name")
        theirs = operator.run("kubectl", "get", "ftj", "-A", "-o", "name")
        return sorted(ours.split()) == sorted(theirs.split())

    operator.wait("the same jobs in both lists", alike, 60)


def test_the_doctor_finds_this_cluster_well(operator: Cluster) -> None:
    found = {each["about"]: each for each in json.loads(finetuning("doctor", "-o", "json"))}
    results = {about: each["result"] for about, each in found.items()}
    # Prometheus Operator's kinds come and go with other tests.
    assert results.pop("monitoring") in {"ok", "note"}
    assert set(results.values()) == {"ok"}, found
    assert "amd.com/gpu" in found["GPUs"]["told"]


def test_the_doctor_tells_what_a_login_may_not(scratch: Cluster, tmp_path: Path) -> None:
    """A service account without any right sees little, and is told whom to ask."""
    scratch.kubectl("create", "serviceaccount", "nobody")
    token = scratch.kubectl("create", "token", "nobody").strip()
    config = yaml.safe_load((STATE / "kubeconfig").read_text())
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    where = ("--kubeconfig", str(tmp_path / "kubeconfig"), "-n", scratch.namespace)
    told = finetuning("doctor", *where, code=1)
    assert "this login may not get finetuningjobs" in told
    assert "create rolebinding" in told
    assert "? GPUs" in told
    assert "✓ definition" in told
    assert "1 of 7 wrong." in told
    assert finetuning("list", *where, code=1).count("\n") == 1
