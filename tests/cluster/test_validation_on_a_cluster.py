"""A gate on a real cluster: damaged models, killed validators, and what each means for a job."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tests.cluster.jobs import condition, ended, example, running, status, with_spec
from tests.cluster.support import kill_container
from tests.unit import registry_server, s3_server
from tests.unit.publish import hub_server
from tests.unit.registry_server import PASSWORD, USER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.support import Cluster
    from tests.unit.publish.hub_server import Hub
    from tests.unit.registry_server import Registry
    from tests.unit.s3_server import Server

# One model's story: each test goes on where the one before it has left the job.
MARKS = (pytest.mark.cluster, pytest.mark.long, pytest.mark.documented)
pytestmark = [*MARKS, pytest.mark.timeout(600)]

REVALIDATE = "finetuning.aim.amd.com/revalidate"
WEIGHTS = "adapter_model.safetensors"
FLIP = """
import pathlib, sys
path = pathlib.Path("/claim", sys.argv[1])
data = bytearray(path.read_bytes())
data[-3] ^= 1
path.write_bytes(data)
"""
"""One bit of the last weight; twice is as before."""


def short(name: str, **validation: Any) -> dict[str, Any]:
    """A training of seconds, whose validation asks a general question and needs no GPU."""
    manifest = with_spec(
        example("lora", name), hyperparameters={"epochs": 1, "evalSteps": 17, "saveSteps": 17}
    )
    limits = {"limits": {"amd.com/gpu": 0, "memory": "2Gi"}}
    manifest["spec"]["validation"] = {"resources": limits, **validation}
    return manifest


def change(cluster: Cluster, name: str, **validation: Any) -> None:
    patch = json.dumps({"spec": {"validation": validation}})
    cluster.kubectl("patch", "ftj", name, "--type=merge", "--patch", patch)


def flip_a_bit(cluster: Cluster, name: str) -> None:
    """Write into the model's claim, as any other user of the claim could."""
    job = cluster.get("job", f"{name}-train")
    template = job["spec"]["template"]["spec"]
    (trainer,) = template["containers"]
    output = next(each for each in template["volumes"] if each["name"] == "output")
    container = {
        "name": "flip",
        "image": trainer["image"],
        "imagePullPolicy": trainer["imagePullPolicy"],
        "command": ["python3", "-c", FLIP, WEIGHTS],
        "securityContext": trainer["securityContext"],
        "volumeMounts": [{"name": "output", "mountPath": "/claim"}],
    }
    spec = {
        "restartPolicy": "Never",
        "securityContext": template["securityContext"],
        "containers": [container],
        "volumes": [output],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "flip"}, "spec": spec}
    cluster.apply(pod)
    done = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.kubectl("wait", done, "pod/flip", "--timeout=60s")
    cluster.kubectl("delete", "pod", "flip", "--wait=true")


def judges(cluster: Cluster, name: str) -> list[str]:
    """The Jobs that judge, in their order."""
    selector = f"finetuning.aim.amd.com/job-name={name},app.kubernetes.io/component=validation"
    return sorted(each["metadata"]["name"] for each in cluster.get("jobs", "", "-l", selector))


def outcomes(cluster: Cluster, name: str) -> list[tuple[str, str]]:
    """Type and reason of the Events about verdicts, the oldest first."""
    uid = cluster.get("finetuningjob", name)["metadata"]["uid"]
    events = cluster.get("events", "", f"--field-selector=involvedObject.uid={uid}")
    told = sorted(events, key=lambda event: int(event["metadata"]["resourceVersion"]))
    reasons = ("ChecksPassed", "ChecksFailed", "ValidatorError")
    return [(each["type"], each["reason"]) for each in told if each["reason"] in reasons]


def kill_every_validator(cluster: Cluster, name: str) -> set[str]:
    """Kill each validation pod as soon as it runs, until the Job gives up; their names."""
    killed: set[str] = set()
    end = time.monotonic() + 150
    selector = f"batch.kubernetes.io/job-name={name}-validate"
    while not (status(cluster, name).get("validation") or {}).get("completionTime"):
        assert time.monotonic() < end, cluster.describe()
        for pod in cluster.get("pods", "", "--selector", selector):
            states = pod["status"].get("containerStatuses") or [{"state": {}}]
            if "running" in states[0]["state"] and pod["metadata"]["name"] not in killed:
                kill_container(pod, "validation")
                killed.add(pod["metadata"]["name"])
        time.sleep(0.2)
    return killed


@pytest.fixture(scope="module")
def damaged(workspace: Cluster) -> Iterator[str]:
    """A job that is to be trained, and not judged before its model is damaged."""
    rows = {"source": "configmap:finetuning-demo-data:train.jsonl", "maxRows": 8}
    with running(workspace, short("damaged", enabled=False, heldOut=rows)) as name:
        yield name


