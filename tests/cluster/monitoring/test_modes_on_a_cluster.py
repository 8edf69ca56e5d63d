"""Each monitoring mode with a real prometheus-operator, and the way from one to the next."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.cluster.jobs import brief, condition, ended, long_run, running, status, with_spec
from tests.cluster.monitoring.conftest import hack, release
from tests.cluster.scraping import pools, query, renew
from tests.cluster.support import OPERATOR_NAMESPACE, Cluster

from finetuning.client.objects import parsed
from finetuning.controller.desired import monitoring as desired_monitoring

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(600)]

SHARED = "finetuning-operator-jobs"
OWN = f"serviceMonitor/{OPERATOR_NAMESPACE}/{SHARED.removesuffix('-jobs')}/0"
"""How Prometheus scrapes the operator itself, in every mode."""
EXPECTED = {
    "shared": (
        {"service", "shared monitor"},
        f"serviceMonitor/{OPERATOR_NAMESPACE}/{SHARED}/0",
        "ServiceMonitorShared",
    ),
    "podMonitor": (
        {"pod monitor"},
        f"podMonitor/{OPERATOR_NAMESPACE}/{SHARED}/0",
        "PodMonitorShared",
    ),
    # Last, because this is how the release was.
    "perJob": (
        {"service", "own monitor"},
        "serviceMonitor/e2e/moded-metrics/0",
        "ServiceMonitorCreated",
    ),
}
"""By mode: the objects that are there, the scrape pool, and the reason of MonitoringReady."""


@pytest.fixture(scope="module")
def unmonitored(workspace: Cluster) -> None:
    """Also in a cluster that somebody had made with MONITORING=1."""
    if workspace.get("crd", "servicemonitors.monitoring.coreos.com") is not None:
        hack("monitoring", "off")
    assert workspace.get("crd", "servicemonitors.monitoring.coreos.com") is None


@pytest.fixture(scope="module")
def job(workspace: Cluster, unmonitored: None) -> Iterator[str]:
    """One that trains through all of this, begun before the cluster knows any monitor."""
    with running(workspace, long_run("lora", "moded", "150m")) as name:
        workspace.wait("a trainer", lambda: status(workspace, name).get("phase") == "Running")
        yield name


def deploy(mode: str) -> None:
    release(f"monitoring.mode={mode}", "monitoring.interval=5s")


def objects(workspace: Cluster, name: str) -> set[str]:
    """Which of the objects of any mode are there."""
    system = Cluster(OPERATOR_NAMESPACE)
    places = {
        "service": (workspace, "service", f"{name}-metrics"),
        "own monitor": (workspace, "servicemonitor", f"{name}-metrics"),
        "shared monitor": (system, "servicemonitor", SHARED),
        "pod monitor": (system, "podmonitor", SHARED),
    }
    return {key for key, (where, *what) in places.items() if where.get(*what) is not None}


def monitoring_reason(workspace: Cluster, job: str) -> str:
    return str(condition(status(workspace, job), "MonitoringReady").get("reason"))


def test_without_the_servicemonitor_crd_the_job_runs_and_says_so(
    workspace: Cluster, unmonitored: None
) -> None:
    manifest = with_spec(brief("lora", "unmonitored"), validation={"enabled": False})
    with running(workspace, manifest) as name:
        seen = ended(workspace, name)
        assert seen["phase"] == "Succeeded"
        missing = condition(seen, "MonitoringReady")
        assert (missing["status"], missing["reason"]) == ("False", "ServiceMonitorCRDMissing")
        uid = workspace.get("finetuningjob", name)["metadata"]["uid"]
        field = f"--field-selector=involvedObject.uid={uid},reason=ServiceMonitorCRDMissing"
        assert len(workspace.get("events", "", field)) == 1


@pytest.mark.long
def test_a_definition_that_comes_later_is_noticed_within_a_minute(
    workspace: Cluster, system: Cluster, job: str, request: pytest.FixtureRequest
) -> None:
    missing = "ServiceMonitorCRDMissing"
    workspace.wait(missing, lambda: monitoring_reason(workspace, job) == missing, 30)
    request.getfixturevalue("prometheus")
    found: dict[str, Any] = workspace.wait(
        "the job's monitor", lambda: workspace.get("servicemonitor", f"{job}-metrics"), 60
    )
    crd = workspace.get("crd", "servicemonitors.monitoring.coreos.com")
    there = datetime.fromisoformat(condition(crd["status"], "Established")["lastTransitionTime"])
    made = datetime.fromisoformat(found["metadata"]["creationTimestamp"])
    assert (made - there).total_seconds() <= 60
    done = "ServiceMonitorCreated"
    workspace.wait(done, lambda: monitoring_reason(workspace, job) == done, 30)


@pytest.mark.long
@pytest.mark.parametrize("mode", EXPECTED)
def test_a_switch_leaves_one_scrape_pool_also_for_a_running_job(
    workspace: Cluster, system: Cluster, job: str, prometheus: str, mode: str
) -> None:
    there, pool, reason = EXPECTED[mode]
    deploy(mode)
    workspace.wait("the mode's objects alone", lambda: objects(workspace, job) == there, 60)
    workspace.wait("the mode's scrape pool alone", lambda: pools() - {OWN} == {pool}, 30)
    workspace.wait("the condition", lambda: monitoring_reason(workspace, job) == reason, 30)
    if mode == "perJob":
        return  # How it scrapes is tested by those who need more of it.
    renew(pool)

    def once() -> bool:
        """Whether the pod is scraped, and not twice."""
        found = query(prometheus, f'finetuning_job_status{{job_name="{job}"}}')
        ways = ["service" in each["metric"] for each in found]
        return ways == [mode != "podMonitor"] and found[0]["metric"]["job"] == "finetuning-metrics"

    workspace.wait(f"one series by {mode}", once, 90)
    if mode == "shared":
        two_hundred_more_are_scraped(workspace, job, prometheus)
        assert pools() == {OWN, pool}


def two_hundred_more_are_scraped(workspace: Cluster, job: str, prometheus: str) -> None:
    """Services as the operator makes them; they lead to the one job that there is room for."""
    found = parsed(workspace.get("finetuningjob", job))
    before = targets(prometheus)
    services = []
    for number in range(200):
        service = desired_monitoring.service(found)
        del service["metadata"]["ownerReferences"]
        service["metadata"]["name"] = f"more-{number}"
        service["metadata"]["labels"]["one-of"] = "many"
        services.append(service)
    whole = {"apiVersion": "v1", "kind": "List", "items": services}
    try:
        workspace.kubectl("create", "--filename", "-", stdin=json.dumps(whole))
        workspace.wait("200 more targets", lambda: targets(prometheus) == before + 200, 60)
    finally:
        workspace.kubectl("delete", "services", "--selector=one-of=many", "--wait=false")


def targets(prometheus: str) -> int:
    """Pods that were scraped well the last time, each service's counted by itself."""
    found = query(prometheus, 'sum(up{job="finetuning-metrics"})')
    return int(found[0]["value"][1]) if found else 0
