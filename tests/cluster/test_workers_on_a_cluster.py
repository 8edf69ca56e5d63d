"""Two pods with two processes each train one model; a lost pod costs a restart, not the run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.cluster.jobs import condition, example, judged, reached_step, running, status
from tests.cluster.jobs import with_spec as changed
from tests.cluster.support import kill_container

if TYPE_CHECKING:
    from tests.cluster.support import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

INDEX = "batch.kubernetes.io/job-completion-index"


def group(name: str, **hyperparameters: Any) -> dict[str, Any]:
    """As many rows in a step as one process has with batchSize 8; one node, so one may write."""
    manifest = changed(
        example("lora", name),
        workers=2,
        processesPerWorker=2,
        hyperparameters={"batchSize": 2, "saveSteps": 20, **hyperparameters},
    )
    manifest["spec"]["output"]["storage"]["accessMode"] = "ReadWriteOnce"
    return manifest


def long_run(name: str) -> dict[str, Any]:
    """With one process in each pod: what is lost or paused here is pods."""
    steps = {"batchSize": 4, "maxSteps": 5000, "epochs": 1000}
    return changed(group(name, **steps), processesPerWorker=1, validation={"enabled": False})


def pods(cluster: Cluster, name: str) -> dict[str, dict[str, Any]]:
    """The live training pods by their index."""
    selector = f"finetuning.aim.amd.com/job-name={name},app.kubernetes.io/component=training"
    found = cluster.get("pods", "", "--selector", selector)
    live = [pod for pod in found if pod["status"]["phase"] in ("Pending", "Running")]
    return {pod["metadata"]["labels"][INDEX]: pod for pod in live}


def uids(found: dict[str, dict[str, Any]]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in found.values()}


@pytest.mark.long
@pytest.mark.documented
def test_two_pods_of_two_processes_train_a_model_that_passes_validation(
    workspace: Cluster,
) -> None:
    """The example's pods, whose four processes hold a quarter of the model each.

    The others of these tests have it whole.
    """
    quarters = {"batchSize": 2, "epochs": 6, "fsdp": True}
    pair = changed(example("workers", "pair"), processesPerWorker=2, hyperparameters=quarters)
    with running(workspace, pair) as name:
        first = reached_step(workspace, name)
        assert first["phase"] == "Running"
        said = workspace.kubectl("logs", f"job/{name}-train", "--all-pods", "--prefix")
        assert "with 4 processes, each with a part of the model," in said
        assert set(pods(workspace, name)) == {"0", "1"}
        told = condition(first, "OutputShared")
        assert (told["status"], told["reason"]) == ("False", "OneNodeOnly")
        scraped = workspace.get("service", f"{name}-metrics")["spec"]["selector"]
        assert scraped[INDEX] == "0"

        seen = judged(workspace, name)
        assert seen["phase"] == "Succeeded"
        assert seen["currentStep"] == seen["totalSteps"]
        assert seen.get("restarts", 0) == 0
        assert "Summary: 4/4 checks passed" in seen["validation"]["report"], seen["validation"]
        job = workspace.get("job", f"{name}-train")
        assert job["spec"]["completionMode"] == "Indexed"
        assert job["status"]["succeeded"] == 2
        columns = workspace.kubectl("get", "ftj", name, "--output", "wide").splitlines()
        assert "WORKERS" in columns[0]


@pytest.mark.long
@pytest.mark.fault(
    "Worker of a group killed (kubelet)", "the group goes on from the newest checkpoint"
)
def test_a_killed_worker_restarts_the_group_from_the_newest_checkpoint(
    workspace: Cluster,
) -> None:
    with running(workspace, long_run("lost")) as name:
        reached_step(workspace, name, 25)
        before = pods(workspace, name)
        kill_container(before["1"], "finetuning")

        def replaced() -> bool:
            now = pods(workspace, name)
            return set(now) == {"0", "1"} and not uids(now) & uids(before)

        workspace.wait("two new pods", replaced, 300)
        lost = status(workspace, name)
        reached_step(workspace, name, max(lost["currentStep"], 20) + 20)
        assert status(workspace, name)["restarts"] >= 1
        said = workspace.kubectl("logs", pods(workspace, name)["0"]["metadata"]["name"])
        assert "Continuing from checkpoint-" in said


@pytest.mark.long
@pytest.mark.fault(
    "Group paused, then one of its pods drained (kubelet)",
    "all leave with their work saved and go on from there; no restart is counted",
)
def test_a_pause_and_a_drain_save_the_work_of_all_and_count_as_no_restart(
    workspace: Cluster,
) -> None:
    with running(workspace, long_run("rest")) as name:
        reached_step(workspace, name, 5)
        _suspend(workspace, name, wanted=True)
        workspace.wait("Paused", lambda: status(workspace, name).get("phase") == "Paused", 200)
        workspace.wait("no pod left", lambda: not pods(workspace, name), 200)
        paused = status(workspace, name)
        _suspend(workspace, name, wanted=False)
        reached_step(workspace, name, paused["currentStep"] + 5)
        before = pods(workspace, name)
        assert "Continuing from checkpoint-" in _said(workspace, before)
        _evict(workspace, before["1"])

        def replaced() -> bool:
            now = pods(workspace, name)
            return set(now) == {"0", "1"} and not uids(now) & uids(before)

        workspace.wait("two new pods", replaced, 300)
        left = status(workspace, name)
        reached_step(workspace, name, left["currentStep"] + 5)
        said = _said(workspace, pods(workspace, name))
        assert f"Continuing from checkpoint-{left['currentStep']}." in said
        assert status(workspace, name).get("restarts", 0) == 0
        assert not workspace.get("job", f"{name}-train")["status"].get("failed")


def _said(cluster: Cluster, found: dict[str, dict[str, Any]]) -> str:
    return cluster.kubectl("logs", found["0"]["metadata"]["name"])


def _evict(cluster: Cluster, pod: dict[str, Any]) -> None:
    """As `kubectl drain` does it to each pod of a node."""
    meta = {"name": pod["metadata"]["name"], "namespace": cluster.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction"
    cluster.kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))


def _suspend(cluster: Cluster, name: str, *, wanted: bool) -> None:
    patch = json.dumps({"spec": {"suspend": wanted}})
    cluster.kubectl("patch", "ftj", name, "--type=merge", "--patch", patch)