@pytest.fixture(scope="module")
def killed(workspace: Cluster, damaged: str) -> Iterator[tuple[str, Future[set[str]]]]:
    """A job whose validators are killed while the other tests go on."""
    assert damaged
    with (
        running(workspace, short("killed", onFailure="Fail")) as name,
        ThreadPoolExecutor(1) as pool,
    ):
        killing = pool.submit(kill_every_validator, workspace, name)
        yield name, killing


@pytest.fixture(scope="module")
def starved(workspace: Cluster, damaged: str) -> Iterator[str]:
    """A job whose validator gets less memory than its libraries need, while other tests go on."""
    assert damaged
    small = {"limits": {"amd.com/gpu": 0, "memory": "130Mi"}}
    with running(workspace, short("starved", onFailure="Fail", resources=small)) as name:
        yield name


@pytest.mark.usefixtures("killed", "starved")
def test_a_model_that_is_damaged_after_its_training_is_not_validated_and_kept(
    workspace: Cluster, damaged: str
) -> None:
    trained = ended(workspace, damaged, 120)
    assert (trained["phase"], trained["validation"]["result"]) == ("Succeeded", "Skipped")
    flip_a_bit(workspace, damaged)
    change(workspace, damaged, enabled=True)
    # Not fooled by the condition of the generation before, which is False as well: Skipped.
    judged = ("--for=condition=Validated=False", f"ftj/{damaged}", "--timeout=120s")
    workspace.kubectl("wait", *judged)
    seen = status(workspace, damaged)

    assert (seen["phase"], seen["validation"]["result"]) == ("Succeeded", "3/4")
    found = condition(seen, "Validated")
    assert (found["status"], found["reason"]) == ("False", "ChecksFailed")
    assert "checkpoint_integrity: " in found["message"]
    assert WEIGHTS in found["message"], found
    assert found["observedGeneration"] == 2
    assert seen["validation"]["manifestSha256"] == trained["validation"]["manifestSha256"]
    assert seen["modelPath"] == f"pvc://{damaged}-output"
    assert "✗ FAIL - checkpoint_integrity" in seen["validation"]["report"]
    pods = workspace.get("job", f"{damaged}-validate")["status"]
    assert pods["failed"] == 1, "a verdict is not asked for again"


def test_on_failure_decides_the_phase_without_judging_again(
    workspace: Cluster, damaged: str
) -> None:
    change(workspace, damaged, onFailure="Fail")
    workspace.kubectl("wait", "--for=condition=Failed", f"ftj/{damaged}", "--timeout=60s")
    seen = status(workspace, damaged)
    assert (seen["phase"], seen["reason"]) == ("Failed", "ValidationFailed")
    kept = f"The model did not pass and is kept in pvc://{damaged}-output: 3/4 checks passed"
    assert seen["message"].startswith(kept)
    assert condition(seen, "Complete")["status"] == "False"
    change(workspace, damaged, onFailure="Report")
    workspace.kubectl("wait", "--for=condition=Complete", f"ftj/{damaged}", "--timeout=60s")
    assert status(workspace, damaged)["phase"] == "Succeeded"
    assert judges(workspace, damaged) == [f"{damaged}-validate"]


def test_the_annotation_judges_again_and_the_repaired_model_passes(
    workspace: Cluster, damaged: str
) -> None:
    trained_by = workspace.get("job", f"{damaged}-train")["metadata"]["uid"]
    flip_a_bit(workspace, damaged)
    workspace.kubectl("annotate", "ftj", damaged, f"{REVALIDATE}=repaired", "--overwrite")

    def again() -> dict[str, Any] | None:
        found = status(workspace, damaged)["validation"]
        return found if "rerun" in found else None

    meanwhile = workspace.wait("the second validation", again, 60)
    assert (meanwhile["result"], meanwhile["attempt"]) == ("3/4", 1)
    assert meanwhile["rerun"]["jobName"] == f"{damaged}-validate-2"
    answered = "--for=jsonpath={.status.validation.revalidate}=repaired"
    workspace.kubectl("wait", answered, f"ftj/{damaged}", "--timeout=240s")
    seen = status(workspace, damaged)
    assert (seen["validation"]["result"], seen["validation"]["attempt"]) == ("4/4", 2)
    assert seen["validation"]["baseline"]["rows"] == 8
    assert condition(seen, "Validated")["status"] == "True"
    assert workspace.get("job", f"{damaged}-train")["metadata"]["uid"] == trained_by
    assert judges(workspace, damaged) == [f"{damaged}-validate", f"{damaged}-validate-2"]
    assert outcomes(workspace, damaged) == [("Warning", "ChecksFailed"), ("Normal", "ChecksPassed")]
    assert "4/4" in workspace.kubectl("get", "ftj", damaged).splitlines()[1].split()


@pytest.fixture
def registry(node_address: str, tmp_path: Path) -> Iterator[Registry]:
    auth = registry_server.by_password(tmp_path)
    with registry_server.running(tmp_path, auth, node_address) as server:
        yield server


@pytest.fixture
def hub(node_address: str) -> Iterator[Hub]:
    with hub_server.running(node_address) as server:
        yield server


