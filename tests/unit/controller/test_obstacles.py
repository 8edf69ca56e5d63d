"""What keeps a validation or a publication from running stands in the job's own line as well."""

from datetime import datetime, timedelta
from typing import Any

import aiohttp
import pytest
from tests.unit.controller.objects import ENDED, SETTINGS, ended, running, waiting
from tests.unit.controller.story import STORY, events, tell
from tests.unit.controller.world import KEY, Process, World

from finetuning.controller import naming, observed
from finetuning.controller.training_status import NODE_SILENT

PUBLISH = {"output": {"publish": {"s3": {"uri": "s3://models/x"}}}}
STAGES = {naming.VALIDATION: ("validation", 3), naming.PUBLISHING: ("publish", 5)}
"""Its part of the status, and the last step of the story before its Job has a Pod."""
FIELDS = {
    naming.VALIDATION: "spec.validation.resources: ",
    naming.PUBLISHING: "spec.output.publish.resources: ",
}
QUOTA = 'Error creating: pods "p-x2x" is forbidden: exceeded quota: gpus, requested: pods=1'
POLICY = 'Error creating: admission webhook "a.example" denied the request: name a cost center'
IN_THE_PRESENT = "2099-01-01T00:00:00Z"


def forbids(world: World, component: str, message: str) -> None:
    (job,) = [
        raw for raw in world.of("jobs")
        if raw["metadata"]["labels"][naming.COMPONENT_LABEL] == component
    ]  # fmt: skip
    event = {
        "metadata": {"generateName": "e.", "namespace": "team"},
        "involvedObject": {"uid": job["metadata"]["uid"]}, "reason": "FailedCreate",
        "message": message, "lastTimestamp": IN_THE_PRESENT,
    }  # fmt: skip
    world.create("events", event)


async def before(process: Process, component: str, **spec: Any) -> None:
    """Its Job is there, and no Pod of it."""
    process.world.apply(**PUBLISH, **spec)
    await tell(process.world, process, STORY[1 : STAGES[component][1] + 1])


async def later(process: Process, seconds: float = 9) -> None:
    process.time += seconds
    await process.reconciler.reconcile(KEY)
    process.time += seconds
    await process.settle()


def stage(world: World, component: str) -> dict[str, Any]:
    found: dict[str, Any] = world.status[STAGES[component][0]]
    return found


@pytest.mark.parametrize("component", STAGES)
@pytest.mark.parametrize("words", [QUOTA, POLICY])
async def test_a_pod_that_is_forbidden_is_told_beside_the_training(
    process: Process, component: str, words: str
) -> None:
    world = process.world
    await before(process, component)
    trained = world.status["message"]
    forbids(world, component, words)
    await later(process)
    told = stage(world, component)
    assert (told["phase"], told["reason"]) == ("Pending", "PodsForbidden")
    short = told.get("summary") or told["message"]
    assert words.rpartition(": ")[2] in short, "the end of the words is what tells"
    assert world.status["message"].startswith(trained)
    assert words in world.status["message"]
    assert (FIELDS[component] in world.status["message"]) is (words is QUOTA)
    world.run_jobs()
    await later(process)
    assert stage(world, component)["phase"] == "Running"
    assert world.status["message"] == trained


@pytest.mark.parametrize("component", STAGES)
async def test_so_is_the_one_after_a_pod_that_crashed(process: Process, component: str) -> None:
    world = process.world
    await before(process, component)
    world.start(component)
    await process.settle()
    world.set_pods(component, "Failed", ended(137, "killed"))
    await process.settle()
    assert stage(world, component)["phase"] == "Running"
    forbids(world, component, QUOTA)
    await later(process)
    told = stage(world, component)
    assert (told["phase"], told["reason"]) == ("Pending", "PodsForbidden")


