"""What people see of a job in a terminal: its events, and `finetuning top`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cluster.jobs import long_run, reached_step, running

if TYPE_CHECKING:
    from tests.cluster.support import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

COMMAND = str(Path(sys.executable).with_name("finetuning"))


def top(workspace: Cluster, *arguments: str) -> str:
    where = ("--once", *(arguments or ("--namespace", workspace.namespace)))
    return workspace.run("env", "COLUMNS=120", COMMAND, "top", *where)


@pytest.mark.long
@pytest.mark.documented
def test_events_and_top_tell_a_jobs_story(workspace: Cluster) -> None:
    with running(workspace, long_run("lora", "told")) as name:
        reached_step(workspace, name, 2)
        lines = top(workspace).splitlines()
        (row,) = [i for i, line in enumerate(lines) if line.startswith(f"{name} ")]
        assert "Running" in lines[row]
        assert "%" in lines[row]
        assert "loss " in lines[row + 1]
        assert "lora · finetuning-examples/tiny-qwen2" in lines[row + 1]
        assert f"{workspace.namespace}/{name} " in top(workspace, "--all-namespaces")
        service = f"/api/v1/namespaces/{workspace.namespace}/services/{name}-metrics:8000"
        scraped = workspace.kubectl("get", "--raw", f"{service}/proxy/metrics")
        assert f'\nfinetuning_training_step{{job_name="{name}"' in scraped

        workspace.kubectl("patch", "ftj", name, "--type=merge", "--patch", PAUSE)
        workspace.wait("the pause", lambda: "Suspended" in reasons(workspace, name), 120)
        workspace.kubectl("patch", "ftj", name, "--type=merge", "--patch", RESUME)
        workspace.wait("the resume", lambda: "TrainingResumed" in reasons(workspace, name), 120)
        told = [each for each in reasons(workspace, name) if each != "ServiceMonitorCRDMissing"]
        assert told[:3] == ["TrainingStarted", "Suspended", "TrainingResumed"]
        described = workspace.kubectl("describe", "ftj", name)
        assert "It had done" in described.partition("Events:")[2]


PAUSE, RESUME = '{"spec": {"suspend": true}}', '{"spec": {"suspend": false}}'


def reasons(workspace: Cluster, name: str) -> list[str]:
    """Of the job's own events, in the order in which they came."""
    uid = workspace.get("finetuningjob", name)["metadata"]["uid"]
    found = workspace.get("events", "", f"--field-selector=involvedObject.uid={uid}")
    found.sort(key=lambda event: int(event["metadata"]["resourceVersion"]))
    return [event["reason"] for event in found]
