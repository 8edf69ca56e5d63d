"""What the training and the validation pod have in common.

Both pass the restricted Pod Security Standard and hold no API token: they run code and read data
of the user's choice.
"""

from collections.abc import Sequence
from typing import Any

from finetuning.api.v1alpha1 import FineTuningJob, ResourceSpec, S3Spec
from finetuning.artifacts import TERMINATION_LOG_ENV
from finetuning.controller.desired import sources
from finetuning.controller.desired.metadata import Manifest
from finetuning.controller.errors import InvalidSpecError
from finetuning.controller.settings import Settings

TEMPLATES_CONFIGMAP = "finetuning-templates"
TERMINATION_LOG = "/dev/termination-log"
LONGEST_VARIABLE = 131_072
"""Bytes of name, `=`, value and the zero behind it; with more no process starts."""


def spec(job: FineTuningJob, settings: Settings, *, gpu: bool = True, **fields: Any) -> Manifest:
    """The pod's spec; `fields` has its containers and volumes."""
    pod: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        # Services of the namespace would otherwise leak into the environment by the hundred.
        "enableServiceLinks": False,
        "securityContext": _pod_security(settings, gpu=gpu),
        **fields,
    }
    if job.spec.priority_class_name is not None:
        pod["priorityClassName"] = job.spec.priority_class_name
    if settings.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    return pod


def _pod_security(settings: Settings, *, gpu: bool) -> Manifest:
    context: Manifest = {
        "runAsNonRoot": True,
        "runAsUser": settings.run_as_user,
        "runAsGroup": settings.run_as_user,
        "fsGroup": settings.run_as_user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": _seccomp(settings.gpu_seccomp_profile if gpu else ""),
    }
    if settings.gpu_supplemental_groups:
        context["supplementalGroups"] = list(settings.gpu_supplemental_groups)
    return context


def _seccomp(profile: str) -> Manifest:
    """A profile of the nodes is within the restricted standard as well; none at all is not."""
    if not profile:
        return {"type": "RuntimeDefault"}
    return {"type": "Localhost", "localhostProfile": profile}


def container(name: str, image: str, settings: Settings, **fields: Any) -> Manifest:
    """A container without privileges, on a read-only root file system."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": TERMINATION_LOG,
        **fields,
    }


def torch_container(
    name: str,
    job: FineTuningJob,
    settings: Settings,
    config: Manifest | None = None,
    *,
    more: Sequence[Manifest] = (),
    offline: bool,
    reads_hub: bool | None = None,
    resources: ResourceSpec,
    gpu: bool = True,
    **fields: Any,
) -> Manifest:
    """A container of the trainer's image.

    `config` is the variable with its configuration, if it has one, and `more` are those beside
    the variables of every such container; without `gpu` it gets none that it does not ask for.
    The token of the base model is for one that reads from the Hub, as any does that is not offline.
    """
    reads = not offline if reads_hub is None else reads_hub
    return container(
        name,
        settings.trainer_image,
        settings,
        env=[
            *([config] if config else []),
            *_environment(offline=offline),
            *(_hub_token(job) if reads else []),
            *(_gpu_environment(settings) if gpu else []),
            *more,
        ],
        resources=_resources(resources, settings, gpu=gpu),
        # A crash before the first own word still leaves its last lines for the job's status.
        terminationMessagePolicy="FallbackToLogsOnError",
        **fields,
    )


def _environment(*, offline: bool) -> list[Manifest]:
    values = {
        "HF_HOME": "/tmp/huggingface",  # noqa: S108 - an emptyDir of the pod's own
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HOME": "/tmp",  # noqa: S108
        "OMP_WAIT_POLICY": "passive",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        TERMINATION_LOG_ENV: TERMINATION_LOG,
    }
    if offline:
        values["HF_HUB_OFFLINE"] = "1"
    return [{"name": name, "value": value} for name, value in values.items()]


def _hub_token(job: FineTuningJob) -> list[Manifest]:
    token = job.spec.base_model.token_secret_ref
    return [] if token is None else [from_secret("HF_TOKEN", token.name, token.key)]


def _gpu_environment(settings: Settings) -> list[Manifest]:
    return [{"name": name, "value": text} for name, text in settings.gpu_environment.items()]


def from_secret(variable: str, name: str, key: str, *, optional: bool = False) -> Manifest:
    """An environment variable that kubelet fills from a Secret."""
    reference: Manifest = {"name": name, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def s3_variables(store: S3Spec | None) -> list[Manifest]:
    """Where a store is, by the names that every S3 client reads; keys come from a Secret."""
    if store is None:
        return []
    plain = {"AWS_ENDPOINT_URL": store.endpoint, "AWS_REGION": store.region}
    env: list[Manifest] = [{"name": name, "value": value} for name, value in plain.items() if value]
    if store.secret_name:
        env += [
            from_secret(name, store.secret_name, name, optional=name == "AWS_SESSION_TOKEN")
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        ]
    return env


def _resources(wanted: ResourceSpec, settings: Settings, *, gpu: bool) -> Manifest:
    """The user's own, plus one GPU when neither map names the resource.

    Devices must have request == limit, so each map is completed from the other.
    """
    requests = {name: str(value) for name, value in wanted.requests.items()}
    limits = {name: str(value) for name, value in wanted.limits.items()}
    devices = {name: value for name, value in {**requests, **limits}.items() if "/" in name}
    if gpu:
        devices.setdefault(settings.gpu_resource_name, "1")
    return {"requests": {**requests, **devices}, "limits": {**limits, **devices}}


def scratch_volumes(settings: Settings) -> list[Manifest]:
    """What a read-only root file system takes away: /tmp and shared memory.

    That counts as the pod's memory only as far as it is used.
    """
    shared_memory = {"medium": "Memory", "sizeLimit": settings.shared_memory}
    return [{"name": "tmp", "emptyDir": {}}, {"name": "shm", "emptyDir": shared_memory}]


def scratch_mounts() -> list[Manifest]:
    return [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
    ]


def templates_volume() -> Manifest:
    """Rows that an admin offers to all jobs of a namespace."""
    return {"name": "templates", "configMap": {"name": TEMPLATES_CONFIGMAP, "optional": True}}


def templates_mount() -> Manifest:
    return {"name": "templates", "mountPath": sources.TEMPLATES, "readOnly": True}


def variable(name: str, text: str, field: str) -> Manifest:
    """An environment variable; `field` is what of the spec is in it.

    Raises InvalidSpecError where it is longer than one can be.
    """
    size = len(f"{name}={text}".encode()) + 1
    if size > LONGEST_VARIABLE:
        remedy = (
            f"as JSON are more than the {LONGEST_VARIABLE} that Linux passes in one variable: give "
            "fewer or shorter texts."
        )
        raise InvalidSpecError(field, f"{size} bytes", remedy)
    return {"name": name, "value": text}
