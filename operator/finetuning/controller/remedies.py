"""What stands in a pod's way: which field of the spec asked for it, and what to do."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from finetuning.api.v1alpha1 import REGISTRY_KEY, FineTuningJob, PublishSpec, SecretKeyRef
from finetuning.controller import naming
from finetuning.controller.desired import sources

_SHORT_OF = re.compile(r"Insufficient ([-.a-zA-Z0-9]+(?:/[-_a-zA-Z0-9]+)?)")
"""A resource, as the scheduler says it."""
_KEY = re.compile(r"non-existent config key: (\S+)|couldn't find key (\S+) in")
"""Kubelet's words for a ConfigMap or a Secret that is there, and lacks a key."""
_UNNAMED = re.compile(r"failed quota: .*must specify ([-a-zA-Z0-9./,]+) for: ")
"""A quota counts what a container does not name."""
_RANGE = re.compile(r"(maximum|minimum) [-a-z0-9./]+ usage per (Container|Pod) is |request ratio ")
"""A LimitRange."""
_FORBIDDEN = re.compile(r'^FailedCreate: Error creating: (pods "[^"]*" is forbidden: )?')
"""What the Job controller says before the words of whoever forbids its Pod."""

IMAGE_TROUBLE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
"""For which a container waits, in kubelet's words."""


@dataclass(frozen=True)
class Wanted:
    """An object of the job's namespace that the spec names."""

    kind: str
    name: str
    field: str
    remedy: str
    key: str = ""
    """Where one key of it is enough."""
    key_is_fixed: bool = False
    """The spec cannot name another one."""


@dataclass(frozen=True)
class Stage:
    """Whose Pod it is: where its size stands, and how to have another one made."""

    resources: str
    again: str


TRAINING = Stage(
    "spec.resources",
    "delete the job and create it again: a pod keeps the image that it was made with",
)
VALIDATION = Stage(
    "spec.validation.resources", f"give the annotation {naming.REVALIDATE_ANNOTATION} a new value"
)
PUBLISHING = Stage(
    "spec.output.publish.resources",
    f"give the annotation {naming.REPUBLISH_ANNOTATION} a new value",
)


def named(job: FineTuningJob, words: str, stage: Stage = TRAINING) -> str:
    """Put field and remedy around scheduler's or kubelet's words.

    An operator that was restarted has them from the status, where they are already.
    """
    if words.startswith("spec."):
        return words
    words = words.replace("not found. not found", "not found").replace("s. not found", "s")
    wishes = list(_wanted(job))
    if (wanted := _missing(wishes, words)) is not None:
        return f"{wanted.field}: {words.rstrip('. ')}; {wanted.remedy}."
    if (wanted := _without_key(wishes, words)) is not None:
        return f"{wanted.field}: {words.rstrip('. ')}; {_key_remedy(job, wanted)}."
    return _without_room(job, words, stage)


def brief(job: FineTuningJob, words: str) -> str:
    """Of a validation the field and the object alone, since its summary has no room for more.

    The training had what it and the validation both need.
    """
    own = sorted(_wanted(job), key=lambda each: not each.field.startswith("spec.validation"))
    if (wanted := _missing(own, words)) is not None:
        return f"{wanted.field}: {wanted.kind} {wanted.name} is not there: create it"
    if (wanted := _without_key(own, words)) is not None:
        return f"{wanted.field}: {wanted.kind} {wanted.name} has no key {wanted.key}: add it"
    field = f"{VALIDATION.resources}: "
    if words.startswith(field):  # An operator that was restarted has them from `named`.
        words = words.removeprefix(field).rpartition("; ")[0]
    told = _FORBIDDEN.sub("", words).rstrip(". ")
    sized = _SHORT_OF.search(words) or _of_size(words)
    return f"{field}{told}" if sized else told


def _missing(wishes: Iterable[Wanted], words: str) -> Wanted | None:
    if "not found" not in words:
        return None
    return next((each for each in wishes if f'{each.kind} "{each.name}"' in words), None)


def _without_key(wishes: Iterable[Wanted], words: str) -> Wanted | None:
    """What wants the key that kubelet does not find; it seldom says of which object."""
    found = _KEY.search(words)
    if found is None:
        return None
    key = found[1] or found[2]
    return next((each for each in wishes if each.key == key), None)


def _key_remedy(job: FineTuningJob, wanted: Wanted) -> str:
    """A merge patch, since `apply` would take the keys away that it had before."""
    if wanted.key_is_fixed:
        return f"name one of the right type, or delete it and {wanted.remedy}"
    kind = "secret generic" if wanted.kind == "secret" else wanted.kind
    command = f"kubectl --namespace {job.metadata.namespace}"
    return (
        f"name a key that it has, or add this one with `{command} create {kind} {wanted.name} "
        f"--from-file={wanted.key} --dry-run=client --output json | {command} patch {wanted.kind} "
        f"{wanted.name} --type merge --patch-file /dev/stdin`"
    )


def _of_size(words: str) -> str:
    """What to do where a quota or a LimitRange forbids the Pod; empty where something else does."""
    if found := _UNNAMED.search(words):
        return f"set {found[1]} there"
    if "exceeded quota" in words:
        return "ask for less, wait until others have ended, or have the quota raised"
    return "ask for what the LimitRange of the namespace allows" if _RANGE.search(words) else ""