@pytest.mark.parametrize("component", STAGES)
async def test_it_is_told_while_news_of_a_trained_job_wait_for_an_hour(
    world: World, http: aiohttp.ClientSession, component: str
) -> None:
    process = Process(world, http, SETTINGS.model_copy(update={"progress_interval_seconds": 3600}))
    await before(process, component)
    forbids(world, component, QUOTA)
    process.time += 9
    await process.reconciler.reconcile(KEY)
    process.time += 3
    await process.settle()
    assert stage(world, component)["reason"] == "PodsForbidden"


@pytest.mark.parametrize("component", STAGES)
async def test_it_outlives_a_restart_of_the_operator(
    process: Process, http: aiohttp.ClientSession, component: str
) -> None:
    world = process.world
    await before(process, component)
    forbids(world, component, QUOTA)
    await later(process)
    status, writes = dict(world.status), len(world.writes)
    assert status[STAGES[component][0]]["reason"] == "PodsForbidden"
    await Process(world, http).settle()
    assert (world.status, len(world.writes)) == (status, writes)


@pytest.mark.parametrize("component", STAGES)
async def test_nobody_is_told_to_delete_a_trained_job_for_an_image(
    process: Process, component: str
) -> None:
    world = process.world
    await before(process, component)
    world.run_jobs()
    world.set_pods(component, "Pending", waiting("ImagePullBackOff", "no such manifest"))
    await later(process)
    assert stage(world, component)["reason"] == "ImagePullFailed"
    assert "no such manifest" in world.status["message"]
    annotation = {"Validation": "revalidate", "Publishing": "republish"}
    assert f"aim.amd.com/{annotation[component.capitalize()]}" in world.status["message"]
    assert "delete the job" not in world.status["message"]


@pytest.mark.fault(
    "Paused while its model is judged or published",
    "the Job ends and frees its GPU, the message says so; it begins anew afterwards",
)
@pytest.mark.parametrize("component", STAGES)
@pytest.mark.parametrize("runs", [True, False], ids=["running", "before its Job"])
@pytest.mark.parametrize("on_failure", ["Report", "Fail"])
async def test_a_pause_holds_what_follows_the_training(
    process: Process, component: str, on_failure: str, *, runs: bool
) -> None:
    world = process.world
    validation = {"validation": {"onFailure": on_failure}}
    if runs:
        await before(process, component, **validation)
        trained = world.status["message"]
        world.start(component)
        await process.settle()
        world.change(suspend=True)
    else:
        world.apply(**PUBLISH, **validation)
        await tell(world, process, STORY[1 : STAGES[component][1]])
        STORY[STAGES[component][1]](world)
        world.change(suspend=True)
        trained = ""
    await later(process)
    world.run_jobs()
    await process.settle()
    assert not [pod for pod in world.of("pods") if of(pod, component)]
    told = stage(world, component)
    assert (told["phase"], told["reason"]) == ("Pending", "Suspended")
    assert world.status["message"].endswith("Set spec.suspend to false to begin it anew.")
    assert {"type": "Suspended", "status": "True"}.items() <= condition(world, "Suspended").items()
    writes = len(world.writes)
    for _ in range(3):
        process.time += 3600
        assert await process.reconciler.reconcile(KEY) in {None, 10.0}, "nobody is in a hurry"
    assert len(world.writes) == writes
    world.change(suspend=False)
    await process.settle()
    assert stage(world, component)["phase"] == "Running"
    assert world.status["message"].startswith(trained)
    assert condition(world, "Suspended")["status"] == "False"
    await tell(world, process, STORY[STAGES[component][1] + 1 :])
    assert world.status["validation"]["phase"] == "Passed"


def of(raw: dict[str, Any], component: str) -> bool:
    return bool(raw["metadata"]["labels"][naming.COMPONENT_LABEL] == component)


def condition(world: World, kind: str) -> dict[str, Any]:
    (found,) = [each for each in world.status["conditions"] if each["type"] == kind]
    return dict(found)


