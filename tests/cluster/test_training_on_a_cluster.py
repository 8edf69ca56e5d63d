"""The operator against a real API server, scheduler and kubelet, with real optimizer steps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.cluster.jobs import (
    brief,
    condition,
    ended,
    example,
    judged,
    long_run,
    reached_step,
    running,
    slowed,
    status,
)
from tests.cluster.jobs import with_spec as changed

from finetuning.controller import naming

if TYPE_CHECKING:
    from tests.cluster.support import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

CHECKS = ("training_loss", "model_output", "checkpoint_integrity", "aim_profile")


def children(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    selector = f"finetuning.aim.amd.com/job-name={name}"
    kinds = "jobs,pods,services,persistentvolumeclaims"
    return list(cluster.get(kinds, "", "--selector", selector))


# lora, which the tutorial is about, is trained by its test.
@pytest.mark.parametrize("method", ["full", "qlora"])
def test_a_job_trains_and_its_model_passes_validation(workspace: Cluster, method: str) -> None:
    # No Service can be called so: a name with a dot, and a digit in front.
    named = f"7.happy-{method}" if method == "full" else f"happy-{method}"
    # On a whole core of a quiet machine all steps are over before anybody looks.
    with running(workspace, slowed(brief(method, named), "400m")) as name:
        first = reached_step(workspace, name)
        assert first["phase"] == "Running"
        assert first["totalSteps"] >= 100
        seen = judged(workspace, name)

        assert seen["phase"] == "Succeeded"
        assert seen["progress"] == "100%"
        assert seen["currentStep"] == seen["totalSteps"]
        assert seen["trainLoss"] < first.get("trainLoss", 100)
        assert [c["name"] for c in seen["validation"]["checks"]] == list(CHECKS)
        assert "Summary: 4/4 checks passed" in seen["validation"]["report"], seen["validation"]
        assert seen["validation"]["phase"] == "Passed"
        for kind in ("Complete", "Validated", "Ready", "ConfigValid"):
            found = condition(seen, kind)
            assert found["status"] == "True", found
            assert found["observedGeneration"] == 1
        for field in ("checkpointPath", "modelPath", "aimProfilePath"):
            assert seen[field].startswith(f"pvc://{naming.names(name).claim}"), field
        for kind in ("Validated", "Ready"):
            assert "condition met" in workspace.kubectl(
                "wait", f"--for=condition={kind}", f"ftj/{name}", "--timeout=5s"
            )
        columns = workspace.kubectl("get", "ftj", name, "--output", "wide").splitlines()
        assert columns[0].split()[:5] == ["NAME", "PHASE", "METHOD", "MODEL", "PROGRESS"]
        assert columns[1].split()[1:3] == ["Succeeded", method]


def test_a_broken_line_in_the_data_fails_the_job_with_its_number(workspace: Cluster) -> None:
    source = {"source": "configmap:finetuning-demo-data:broken.jsonl"}
    with running(workspace, changed(example("lora", "bad-data"), dataset=source)) as name:
        seen = ended(workspace, name, 120)
        assert (seen["phase"], seen["reason"]) == ("Failed", "DatasetInvalid")
        assert "line 17" in seen["message"]
        assert seen.get("restarts", 0) <= 1
        assert condition(seen, "Failed")["status"] == condition(seen, "Stalled")["status"] == "True"
        job = workspace.get("job", f"{name}-train")
        assert job["status"]["failed"] == 1, "wrong data is not tried again"


def test_an_empty_data_set_and_a_missing_key_say_what_to_do(workspace: Cluster) -> None:
    source = {"source": "configmap:finetuning-demo-data:empty.jsonl"}
    with running(workspace, changed(example("lora", "no-rows"), dataset=source)) as name:
        seen = ended(workspace, name, 120)
        assert seen["reason"] == "DatasetInvalid"
        assert "empty" in seen["message"]


def test_a_model_that_is_not_in_its_claim_fails_with_the_folder(workspace: Cluster) -> None:
    model = {"source": "pvc://tiny-model/no-such-folder"}
    with running(workspace, changed(example("lora", "no-model"), baseModel=model)) as name:
        seen = ended(workspace, name, 120)
        assert (seen["phase"], seen["reason"]) == ("Failed", "ModelUnavailable")
        assert "no-such-folder" in seen["message"]


def test_a_claim_that_does_not_exist_is_named_while_the_job_waits(workspace: Cluster) -> None:
    model = {"source": "pvc://no-such-claim/tiny-qwen2"}
    with running(workspace, changed(example("lora", "no-claim"), baseModel=model)) as name:

        def named() -> bool:
            return "no-such-claim" in status(workspace, name).get("message", "")

        workspace.wait("the missing claim in the message", named, 60)
        assert status(workspace, name)["phase"] == "Pending"


def test_more_gpus_than_the_cluster_has_shows_unschedulable(workspace: Cluster) -> None:
    many = {"limits": {"amd.com/gpu": 64}, "requests": {"amd.com/gpu": 64}}
    with running(workspace, changed(example("lora", "greedy"), resources=many)) as name:

        def named() -> bool:
            return status(workspace, name).get("reason") == "Unschedulable"

        workspace.wait("reason Unschedulable", named, 60)
        assert "amd.com/gpu" in status(workspace, name)["message"]


@pytest.mark.fault("Running job deleted (kubelet)", "everything of it goes")
def test_deleting_a_running_job_removes_everything(workspace: Cluster) -> None:
    with running(workspace, long_run("lora", "deleted")) as name:
        reached_step(workspace, name, 3)
        assert {c["kind"] for c in children(workspace, name)} >= {"Job", "Pod", "Service"}
        workspace.kubectl("delete", "ftj", name)
        workspace.wait("no children left", lambda: not children(workspace, name), 180)


@pytest.mark.long
@pytest.mark.fault(
    "Pause and resume (kubelet)",
    "goes on at its step",
)
def test_suspend_saves_and_frees_the_gpu_and_resume_goes_on_there(workspace: Cluster) -> None:
    manifest = changed(example("lora", "paused"), hyperparameters={"saveSteps": 10})
    with running(workspace, manifest) as name:
        reached_step(workspace, name, 5)
        workspace.kubectl("patch", "ftj", name, "--type=merge", "--patch", _suspend(True))
        workspace.wait("Paused", lambda: status(workspace, name).get("phase") == "Paused", 120)
        gone = lambda: not [c for c in children(workspace, name) if c["kind"] == "Pod"]  # noqa: E731
        workspace.wait("no pod left", gone, 120)
        workspace.kubectl("patch", "ftj", name, "--type=merge", "--patch", _suspend(False))
        seen = judged(workspace, name)
        assert seen["phase"] == "Succeeded"
        assert seen["validation"]["summary"].startswith("4/4"), seen["validation"]


def _suspend(value: bool) -> str:  # noqa: FBT001
    return json.dumps({"spec": {"suspend": value}})
