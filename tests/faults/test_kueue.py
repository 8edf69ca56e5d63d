"""Queued jobs with a real Kueue: admitted, preempted, admitted again."""

from __future__ import annotations

import asyncio
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hack.cluster import tools
from hack.cluster.shell import ClusterError
from tests.faults.install import create
from tests.faults.kueue import Kueue
from tests.faults.node import FINAL, component
from tests.faults.scene import ROOT, in_words, judged

from finetuning.controller import naming
from finetuning.controller.gateway import ApiError, Gateway, Resource

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
async def queue(
    plane: ControlPlane, admin: Gateway, site: Site, request: pytest.FixtureRequest
) -> AsyncIterator[None]:
    """Kueue, and the example's queue for the site's namespace."""
    try:
        found = Kueue(plane, admin, **getattr(request, "param", {}))
    except ClusterError as error:
        pytest.skip(f"Kueue could not be built here: {error}")
    try:
        await found.start()
        for each in queues():
            await make(site, each)
        yield
    finally:
        await found.stop()


def queues() -> list[Raw]:
    return list(yaml.safe_load_all((EXAMPLES / "queues.yaml").read_text()))


async def make(site: Site, manifest: Raw) -> None:
    """What is there already stays as it is."""
    where = site.namespace if manifest["kind"] == "LocalQueue" else None
    manifest["metadata"] |= {"namespace": where} if where else {}
    try:
        await create(site.admin, KINDS[manifest["kind"]], manifest)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


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
@pytest.mark.documented
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


UNASKED = {name: value for name, value in JOB.items() if name != "queueName"}
"""The same job without a queue."""


def written(plane: ControlPlane, job: str) -> int:
    """How often the operator has changed a Job."""
    asked = ((each["verb"], each.get("objectRef", {})) for each in plane.audited())
    wanted = {"resource": "jobs", "name": job}
    return sum(verb == "patch" and wanted.items() <= about.items() for verb, about in asked)


@pytest.mark.fault(
    "Kueue takes Jobs that name no queue (manageJobsWithoutQueueName, a LocalQueue `default`)",
    "left to it: nothing runs before it says so, nobody undoes what the other does",
)
@pytest.mark.parametrize("queue", [{"manageJobsWithoutQueueName": True}], indirect=True)
async def test_jobs_that_a_real_kueue_takes_unasked_are_left_to_it(
    plane: ControlPlane, site: Site, queue: None, record_property: Any
) -> None:
    await offer(site.admin, 1)
    site.start_operator()
    await site.submit("outside", **UNASKED)
    await site.until("why it waits", queued("Kueue: LocalQueue"), 60, name="outside")
    before = written(plane, "outside-train")
    await asyncio.sleep(3)
    assert written(plane, "outside-train") == before <= 1
    assert site.node.started == []

    local = next(each for each in queues() if each["kind"] == "LocalQueue")
    local["metadata"]["name"] = "default"
    await make(site, local)
    await asyncio.sleep(1)
    await site.submit("inside", **UNASKED)
    await site.until("a verdict", judged, name="inside")
    found = {raw["metadata"]["name"]: raw["metadata"]["labels"] for raw in await site.jobs()}
    assert {found[f"inside-{each}"].get(naming.QUEUE_LABEL) for each in ("train", "validate")} == {
        "default"
    }
    assert [written(plane, f"inside-{each}") for each in ("train", "validate")] == [0, 0]
    record_property("happened", f"{before} write to a Job that it takes without a queue")
