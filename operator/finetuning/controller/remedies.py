"""What stands in a pod's way: which field of the spec asked for it, and what to do."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.controller.desired import sources

_SHORT_OF = re.compile(r"Insufficient ([-.a-zA-Z0-9]+/[-_a-zA-Z0-9]+)")
"""An extended resource, as the scheduler says it."""

IMAGE_TROUBLE = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
)
"""For which a container waits, in kubelet's words."""


@dataclass(frozen=True)
class Wanted:
    """An object of the job's namespace that the spec names."""

    kind: str
    name: str
    field: str
    remedy: str


def named(job: FineTuningJob, words: str) -> str:
    """Put field and remedy around scheduler's or kubelet's words."""
    words = words.replace("not found. not found", "not found")
    for wanted in _wanted(job):
        missing = f'{wanted.kind} "{wanted.name}"' in words and "not found" in words
        key_missing = wanted.kind == "configmap" and "non-existent config key" in words
        if missing or key_missing:
            return f"{wanted.field}: {words.rstrip('. ')}; {wanted.remedy}."
    return _without_room(job, words)


def _without_room(job: FineTuningJob, words: str) -> str:
    """The same of a volume, a GPU or an image that cannot be had."""
    told = words.rstrip(". ")
    if "unbound immediate PersistentVolumeClaims" in words:
        claim = sources.output(job).claim
        field = "claimName" if job.spec.output.storage.claim_name else "storageClassName"
        look = f"`kubectl --namespace {job.metadata.namespace} describe pvc {claim}`"
        remedy = f"claim {claim} has no volume: {look} says why, `kubectl get storageclass` what"
        return f"spec.output.storage.{field}: {told}; {remedy} classes there are."
    if short := _SHORT_OF.search(words):
        remedy = f"ask for fewer {short[1]}, or wait until a node has so many free"
        return f"spec.resources.limits: {told}; {remedy}."
    if any(sign in words for sign in IMAGE_TROUBLE):
        return (
            f"{told}; mend image.trainer, image.operator or imagePullSecrets of the chart, then "
            "delete the job and create it again: a pod keeps the image that it was made with."
        )
    return words


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
            yield Wanted("configmap", name, field, f"create it with `{make}`")
        if source is not None and source.claim is not None:
            yield _claim(source.claim, field, namespace)
    if output:
        yield _claim(output, "spec.output.storage.claimName", namespace)
    if job.spec.dataset.s3 and job.spec.dataset.s3.secret_name:
        yield _keys(job.spec.dataset.s3.secret_name, "spec.dataset.s3.secretName", namespace)
    publish = job.spec.output.publish
    if publish is not None and publish.s3 is not None and publish.s3.secret_name:
        yield _keys(publish.s3.secret_name, "spec.output.publish.s3.secretName", namespace)
    token = job.spec.base_model.token_secret_ref
    if token is not None:
        make = f"kubectl --namespace {namespace} create secret generic {token.name}"
        remedy = f"create it with `{make} --from-file={token.key}=<file with the token>`"
        yield Wanted("secret", token.name, "spec.baseModel.tokenSecretRef", remedy)
    tracking = job.spec.tracking_secret_ref
    if tracking is not None:
        make = f"kubectl --namespace {namespace} create secret generic {tracking.name}"
        remedy = f"create it with `{make} --from-env-file=<file with NAME=VALUE lines>`"
        yield Wanted("secret", tracking.name, "spec.trackingSecretRef", remedy)


def _keys(name: str, field: str, namespace: str) -> Wanted:
    keys = "--from-literal=AWS_ACCESS_KEY_ID=… --from-literal=AWS_SECRET_ACCESS_KEY=…"
    remedy = f"create it with `kubectl --namespace {namespace} create secret generic {name} {keys}`"
    return Wanted("secret", name, field, remedy)


def _claim(name: str, field: str, namespace: str) -> Wanted:
    remedy = f"create the PersistentVolumeClaim in namespace {namespace} or name another"
    return Wanted("persistentvolumeclaim", name, field, remedy)