def published_by(kind: str) -> dict[str, Any]:
    """The place in the example of the kind."""
    return dict(example(kind)["spec"]["output"]["publish"][kind])


@pytest.mark.timeout(1500)  # It may have to build the registry.
def test_a_validated_model_is_published_once(
    workspace: Cluster, damaged: str, store: Server, registry: Registry, hub: Hub
) -> None:
    store.client().create_dir("models")
    keys = [f"--from-literal={name}={value}" for name, value in s3_server.KEYS.items()]
    workspace.kubectl("create", "secret", "generic", "store-writer", *keys)
    place = {"uri": "s3://models/law", "endpoint": store.url, "secretName": "store-writer"}
    keys = [f"--docker-username={USER}", f"--docker-password={PASSWORD}"]
    server = f"--docker-server={registry.address}"
    workspace.kubectl("create", "secret", "docker-registry", "registry-writer", server, *keys)
    uri = f"oci://{registry.address}/models/law:v1"
    tag = {**published_by("oci"), "uri": uri, "plainHttp": True}
    token = f"--from-literal=token={hub_server.TOKEN}"
    workspace.kubectl("create", "secret", "generic", "hub-writer", token)
    repository = {**published_by("hub"), "uri": "hf://team/law", "endpoint": hub.url}
    places = {"s3": place, "oci": tag, "hub": repository}
    patch = json.dumps({"spec": {"output": {"publish": places}}})
    workspace.kubectl("patch", "ftj", damaged, "--type=merge", "--patch", patch)
    workspace.kubectl("wait", "--for=condition=Published", f"ftj/{damaged}", "--timeout=120s")
    where = "jsonpath={.status.publish.copies[0].location}"
    assert workspace.kubectl("get", "ftj", damaged, "-o", where) == "s3://models/law"
    copy, artifact, commit = status(workspace, damaged)["publish"]["copies"]
    assert (artifact["kind"], artifact["location"]) == ("oci", uri)
    assert artifact["digest"].startswith("sha256:")
    assert any(each.endswith("/manifests/v1") for each in registry.asked("PUT"))
    assert (commit["kind"], commit["digest"]) == ("hf", hub.repositories["team/law"].head)
    assert hub.repositories["team/law"].private
    with store.client().open_input_stream("models/law/publication.json") as stream:
        seal = bytes(stream.read())
    assert hashlib.sha256(seal).hexdigest() == copy["digest"]
    assert {WEIGHTS, "README.md", "validation_report.txt"} <= set(json.loads(seal)["files"])

    before = store.changes(), registry.asked("PUT"), hub.changes()
    workspace.kubectl("annotate", "ftj", damaged, "finetuning.aim.amd.com/republish=again")
    again = "--for=jsonpath={.status.publish.attempt}=2"
    workspace.kubectl("wait", again, f"ftj/{damaged}", "--timeout=60s")
    workspace.kubectl("wait", "--for=condition=Published", f"ftj/{damaged}", "--timeout=120s")
    assert (store.changes(), registry.asked("PUT"), hub.changes()) == before
    assert status(workspace, damaged)["phase"] == "Succeeded"


@pytest.mark.fault("Validator killed three times (kubelet)", "an error and no verdict")
def test_a_validator_that_is_killed_three_times_is_an_error_and_no_verdict(
    workspace: Cluster, killed: tuple[str, Future[set[str]]]
) -> None:
    name, killing = killed
    assert len(killing.result()) == 3
    seen = status(workspace, name)
    assert (seen["validation"]["phase"], seen["validation"]["result"]) == ("Error", "Error")
    found = condition(seen, "Validated")
    assert (found["status"], found["reason"]) == ("False", "ValidatorError")
    assert "exit code 137 (3 pods)" in found["message"]
    assert (seen["phase"], seen["reason"]) == ("Failed", "ValidatorError")
    assert seen["modelPath"] == f"pvc://{name}-output"
    assert workspace.get("job", f"{name}-train")["status"]["succeeded"] == 1
    assert outcomes(workspace, name) == [("Warning", "ValidatorError")]


@pytest.mark.fault("Validator out of memory (kubelet)", "three tries, then the field to raise")
def test_a_validator_without_enough_memory_is_tried_three_times_and_names_the_field(
    workspace: Cluster, starved: str
) -> None:
    """Whether the kernel takes the whole container or the process with the model alone."""

    def over() -> dict[str, Any] | None:
        found: dict[str, Any] = status(workspace, starved).get("validation") or {}
        return found if "completionTime" in found else None

    found = workspace.wait("the end of the validation", over, 180)
    assert (found["phase"], found["reason"]) == ("Error", "OOMKilled")
    assert "(3 pods): it needs more memory" in found["summary"]
    assert "spec.validation.resources.limits.memory" in found["summary"]
    assert workspace.get("job", f"{starved}-validate")["status"]["failed"] == 3
    seen = status(workspace, starved)
    assert (seen["phase"], seen["reason"]) == ("Failed", "ValidatorError")
    assert outcomes(workspace, starved) == [("Warning", "ValidatorError")]
