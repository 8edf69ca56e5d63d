"""What the operator does when it is killed, and what it costs the API server when it is not."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from tests.cluster.jobs import brief, condition, example, judged, reached_step, running
from tests.cluster.support import OPERATOR_NAMESPACE, STATE, Cluster, kill_container

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:finetuning-operator"
WRITES = ("create", "update", "patch", "delete")


def operator_pod(system: Cluster) -> dict[str, Any]:
    selector = "app.kubernetes.io/name=finetuning-operator"
    pods = system.get("pods", "", "--selector", selector, "--field-selector=status.phase=Running")
    return dict(pods[0])


def restarts(pod: dict[str, Any]) -> int:
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def audited(namespace: str, name: str, created: str) -> Iterator[dict[str, Any]]:
    """The operator's writes on one job and its children, in order.

    The log outlives the tests: what came before `created` was about another job of that name.
    """
    begun = created.removesuffix("Z")
    with (STATE / "audit.log").open() as log:
        for line in log:
            event = json.loads(line)
            at = event.get("objectRef", {})
            mine = event["user"]["username"] == OPERATOR_USER and event["verb"] in WRITES
            about = str(at.get("name", "")) + str(event.get("requestObject", ""))
            now = event["requestReceivedTimestamp"] >= begun
            if mine and now and at.get("namespace") == namespace and name in about:
                yield event


@pytest.mark.alone
@pytest.mark.fault(
    "Operator killed during a training (kubelet)",
    "same Job, same end",
)
def test_sigkill_during_training_loses_nothing_and_doubles_nothing(
    workspace: Cluster, operator: Cluster
) -> None:
    with running(workspace, example("lora", "orphaned")) as name:
        reached_step(workspace, name, 2)
        before = operator_pod(operator)
        uid = workspace.get("job", f"{name}-train")["metadata"]["uid"]
        kill_container(before, "operator")

        def restarted() -> bool:
            return restarts(operator_pod(operator)) > restarts(before)

        operator.wait("the operator's restart", restarted, 90)
        seen = judged(workspace, name)
        assert seen["phase"] == "Succeeded"
        assert condition(seen, "Validated")["status"] == "True"
        jobs = workspace.get("jobs", "", "--selector", f"finetuning.aim.amd.com/job-name={name}")
        assert sorted(j["metadata"]["name"] for j in jobs) == [f"{name}-train", f"{name}-validate"]
        assert workspace.get("job", f"{name}-train")["metadata"]["uid"] == uid


def test_a_job_costs_few_writes_and_a_finished_one_none(
    workspace: Cluster, operator: Cluster, record_property: Any
) -> None:
    with running(workspace, brief("lora", "counted")) as name:
        judged(workspace, name)
        begun = workspace.get("finetuningjob", name)["metadata"]["creationTimestamp"]
        events = list(audited(workspace.namespace, name, begun))
        kinds = Counter(
            (e["verb"], e["objectRef"]["resource"], e["objectRef"].get("subresource", ""))
            for e in events
        )
        record_property("writes", str(kinds))
        created = {r for (verb, r, _), n in kinds.items() if verb == "create" or r != "events"}
        assert {"jobs", "services", "persistentvolumeclaims"} <= created
        assert kinds["create", "jobs", ""] == 2
        status_writes = kinds["patch", "finetuningjobs", "status"]
        others = sum(kinds.values()) - status_writes
        others -= sum(n for (_, resource, _), n in kinds.items() if resource == "events")
        assert others <= 5, kinds
        assert status_writes <= 10, kinds


@pytest.mark.long
@pytest.mark.fault(
    "Metrics sidecar killed (kubelet)",
    "no restart of the training",
)
def test_killing_the_metrics_sidecar_does_not_harm_the_training(workspace: Cluster) -> None:
    with running(workspace, example("lora", "no-sidecar")) as name:
        reached_step(workspace, name, 2)
        selector = f"finetuning.aim.amd.com/job-name={name}"
        kill_container(workspace.get("pods", "", "--selector", selector)[0], "metrics")
        seen = judged(workspace, name)
        assert (seen["phase"], seen.get("restarts", 0)) == ("Succeeded", 0)