@pytest.mark.fault(
    "Node lost while a model is judged or published",
    "NodeLost with the command; it goes on when the pod is known to be gone",
)
@pytest.mark.parametrize("component", STAGES)
async def test_a_lost_node_is_told_with_what_to_do(process: Process, component: str) -> None:
    world = process.world
    await before(process, component)
    world.start(component)
    await process.settle()
    trained = world.status["message"]
    (pod,) = [raw for raw in world.of("pods") if of(raw, component)]
    pod["spec"] = {"nodeName": "gpu-7"}
    pod["metadata"] |= {"deletionTimestamp": ENDED, "resourceVersion": "9999"}
    world.now = datetime.fromisoformat(ENDED) + NODE_SILENT
    process.watch()
    soon = await process.reconciler.reconcile(KEY)
    assert soon is not None
    assert soon <= 30, "nothing else will tell"
    assert stage(world, component)["phase"] == "Running"
    world.now += timedelta(seconds=1)
    await later(process)
    told = stage(world, component)
    assert (told["phase"], told["reason"]) == ("Pending", "NodeLost")
    assert world.status["message"].startswith(trained)
    assert "kubectl delete node gpu-7" in world.status["message"]
    assert ("Warning", "NodeLost") in events(world)
    world.delete("pods", pod["metadata"]["name"])
    world.start(component)
    await later(process)
    assert stage(world, component)["phase"] == "Running"
    assert world.status["message"] == trained


async def test_a_quota_that_lets_a_part_of_a_group_in_is_told(process: Process) -> None:
    world = process.world
    world.apply(workers=2)
    await process.settle()
    world.start(naming.TRAINING)
    (second,) = (each for each in world.of("pods") if observed.pod(each).index)
    world.delete("pods", second["metadata"]["name"])
    await process.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Pending", "JobCreated")
    forbids(world, naming.TRAINING, QUOTA)
    await later(process)
    assert (world.status["phase"], world.status["reason"]) == ("Pending", "PodsForbidden")
    assert "exceeded quota: gpus" in world.status["message"]


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ProvisioningFailed", "only ReadWriteOnce is supported"),
        ("ExternalProvisioning", "Waiting for a volume to be created by 'nfs.example'"),
    ],
)
async def test_a_volume_that_is_made_for_a_node_and_does_not_come_is_told(
    process: Process, reason: str, message: str
) -> None:
    world = process.world
    world.apply()
    await process.settle()
    world.run_jobs()
    await process.settle()
    event = {
        "metadata": {"generateName": "e.", "namespace": "team"}, "reason": reason,
        "involvedObject": {"kind": "PersistentVolumeClaim", "name": "demo-output"},
        "message": message, "lastTimestamp": IN_THE_PRESENT,
    }  # fmt: skip
    world.create("events", event)
    await later(process)
    told = world.status["message"]
    assert (world.status["phase"], world.status["reason"]) == ("Pending", "ContainerConfigError")
    assert told.startswith(f"spec.output.storage.storageClassName: Claim demo-output: {reason}: ")
    assert message in told
    assert "describe pvc demo-output" in told


@pytest.mark.parametrize("component", STAGES)
async def test_a_pod_that_a_webhooks_container_keeps_open_is_told(
    process: Process, component: str
) -> None:
    world = process.world
    await before(process, component)
    world.start(component)
    await process.settle()
    trained = world.status["message"]
    world.set_pods(component, "Running", ended(0))
    (pod,) = [raw for raw in world.of("pods") if of(raw, component)]
    proxy = {"name": "istio-proxy", "state": running()}
    statuses = [*pod["status"]["containerStatuses"], proxy]
    key = ("pods", "team", pod["metadata"]["name"])
    world.patch(key, {"status": {"containerStatuses": statuses}}, only_status=True)
    await later(process)
    told = stage(world, component)
    assert (told["phase"], told["reason"]) == ("Pending", "PodHeldOpen")
    assert world.status["message"].startswith(trained)
    assert "is not over before istio-proxy ends" in world.status["message"]
    assert ("Warning", "PodHeldOpen") in events(world)
    proxy["state"] = ended(0)
    world.patch(key, {"status": {"containerStatuses": statuses}}, only_status=True)
    await later(process)
    assert stage(world, component)["phase"] == "Running"
    assert world.status["message"] == trained