def _without_room(job: FineTuningJob, words: str, stage: Stage) -> str:
    """The same of a volume, a GPU or an image that cannot be had."""
    told = words.rstrip(". ")
    claim = sources.output(job).claim
    if "unbound immediate PersistentVolumeClaims" in words or words.startswith(f"Claim {claim}: "):
        field = "claimName" if job.spec.output.storage.claim_name else "storageClassName"
        look = f"`kubectl --namespace {job.metadata.namespace} describe pvc {claim}`"
        remedy = f"claim {claim} has no volume: {look} says why, `kubectl get storageclass` what"
        return f"spec.output.storage.{field}: {told}; {remedy} classes there are."
    if short := _SHORT_OF.search(words):
        resource = short[1].rstrip(".")
        return f"{_asked_for(job, resource, stage)}: {told}; {_less(resource)}."
    if remedy := _of_size(words):
        return f"{stage.resources}: {told}; {remedy}."
    if any(sign in words for sign in IMAGE_TROUBLE):
        return (
            f"{told}; mend image.trainer, image.operator or imagePullSecrets of the chart, then "
            f"{stage.again}."
        )
    return words


def _asked_for(job: FineTuningJob, resource: str, stage: Stage) -> str:
    """A request is what the scheduler counts; where only a limit is given, that is the request."""
    if stage is not TRAINING:
        return stage.resources
    asked = job.spec.resources.requests
    return "spec.resources.requests" if resource in asked else "spec.resources.limits"


def _less(resource: str) -> str:
    if "/" in resource:
        return f"ask for fewer {resource}, or wait until a node has so many free"
    return f"ask for less {resource}, or wait until a node has so much free"


def _wanted(job: FineTuningJob) -> Iterator[Wanted]:
    namespace, output = job.metadata.namespace, job.spec.output.storage.claim_name
    named_sources = {
        "spec.dataset.source": sources.dataset(job),
        "spec.dataset.evalSource": sources.evaluation(job),
        "spec.baseModel.source": sources.model(job),
        "spec.validation.heldOut.source": sources.held_out(job),
        "spec.validation.benchmarks.includePath": sources.tasks(job),
    }
    for field, source in named_sources.items():
        if source is not None and source.config_map is not None:
            name, key = source.config_map
            file = key or "<folder with tasks>"
            make = f"kubectl --namespace {namespace} create configmap {name} --from-file={file}"
            yield Wanted("configmap", name, field, f"create it with `{make}`", key)
        if source is not None and source.claim is not None:
            yield _claim(source.claim, field, namespace)
    if output:
        yield _claim(output, "spec.output.storage.claimName", namespace)
    if job.spec.dataset.s3 and job.spec.dataset.s3.secret_name:
        yield _keys(job.spec.dataset.s3.secret_name, "spec.dataset.s3.secretName", namespace)
    yield from _of_places(job.spec.output.publish, namespace)
    token = job.spec.base_model.token_secret_ref
    if token is not None:
        yield _token(token, "spec.baseModel.tokenSecretRef", namespace)
    tracking = job.spec.tracking_secret_ref
    if tracking is not None:
        make = f"kubectl --namespace {namespace} create secret generic {tracking.name}"
        remedy = f"create it with `{make} --from-env-file=<file with NAME=VALUE lines>`"
        yield Wanted("secret", tracking.name, "spec.trackingSecretRef", remedy)


def _keys(name: str, field: str, namespace: str) -> Wanted:
    keys = "--from-literal=AWS_ACCESS_KEY_ID=… --from-literal=AWS_SECRET_ACCESS_KEY=…"
    remedy = f"create it with `kubectl --namespace {namespace} create secret generic {name} {keys}`"
    return Wanted("secret", name, field, remedy)


def _of_places(publish: PublishSpec | None, namespace: str) -> Iterator[Wanted]:
    """What opens the places that a model is published to."""
    if publish is None:
        return
    if publish.s3 is not None and publish.s3.secret_name:
        yield _keys(publish.s3.secret_name, "spec.output.publish.s3.secretName", namespace)
    if publish.oci is not None and publish.oci.secret_name:
        yield _registry_keys(publish.oci.secret_name, namespace)
    if publish.hub is not None:
        field = "spec.output.publish.hub.tokenSecretRef"
        yield _token(publish.hub.token_secret_ref, field, namespace)


def _token(token: SecretKeyRef, field: str, namespace: str) -> Wanted:
    make = f"kubectl --namespace {namespace} create secret generic {token.name}"
    remedy = f"create it with `{make} --from-file={token.key}`, a file that holds nothing else"
    return Wanted("secret", token.name, field, remedy, token.key)


def _registry_keys(name: str, namespace: str) -> Wanted:
    make = f"kubectl --namespace {namespace} create secret docker-registry {name}"
    remedy = f"create it with `{make} --from-file=<the config.json of docker login>`"
    field = "spec.output.publish.oci.secretName"
    return Wanted("secret", name, field, remedy, REGISTRY_KEY, key_is_fixed=True)


def _claim(name: str, field: str, namespace: str) -> Wanted:
    remedy = f"create the PersistentVolumeClaim in namespace {namespace} or name another"
    return Wanted("persistentvolumeclaim", name, field, remedy)
