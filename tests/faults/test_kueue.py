"""Queued jobs with a real Kueue: admitted, preempted, admitted again."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hack.cluster import tools
from hack.cluster.shell import ClusterError
from tests.faults.kueue import Kueue
from tests.faults.node import FINAL, component
from tests.faults.scene import ROOT, in_words, judged

from finetuning.controller import naming
from finetuning.controller.gateway import Gateway, Resource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.faults.controlplane import ControlPlane
    from tests.faults.scene import Raw, Site

# The first test may have to build Kueue.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(2700)]

SECONDS = 15.0
EXAMPLES = ROOT / "examples/kueue"
GROUP = ("kueue.x-k8s.io", "v1beta2")
CLUSTER_QUEUES = Resource(*GROUP, "clusterqueues")
KINDS = {
    "ResourceFlavor": Resource(*GROUP, "resourceflavors"),
    "ClusterQueue": CLUSTER_QUEUES,
    "LocalQueue": Resource(*GROUP, "localqueues"),
    "PriorityClass": Resource("scheduling.k8s.io", "v1", "priorityclasses"),
}
QUEUE = "gpus"
JOB = yaml.safe_load((EXAMPLES / "job.yaml").read_text())["spec"]


@pytest.fixture
async def queue(plane: ControlPlane, admin: Gateway, site: Site) -> AsyncIterator[None]:
    """Kueue, and the example's queue for the site's namespace."""
    try:
        found = Kueue(plane, admin)
    except ClusterError as error:
        pytest.skip(f"Kueue could not be built here: {error}")
    try:
        await found.start()
        for each in yaml.safe_load_all((EXAMPLES / "queues.yaml").read_text()):
            where = site.namespace if each["kind"] == "LocalQueue" else None
            each["metadata"] |= {"namespace": where} if where else {}
            kind = KINDS[each["kind"]]
            await admin._call("create", kind, "POST", kind.path(where), body=each)
        yield
    finally:
        await found.stop()


async def offer(admin: Gateway, gpus: int) -> None:
    """The queue's quota of GPUs."""
    path = CLUSTER_QUEUES.path(None, QUEUE)
    found = await admin._call("get", CLUSTER_QUEUES, "GET", path)
    quotas = found["spec"]["resourceGroups"][0]["flavors"][0]["resources"]
    next(each for each in quotas if each["name"] == "amd.com/gpu")["nominalQuota"] = gpus
    await admin._call("patch", CLUSTER_QUEUES, "PATCH", path, body={"spec": found["spec"]})


def queued(words: str) -> Callable[[Raw], bool]:
    return lambda s: s.get("reason") == "Queued" and words in s.get("message", "")


def training(status: Raw) -> bool:
    return status.get("phase") == "Running" and status.get("reason") == "Training"


class Clock:
    """How long each thing took to show."""

    def __init__(self, site: Site) -> None:
        self.site, self.took = site, dict[str, float]()

    async def shows(self, title: str, name: str, probe: Callable[[Raw], Any]) -> None:
        begun = time.monotonic()
        await self.site.until(title, probe, 60, name=name)
        self.took[title] = time.monotonic() - begun


def listed(plane: ControlPlane, namespace: str) -> str:
    program = tools.build_all((tools.KUBECTL,))["kubectl"]
    command = ["get", "ftj", "--namespace", namespace, "--output", "wide"]
    kubeconfig = f"--kubeconfig={plane.kubeconfig('admin')}"
    done = subprocess.run([program, kubeconfig, *command], check=True, capture_output=True)
    return done.stdout.decode()


@pytest.mark.fault(
    "Kueue: no quota, two jobs for one GPU, preemption",
    "Queued in Kueue's words within 15 s; saved, admitted again, gone on with",
)
async def test_a_real_kueue_admits_preempts_and_admits_again(
    plane: ControlPlane, site: Site, queue: None, record_property: Any
) -> None:
    goes_on = {"first", "urgent"}

    def ending(pod: Raw) -> tuple[int, str] | None:
        held = pod["metadata"]["labels"][naming.JOB_NAME_LABEL] in goes_on
        trains = component(pod) == naming.TRAINING
        return None if trains and held else (0, FINAL[component(pod)])

    site.node.ending = ending
    clock = Clock(site)
    await offer(site.admin, 0)
    site.start_operator()
    await site.submit("first", **JOB)
    await clock.shows("no quota", "first", queued("insufficient quota for amd.com/gpu"))
    assert site.node.started == []

    await offer(site.admin, 1)
    await clock.shows("admitted", "first", training)
    await site.submit("second", **JOB)
    await clock.shows("no quota left", "second", queued("insufficient unused quota"))
    assert "insufficient unused quota" in listed(plane, site.namespace)

    await site.submit("urgent", **JOB, priorityClassName="urgent")
    await clock.shows("preempted", "first", queued("Preempted to accommodate a workload"))
    status = await site.status("first")
    assert (status["phase"], status["currentStep"]) == ("Pending", 4)
    assert "continues from its newest checkpoint" in status["message"]
    await site.until("training", training, name="urgent")

    goes_on.clear()
    for name in ("urgent", "first", "second"):
        await site.until("a verdict", judged, name=name)
    pods = [name.partition("-train")[0] for name in site.node.started if "-train" in name]
    assert pods == ["first", "urgent", "first", "second"]
    record_property("happened", "shown after " + in_words(clock.took))
    assert {title: each for title, each in clock.took.items() if each > SECONDS} == {}
