"""Every name and label of what belongs to a job; see docs/contracts.md."""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

from finetuning.api import v1alpha1

MANAGED_BY = "finetuning-operator"
FIELD_MANAGER = MANAGED_BY

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
COMPONENT_LABEL = "app.kubernetes.io/component"
JOB_NAME_LABEL = "finetuning.aim.amd.com/job-name"
JOB_UID_LABEL = "finetuning.aim.amd.com/job-uid"
METRICS_APP = "finetuning-metrics"

INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
"""Set by Kubernetes on the pods of an Indexed Job; the pod with index 0 reports."""

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""On a Job: Kueue, and nobody else, says when it runs."""
QUEUED_ANNOTATION = "finetuning.aim.amd.com/queued"
"""The same on one that names no queue, and that Kueue has taken all the same."""

REVALIDATE_ANNOTATION = "finetuning.aim.amd.com/revalidate"
"""On a FineTuningJob any new value means: judge the model again. Its Job has the value as well."""
POLICY_ANNOTATION = "finetuning.aim.amd.com/validation-policy"
REPUBLISH_ANNOTATION = "finetuning.aim.amd.com/republish"
"""On a FineTuningJob any new value means: publish the model again."""
SERVE_ANNOTATION = "finetuning.aim.amd.com/serve"
"""On a FineTuningJob any new value means: create what serves the model again."""
MANIFEST_ANNOTATION = "finetuning.aim.amd.com/manifest-sha256"
"""On what serves a model: which one. Another may lie under the same address later."""
WISH_ANNOTATION = "finetuning.aim.amd.com/publish-wish"
"""On a publishing Job: what was asked for, and of which verdict."""
GENERATION_ANNOTATION = "finetuning.aim.amd.com/job-generation"
"""On a validation Job: what it judges by, and the generation of the FineTuningJob that said so."""
LABELS_ANNOTATION = "finetuning.aim.amd.com/extra-labels"
"""On a monitor: the names of the labels that the settings gave it."""

TRAINING = "training"
VALIDATION = "validation"
PUBLISHING = "publishing"
METRICS = "metrics"
STORAGE = "storage"
RENDEZVOUS = "rendezvous"

TRAINING_CONTAINER = "finetuning"
VALIDATION_CONTAINER = "validation"
PUBLISHING_CONTAINER = "publish"
OWN_CONTAINERS = (TRAINING_CONTAINER, VALIDATION_CONTAINER, PUBLISHING_CONTAINER)
"""With whose end the work of a Pod is done."""
SIDECAR_CONTAINER = "metrics"
OUTPUT_VOLUME = "output"
"""In the pods that train and judge: the claim that holds the result."""
METRICS_PORT = 8000

OWN_CLAIM = "-output"
"""What the name of a claim that is made for a job ends with."""

CHILD_SELECTOR = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
"""What the watches of Jobs and Pods are filtered by, on the server."""


_PLAIN = re.compile(rf"[a-z]([-a-z0-9]{{0,{v1alpha1.CHILD_STEM_MAX_LENGTH - 2}}}[a-z0-9])?")
_DIGEST_LENGTH = 8


@dataclass(frozen=True)
class Names:
    """The children of one job."""

    training: str
    validation: str
    metrics: str
    claim: str
    workers: str
    publishing: str


@lru_cache(maxsize=1024)
def names(job: str) -> Names:
    """The job's name with a suffix, where a Service can be called so."""
    first = _stem(job)
    return Names(
        training=f"{first}-train",
        validation=f"{first}-validate",
        metrics=f"{first}-metrics",
        claim=f"{first}{OWN_CLAIM}",
        workers=f"{first}-workers",
        publishing=f"{first}-publish",
    )


def _stem(job: str) -> str:
    """The name itself; one like it with a digest of it where it is long, has dots, or is a number.

    A Service's name starts with a letter and has no dots (RFC 1035).
    """
    if _PLAIN.fullmatch(job):
        return job
    digest = hashlib.sha256(job.encode()).hexdigest()[:_DIGEST_LENGTH]
    like = job.replace(".", "-") if job[0].isalpha() else f"job-{job.replace('.', '-')}"
    room = v1alpha1.CHILD_STEM_MAX_LENGTH - _DIGEST_LENGTH - 1
    return f"{like[:room].rstrip('-')}-{digest}"


def validation_job(job: str, attempt: int) -> str:
    return _numbered(names(job).validation, attempt)


def publishing_job(job: str, attempt: int) -> str:
    return _numbered(names(job).publishing, attempt)


def _numbered(first: str, attempt: int) -> str:
    """The first attempt has the plain name; `-999` still fits into the 63 of a label value."""
    return first if attempt == 1 else f"{first}-{attempt}"


def attempt(job: str, name: str) -> int:
    """The number of the attempt whose validation Job has this name; 0 for any other name."""
    return _number(names(job).validation, name)


def publication(job: str, name: str) -> int:
    """The same of a publishing Job."""
    return _number(names(job).publishing, name)


def _number(first: str, name: str) -> int:
    suffix = name.removeprefix(f"{first}-")
    if name == first:
        return 1
    return int(suffix) if name != suffix and suffix.isdecimal() else 0


def served_model(meta: v1alpha1.ObjectMeta) -> str:
    """Owner and name, as AIM wants them; never the base model's owner, who made no such model."""
    return f"{meta.namespace}/{meta.name}"


def labels(meta: v1alpha1.ObjectMeta, component: str) -> dict[str, str]:
    """The labels of every child and every pod."""
    return {
        MANAGED_BY_LABEL: MANAGED_BY,
        COMPONENT_LABEL: component,
        JOB_NAME_LABEL: meta.name,
        JOB_UID_LABEL: meta.uid,
    }


def selector(meta: v1alpha1.ObjectMeta, component: str) -> dict[str, str]:
    """The labels that tell a job's pods of one kind from all other pods."""
    return {JOB_UID_LABEL: meta.uid, COMPONENT_LABEL: component}
