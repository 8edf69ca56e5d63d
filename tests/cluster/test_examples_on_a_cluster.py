"""The examples that no other test here takes for its own, on the real cluster."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.cluster.jobs import EXAMPLES, ended, example, judged, reached_step, running, status
from tests.cluster.jobs import with_spec as changed
from tests.unit import s3_server

from finetuning.controller import naming

if TYPE_CHECKING:
    from tests.cluster.support import Cluster
    from tests.unit.s3_server import Server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.mark.long
@pytest.mark.documented
def test_preferences_are_learned_and_nothing_is_forgotten(workspace: Cluster) -> None:
    pairs = {"source": "configmap:finetuning-demo-data:train.preferences.jsonl"}
    with running(workspace, changed(example("dpo", "by-pairs"), dataset=pairs)) as name:
        seen = judged(workspace, name)
        assert seen["phase"] == "Succeeded"
        assert seen["validation"]["result"] == "4/4", seen["validation"]
        assert seen["evalLoss"] < 0.6931, "of a model that prefers neither answer"


def test_a_job_of_a_queue_waits_for_kueue(workspace: Cluster) -> None:
    manifest = yaml.safe_load((EXAMPLES / "kueue" / "job.yaml").read_text())
    with running(workspace, manifest) as name:
        workspace.wait(
            "it is queued", lambda: status(workspace, name).get("reason") == "Queued", 60
        )
        job = workspace.get("job", naming.names(name).training)
        assert job["spec"]["suspend"] is True
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_a_private_model_waits_for_the_secret_with_its_token(workspace: Cluster) -> None:
    small = {"limits": {"amd.com/gpu": 1}, "requests": {"cpu": "100m", "memory": "64Mi"}}
    manifest = changed(example("private", "without-a-token"))
    manifest["spec"]["resources"] = small
    with running(workspace, manifest) as name:

        def told() -> bool:
            return status(workspace, name).get("reason") == "ContainerConfigError"

        workspace.wait("it says what is missing", told, 90)
        assert '"hub" not found' in status(workspace, name)["message"]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.documented
def test_rows_come_from_a_store_and_the_model_goes_back_into_it(
    workspace: Cluster, store: Server
) -> None:
    client = store.client()
    for bucket in ("corpora", "models"):
        client.create_dir(bucket)
    with client.open_output_stream("corpora/ships/train.jsonl") as stream:
        stream.write((EXAMPLES / "data" / "train.jsonl").read_bytes())
    keys = [f"--from-literal={name}={value}" for name, value in s3_server.KEYS.items()]
    for secret in ("store-reader", "store-of-models"):
        workspace.kubectl("create", "secret", "generic", secret, *keys)
    manifest = example("s3", "by-a-store")
    spec = manifest["spec"]
    spec["dataset"]["s3"]["endpoint"] = store.url
    # Another test has made a store-writer.
    place = {"endpoint": store.url, "secretName": "store-of-models"}
    spec["output"]["publish"]["s3"] |= place
    with running(workspace, manifest) as name:
        assert judged(workspace, name)["validation"]["result"] == "4/4"
        published = ("--for=condition=Published", f"ftj/{name}", "--timeout=180s")
        workspace.kubectl("wait", *published)
        (copy,) = status(workspace, name)["publish"]["copies"]
        assert copy["location"] == "s3://models/ships/v1"
    with client.open_input_stream("models/ships/v1/publication.json") as stream:
        sealed = json.loads(bytes(stream.read()))
    assert sealed["complete"] is True
    assert {"adapter_model.safetensors", "merged/model.safetensors"} <= set(sealed["files"])


def test_an_image_that_cannot_be_pulled_is_not_waited_for(workspace: Cluster) -> None:
    """One that takes its time is, for as long as the node pulls it."""
    begun = time.monotonic()
    given = ("env", "TRAINER_IMAGE=localhost:1/nothing:here", "bash", "examples/tiny-model/load.sh")
    said = workspace.run(*given, workspace.namespace, check=False)
    assert "load.sh: the pod that copies did not start" in said, said
    assert "localhost:1/nothing:here" in said, "the events say which"
    assert time.monotonic() - begun < 120


@pytest.mark.long
@pytest.mark.documented
def test_a_job_that_is_deleted_and_created_again_takes_its_claim_up(workspace: Cluster) -> None:
    manifest = example("resume", "kept")
    try:
        with running(workspace, manifest) as name:
            reached_step(workspace, name, 60)
        claim = workspace.get("pvc", "kept-output")
        assert claim is not None, "whenDeleted: Retain"
        with running(workspace, manifest) as name:
            seen = ended(workspace, name)
            assert (seen["phase"], seen["currentStep"]) == ("Succeeded", 300)
            said = workspace.kubectl("logs", f"job/{name}-train", "--container", "finetuning")
            assert "Continuing from checkpoint-" in said
        assert workspace.get("pvc", "kept-output")["metadata"]["uid"] == claim["metadata"]["uid"]
    finally:
        workspace.kubectl("delete", "pvc", "kept-output", "--ignore-not-found", "--wait=false")
