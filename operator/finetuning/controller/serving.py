"""What AMD's aim-engine needs to serve the published model, as objects that people can apply.

Written against its definitions, not its pages, which differ. Whether the operator creates them
itself is for `served` to say.
"""

from collections.abc import Iterable
from typing import Any

import yaml

from finetuning.api.hyperparameters import Method
from finetuning.api.v1alpha1 import (
    FineTuningJob,
    FineTuningJobStatus,
    ModelForm,
    PublishPhase,
    PublishSpec,
    PublishStatus,
    ServeSpec,
    ServingStatus,
)
from finetuning.artifacts import MERGED_DIR
from finetuning.controller import naming
from finetuning.controller.desired.metadata import Manifest
from finetuning.controller.desired.pod import from_secret, s3_variables

AIM_GROUP = "aim.eai.amd.com"


VERSIONS = ("v1alpha2", "v1alpha1")
"""Of aim-engine's API, the preferred one first."""


def offered(job: FineTuningJob, new: FineTuningJobStatus) -> ServingStatus | None:
    """The objects for a copy that is complete; None while there is none, or nobody asks."""
    serve, publish, copies = job.spec.output.serve, job.spec.output.publish, new.publish
    if serve is None or publish is None or copies is None:
        return None
    uri, _ = _place(job, publish, serve)
    if copies.phase is not PublishPhase.PUBLISHED or not uri:
        return None
    texts = {each: _text(objects(job, publish, serve, each, copies)) for each in VERSIONS}
    return ServingStatus(model_id=naming.served_model(job.metadata), source_uri=uri, **texts)


def objects(
    job: FineTuningJob, publish: PublishSpec, serve: ServeSpec, version: str, copies: PublishStatus
) -> list[Manifest]:
    """A model, and a service for it, of one version."""
    uri, env = _place(job, publish, serve)
    source = {"modelId": naming.served_model(job.metadata), "sourceUri": uri, "env": env}
    make = {"v1alpha1": _v1alpha1, "v1alpha2": _v1alpha2}[version]
    model, service = make(job, serve, source)
    marks = {naming.MANIFEST_ANNOTATION: copies.manifest_sha256}
    return [
        _object(job, version, "AIMModel", model, marks),
        _object(job, version, "AIMService", service, marks),
    ]


def _place(
    job: FineTuningJob, publish: PublishSpec, serve: ServeSpec
) -> tuple[str, list[Manifest]]:
    """Where the complete model is, and the variables by which it is read; a registry is none."""
    if publish.s3 is not None:
        secret = serve.secret_name or publish.s3.secret_name
        store = publish.s3.model_copy(update={"secret_name": secret})
        return source_uri(job, publish.s3.uri, publish.form), s3_variables(store)
    if publish.hub is None:
        return "", []
    token, endpoint = publish.hub.token_secret_ref, publish.hub.endpoint
    address = [{"name": "HF_ENDPOINT", "value": endpoint}] if endpoint else []
    secret = serve.secret_name or token.name
    return publish.hub.uri, [from_secret("HF_TOKEN", secret, token.key), *address]


def source_uri(job: FineTuningJob, uri: str, form: ModelForm) -> str:
    """Where the complete model is in a copy."""
    inside = form is ModelForm.BOTH and job.spec.method is not Method.FULL
    return f"{uri.rstrip('/')}/{MERGED_DIR}" if inside else uri.rstrip("/")


def _v1alpha1(job: FineTuningJob, serve: ServeSpec, source: Manifest) -> tuple[Manifest, Manifest]:
    """A model of its own kind, whose one template is made from the hardware that it needs."""
    gpu: Manifest = {"requests": serve.gpus}
    if serve.gpu_model:
        gpu["model"] = serve.gpu_model
    spec = {
        "image": serve.image,
        "modelSources": [source],
        "custom": {"hardware": {"gpu": gpu}},
    }
    # Such a template counts as unoptimized, and would be passed over.
    template = {"allowUnoptimized": True}
    return spec, {**_model(job), "template": template}


def _v1alpha2(job: FineTuningJob, serve: ServeSpec, source: Manifest) -> tuple[Manifest, Manifest]:
    """The tuned profiles of the base model's AIM, with other weights."""
    selector = {"aimId": serve.aim_id or job.spec.base_model.model_id}
    if serve.gpu_model:
        selector["acceleratorModel"] = serve.gpu_model
    profiles = {
        "derivedFrom": {"selector": selector},
        "versionPolicy": "latest",
        "overrides": {"modelSources": [source]},
    }
    return {"profiles": profiles}, _model(job)


def _model(job: FineTuningJob) -> Manifest:
    return {"model": {"name": job.metadata.name}}


def _object(
    job: FineTuningJob, version: str, kind: str, spec: Manifest, marks: dict[str, str]
) -> Manifest:
    """Owned by nobody: what is served does not end with the job that trained it."""
    where = {"name": job.metadata.name, "namespace": job.metadata.namespace}
    return {
        "apiVersion": f"{AIM_GROUP}/{version}",
        "kind": kind,
        "metadata": {**where, "annotations": marks},
        "spec": spec,
    }


def _text(objects: Iterable[Any]) -> str:
    return yaml.safe_dump_all(objects, sort_keys=False, width=100, allow_unicode=True)
