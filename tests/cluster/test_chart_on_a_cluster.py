"""The chart's life on a real cluster: upgrade, uninstall, install again, and who may do what."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from tests.cluster.crd_cases import minimal
from tests.cluster.jobs import condition
from tests.cluster.support import OPERATOR_NAMESPACE, ROOT, Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(600)]

RELEASE = "finetuning-operator"
DEPLOYMENT = "deployment/finetuning-operator"
ACCOUNT = f"system:serviceaccount:{OPERATOR_NAMESPACE}:finetuning-operator"


@pytest.fixture
def system(operator: Cluster) -> Iterator[Cluster]:
    """The release's namespace; the release is as `make deploy` makes it when the test ends."""
    yield operator
    operator.run(sys.executable, "-m", "hack.deploy")


@pytest.fixture
def job(scratch: Cluster) -> Iterator[str]:
    name = "outlives-the-operator"
    manifest = minimal() | {"metadata": {"name": name}}
    manifest["spec"] = manifest["spec"] | {"suspend": True}
    scratch.apply(manifest)
    yield name
    scratch.kubectl("delete", "ftj", name, "--timeout=60s")


def phase(cluster: Cluster, name: str) -> str:
    return str((cluster.get("ftj", name).get("status") or {}).get("phase", ""))


def test_an_upgrade_changes_definition_and_values_and_keeps_the_jobs(
    system: Cluster, scratch: Cluster, job: str, tmp_path: Path
) -> None:
    chart = shutil.copytree(ROOT / "charts" / RELEASE, tmp_path / "chart")
    template = chart / "templates" / "crd.yaml"
    told = "Rank of the adapter matrices"
    template.write_text(template.read_text().replace(told, "Width of the adapter matrices"))
    before = scratch.get("ftj", job)["metadata"]["uid"]

    system.run(
        "helm", "upgrade", RELEASE, str(chart), "--namespace", OPERATOR_NAMESPACE,
        "--reuse-values", "--set", "gpuModel=MI300X", "--wait", "--timeout", "3m",
    )  # fmt: skip

    scratch.wait(
        "the new words in kubectl explain",
        lambda: "Width of the adapter" in scratch.kubectl("explain", "ftj.spec.loraConfig.r"),
        60,
    )
    assert scratch.get("ftj", job)["metadata"]["uid"] == before
    memory_is_judged_before_a_gpu_is_requested(scratch)


def memory_is_judged_before_a_gpu_is_requested(scratch: Cluster) -> None:
    """A job that waits, of a model whose shape is known by name, on nodes whose GPU is known."""
    manifest = minimal() | {"metadata": {"name": "my-job"}}
    known = {"modelId": "Qwen/Qwen2.5-7B-Instruct"}
    manifest["spec"] = manifest["spec"] | {"suspend": True, "baseModel": known}
    scratch.apply(manifest)
    wait = ("--for=condition=MemorySufficient", "--timeout=30s")
    assert "condition met" in scratch.kubectl("wait", "ftj/my-job", *wait)
    found = condition(scratch.get("ftj", "my-job")["status"], "MemorySufficient")
    assert found["reason"] == "EstimateFits"
    assert scratch.get("pods", "", "--selector=finetuning.aim.amd.com/job-name=my-job") == []
    scratch.kubectl("delete", "ftj", "my-job", "--timeout=60s")


def test_jobs_survive_an_uninstall_and_are_served_again(
    system: Cluster, scratch: Cluster, job: str
) -> None:
    scratch.wait("the job is paused", lambda: phase(scratch, job) == "Paused", 60)
    told = system.run("helm", "uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait")
    assert "[CustomResourceDefinition] finetuningjobs.aim.amd.com" in told
    assert system.get("deployment", RELEASE) is None
    assert phase(scratch, job) == "Paused"

    late = minimal() | {"metadata": {"name": "came-meanwhile"}}
    late["spec"] = late["spec"] | {"suspend": True}
    scratch.apply(late)
    system.run(sys.executable, "-m", "hack.deploy")
    scratch.wait("the job is served", lambda: phase(scratch, "came-meanwhile") == "Paused", 120)
    scratch.kubectl("delete", "ftj", "came-meanwhile", "--timeout=60s")


def test_the_notes_name_things_that_exist(operator: Cluster) -> None:
    notes = operator.run("helm", "get", "notes", RELEASE, "--namespace", OPERATOR_NAMESPACE)
    assert f"kubectl --namespace {OPERATOR_NAMESPACE} rollout status {DEPLOYMENT}" in notes
    manifest = notes.partition("<<END\n")[2].partition("  END")[0]
    operator.kubectl("create", "--dry-run=server", "--filename", "-", stdin=manifest)


def allowed(cluster: Cluster, action: str, *options: str) -> str:
    """`yes` or `no`, as kubectl says it."""
    words = cluster.kubectl("auth", "can-i", *action.split(), *options, check=False)
    return next(line for line in words.splitlines() if not line.startswith("Warning"))


@pytest.mark.parametrize(
    "action",
    [
        "get secrets",
        "get configmaps",
        "get pods/log",
        "create pods",
        "create pods/exec",
        "delete jobs.batch",
        "patch finetuningjobs",
        "delete finetuningjobs",
        "create rolebindings",
        "impersonate users",
        "list nodes",
    ],
)
def test_the_operator_may_not(operator: Cluster, action: str) -> None:
    assert allowed(operator, action, "--as", ACCOUNT, "--all-namespaces") == "no"


@pytest.mark.parametrize(
    ("role", "action", "answer"),
    [
        ("edit", "create finetuningjobs", "yes"),
        ("edit", "delete finetuningjobs", "yes"),
        ("edit", "patch finetuningjobs --subresource=status", "no"),
        ("view", "get finetuningjobs", "yes"),
        ("view", "list finetuningjobs", "yes"),
        ("view", "create finetuningjobs", "no"),
    ],
)
def test_the_clusters_own_roles_cover_jobs(
    scratch: Cluster, role: str, action: str, answer: str
) -> None:
    binding = scratch.kubectl(
        "create", "rolebinding", f"{role}-user", f"--clusterrole={role}", f"--user={role}-user",
        "--dry-run=client", "--output=yaml",
    )  # fmt: skip
    scratch.apply(binding)
    scratch.wait(
        f"{role} may {action}: {answer}",
        lambda: allowed(scratch, action, f"--as={role}-user") == answer,
        30,
    )
