"""The publishing Job: the trained model is copied to where others find it."""

from finetuning.api.hyperparameters import Method
from finetuning.api.v1alpha1 import (
    REGISTRY_KEY,
    FineTuningJob,
    HubTarget,
    ModelForm,
    OciTarget,
    PublishSpec,
    ResourceSpec,
    SecretKeyRef,
)
from finetuning.artifacts import PUBLISH_DIR, PUBLISHER_ENV
from finetuning.artifacts.exits import ExitCode
from finetuning.controller import naming
from finetuning.controller.desired import pod, sources
from finetuning.controller.desired.metadata import Manifest, metadata
from finetuning.controller.publications import Attempt
from finetuning.controller.settings import Settings

WORK = f"{sources.WORKSPACE}/{PUBLISH_DIR}"
RETRIES = 4
"""With the Job controller's growing pauses about five minutes: a store that restarts is back."""

GRACE_SECONDS = 30
"""A broken upload costs the next try one file at most."""


_PUBLISHER: Manifest = {
    "name": PUBLISHER_ENV,
    "valueFrom": {
        "fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/controller-uid']"}
    },
}


def job(job: FineTuningJob, settings: Settings) -> Manifest:
    """The first attempt, of no wish yet; see `bound`."""
    publish = _asked(job)
    name = naming.names(job.metadata.name).publishing
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(job, name, naming.PUBLISHING),
        "spec": {
            "activeDeadlineSeconds": publish.timeout_seconds,
            "backoffLimit": RETRIES,
            "podFailurePolicy": {"rules": _failure_rules()},
            # Never two writers of one copy.
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {"labels": naming.labels(job.metadata, naming.PUBLISHING)},
                "spec": _pod_spec(job, settings, publish),
            },
        },
    }


def bound(manifest: Manifest, job: FineTuningJob, attempt: Attempt) -> Manifest:
    """The Job of one attempt: for this wish, and for the very files that the verdict is about."""
    found = job.status.validation
    digest = found.manifest_sha256 if found is not None else ""
    named = {
        **manifest["metadata"],
        "name": naming.publishing_job(job.metadata.name, attempt.number),
        "annotations": {naming.WISH_ANNOTATION: attempt.wish},
    }
    spec = manifest["spec"]
    pod_spec = spec["template"]["spec"]
    (container,) = pod_spec["containers"]
    args = [*container["args"], *(["--manifest-sha256", digest] if digest else [])]
    containers = [{**container, "args": args}]
    template = {**spec["template"], "spec": {**pod_spec, "containers": containers}}
    return {**manifest, "metadata": named, "spec": {**spec, "template": template}}


def _asked(job: FineTuningJob) -> PublishSpec:
    publish = job.spec.output.publish
    assert publish is not None, "only built for a job that publishes"  # noqa: S101
    return publish


def _failure_rules() -> list[Manifest]:
    on_exit = {
        "containerName": naming.PUBLISHING_CONTAINER,
        "operator": "In",
        "values": [int(ExitCode.INVALID)],
    }
    return [
        {"action": "FailJob", "onExitCodes": on_exit},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def _pod_spec(job: FineTuningJob, settings: Settings, publish: PublishSpec) -> Manifest:
    base = _base(job, publish)
    return pod.spec(
        job,
        settings,
        gpu=False,
        terminationGracePeriodSeconds=GRACE_SECONDS,
        containers=[_publisher(job, settings, publish)],
        volumes=[
            sources.output(job).volume,
            *([base.volume] if base and base.volume else []),
            *pod.scratch_volumes(settings),
        ],
    )


def _merges(job: FineTuningJob, publish: PublishSpec) -> bool:
    return job.spec.method is not Method.FULL and publish.form is not ModelForm.ADAPTER


def _base(job: FineTuningJob, publish: PublishSpec) -> sources.Source | None:
    """The base model in a claim, where the adapter is to be merged into it."""
    return sources.model(job) if _merges(job, publish) else None


def _publisher(job: FineTuningJob, settings: Settings, publish: PublishSpec) -> Manifest:
    output, base = sources.output(job), _base(job, publish)
    from_hub = _merges(job, publish) and base is None
    return pod.torch_container(
        naming.PUBLISHING_CONTAINER,
        job,
        settings,
        more=[
            _PUBLISHER,
            *pod.s3_variables(publish.s3),
            *_registry_keys(publish.oci),
            *_hub_variables(publish.hub),
            *_signing_key(publish.signing_key_secret_ref),
        ],
        offline=publish.hub is None and not from_hub,
        reads_hub=from_hub,
        resources=publish.resources or ResourceSpec(),
        gpu=False,
        command=["python3", "-m", "finetuning.publish"],
        args=_arguments(job, publish),
        volumeMounts=[
            output.mount(read_only=True),
            output.mount(PUBLISH_DIR, WORK),
            *([base.mount] if base and base.mount else []),
            *pod.scratch_mounts(),
        ],
    )


def _arguments(job: FineTuningJob, publish: PublishSpec) -> list[str]:
    """What a person would type."""
    arguments = {
        "--model-path": sources.OUTPUT,
        "--work-path": WORK,
        "--policy": publish.policy.value,
        "--form": publish.form.value,
    }
    if _merges(job, publish):
        base = _base(job, publish)
        arguments["--base-model"] = base.path if base else job.spec.base_model.model_id
        if base is None and job.spec.base_model.revision:
            arguments["--base-revision"] = job.spec.base_model.revision
    serve = job.spec.output.serve
    if serve is not None and serve.gpu_model is not None:
        arguments |= {
            "--aim-gpu-model": serve.gpu_model,
            "--aim-gpus": str(serve.gpus),
            "--aim-model-id": naming.served_model(job.metadata),
            "--aim-id": serve.aim_id or job.spec.base_model.model_id,
        }
    if publish.s3 is not None:
        arguments["--s3"] = publish.s3.uri
    if publish.oci is not None:
        arguments["--oci"] = publish.oci.uri
    if publish.hub is not None:
        arguments["--hub"] = publish.hub.uri
    plain_http = publish.oci is not None and publish.oci.plain_http
    public = publish.hub is not None and not publish.hub.private
    return [
        *(part for pair in arguments.items() for part in pair),
        *(["--oci-plain-http"] if plain_http else []),
        *(["--hub-public"] if public else []),
        *(["--sign"] if publish.signing_key_secret_ref is not None else []),
    ]


def _registry_keys(target: OciTarget | None) -> list[Manifest]:
    """By the variable that Docker's command reads them from."""
    if target is None or target.secret_name is None:
        return []
    return [pod.from_secret("DOCKER_AUTH_CONFIG", target.secret_name, REGISTRY_KEY)]


def _signing_key(key: SecretKeyRef | None) -> list[Manifest]:
    return [] if key is None else [pod.from_secret("FINETUNING_SIGNING_KEY", key.name, key.key)]


def _hub_variables(target: HubTarget | None) -> list[Manifest]:
    """The token under a name of its own: HF_TOKEN is the one that reads a base model."""
    if target is None:
        return []
    token = target.token_secret_ref
    # Only Hugging Face's own Hub is sure to take files by Xet's chunks.
    address = {"HF_ENDPOINT": target.endpoint, "HF_HUB_DISABLE_XET": "1"} if target.endpoint else {}
    return [
        pod.from_secret("FINETUNING_HUB_TOKEN", token.name, token.key),
        *({"name": name, "value": value} for name, value in address.items()),
    ]
