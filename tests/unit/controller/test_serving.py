"""What aim-engine is given: only for a complete copy, and in the words of both versions."""

from typing import Any

import pytest
import yaml
from tests.unit.controller.objects import job

from finetuning.api.v1alpha1 import FineTuningJobStatus, PublishPhase, PublishStatus
from finetuning.controller.serving import offered

S3 = {"uri": "s3://models/law/", "endpoint": "http://minio:9000", "secretName": "store"}
SHA = "c" * 64
SERVE = {"image": "example/aim-base:0.9", "gpus": 2, "gpuModel": "MI300X"}


def objects(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


def served(phase: PublishPhase = PublishPhase.PUBLISHED, **spec: Any) -> Any:
    publish = {"form": "Both", "s3": S3, **spec.pop("publish", {})}
    output = {"publish": publish, "serve": {**SERVE, **spec.pop("serve", {})}}
    status = FineTuningJobStatus(publish=PublishStatus(phase=phase, manifest_sha256=SHA))
    return offered(job(output=output, **spec), status)


def test_v1alpha1_has_a_model_with_its_hardware_and_a_service() -> None:
    model, service = objects(served().v1alpha1)
    assert model["apiVersion"] == "aim.eai.amd.com/v1alpha1"
    marks = {"finetuning.aim.amd.com/manifest-sha256": SHA}
    for each in (model, service):
        assert each["metadata"] == {"name": "demo", "namespace": "team", "annotations": marks}
    assert model["spec"]["image"] == "example/aim-base:0.9"
    assert model["spec"]["custom"]["hardware"]["gpu"] == {"requests": 2, "model": "MI300X"}
    (source,) = model["spec"]["modelSources"]
    assert (source["modelId"], source["sourceUri"]) == ("team/demo", "s3://models/law/merged")
    env = {each["name"]: each for each in source["env"]}
    assert env["AWS_ENDPOINT_URL"]["value"] == "http://minio:9000"
    key = env["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]
    assert key == {"name": "store", "key": "AWS_SECRET_ACCESS_KEY"}
    assert service["spec"] == {"model": {"name": "demo"}, "template": {"allowUnoptimized": True}}


def test_v1alpha2_takes_the_profiles_of_the_base_and_other_weights() -> None:
    model, service = objects(served().v1alpha2)
    profiles = model["spec"]["profiles"]
    selector = {"aimId": "example/tiny", "acceleratorModel": "MI300X"}
    assert profiles["derivedFrom"] == {"selector": selector}
    assert profiles["overrides"]["modelSources"][0]["sourceUri"] == "s3://models/law/merged"
    assert "image" not in model["spec"]
    assert service["spec"] == {"model": {"name": "demo"}}


@pytest.mark.parametrize(
    ("spec", "uri"),
    [
        ({"publish": {"form": "Merged"}}, "s3://models/law"),
        ({"method": "full"}, "s3://models/law"),
        ({}, "s3://models/law/merged"),
    ],
)
def test_the_source_is_where_the_complete_model_is(spec: dict[str, Any], uri: str) -> None:
    assert served(**spec).source_uri == uri


def test_a_model_on_the_hub_is_read_from_there() -> None:
    key = {"name": "hub", "key": "token"}
    hub = {"uri": "hf://team/law", "tokenSecretRef": key, "endpoint": "https://hub.example.com"}
    found = served(publish={"form": "Merged", "s3": None, "hub": hub})
    assert found.source_uri == "hf://team/law"
    (source,) = objects(found.v1alpha1)[0]["spec"]["modelSources"]
    assert source["env"] == [
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": key}},
        {"name": "HF_ENDPOINT", "value": "https://hub.example.com"},
    ]
    whole = served(publish={"s3": None, "form": "Adapter", "hub": hub}, method="full")
    assert whole.source_uri == "hf://team/law"


def test_a_store_is_taken_before_the_hub() -> None:
    hub = {"uri": "hf://team/law", "tokenSecretRef": {"name": "hub", "key": "token"}}
    assert served(publish={"form": "Merged", "hub": hub}).source_uri == "s3://models/law"


def test_servers_read_by_a_key_of_their_own_where_one_is_named() -> None:
    (source,) = objects(served(serve={"secretName": "reader"}).v1alpha1)[0]["spec"]["modelSources"]
    secrets = {e["valueFrom"]["secretKeyRef"]["name"] for e in source["env"] if "valueFrom" in e}
    assert secrets == {"reader"}
    hub = {"uri": "hf://team/law", "tokenSecretRef": {"name": "hub", "key": "token"}}
    found = served(
        publish={"form": "Merged", "s3": None, "hub": hub}, serve={"secretName": "reader"}
    )
    (source,) = objects(found.v1alpha1)[0]["spec"]["modelSources"]
    assert source["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "reader", "key": "token"}


@pytest.mark.parametrize("phase", [PublishPhase.RUNNING, PublishPhase.FAILED, PublishPhase.SKIPPED])
def test_nothing_is_offered_that_is_not_there(phase: PublishPhase) -> None:
    assert served(phase) is None
