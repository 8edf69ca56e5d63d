"""A missing object: which field of the spec asked for it, and what to do."""

from collections.abc import Iterator
from dataclasses import dataclass

from finetuning.api.v1alpha1 import FineTuningJob


@dataclass(frozen=True)
class Wanted:
    """An object of the job's namespace that the spec names."""

    kind: str
    name: str
    field: str
    remedy: str


def named(job: FineTuningJob, words: str) -> str:
    """Put field and remedy around scheduler's or kubelet's words on a missing object."""
    for wanted in _wanted(job):
        missing = f'{wanted.kind} "{wanted.name}"' in words and "not found" in words
        key_missing = wanted.kind == "configmap" and "non-existent config key" in words
        if missing or key_missing:
            return f"{wanted.field}: {words.rstrip('. ')}; {wanted.remedy}."
    return words


def _wanted(job: FineTuningJob) -> Iterator[Wanted]:
    source, namespace = job.spec.dataset.source, job.metadata.namespace
    if source.startswith("configmap:"):
        _, name, key = source.split(":", 2)
        make = f"kubectl --namespace {namespace} create configmap {name} --from-file={key}"
        yield Wanted("configmap", name, "spec.dataset.source", f"create it with `{make}`")
    yield from _claim(source, "spec.dataset.source", namespace)
    yield from _claim(job.spec.base_model.source or "", "spec.baseModel.source", namespace)
    claim = job.spec.output.storage.claim_name
    if claim:
        yield from _claim(f"pvc://{claim}", "spec.output.storage.claimName", namespace)
    token = job.spec.base_model.token_secret_ref
    if token is not None:
        make = f"kubectl --namespace {namespace} create secret generic {token.name}"
        remedy = f"create it with `{make} --from-file={token.key}=<file with the token>`"
        yield Wanted("secret", token.name, "spec.baseModel.tokenSecretRef", remedy)


def _claim(uri: str, field: str, namespace: str) -> Iterator[Wanted]:
    if uri.startswith("pvc://"):
        name = uri.removeprefix("pvc://").partition("/")[0]
        remedy = f"create the PersistentVolumeClaim in namespace {namespace} or name another"
        yield Wanted("persistentvolumeclaim", name, field, remedy)
