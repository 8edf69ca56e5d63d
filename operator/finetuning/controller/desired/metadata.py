"""Name, labels and owner of every child."""

from typing import Any

from finetuning.api.v1alpha1 import GROUP, KIND, VERSION, FineTuningJob
from finetuning.controller import naming

Manifest = dict[str, Any]


def metadata(job: FineTuningJob, name: str, component: str) -> Manifest:
    """Owned by the job, so that deleting it deletes the child, also while no operator runs."""
    return {
        "name": name,
        "namespace": job.metadata.namespace,
        "labels": naming.labels(job.metadata, component),
        "ownerReferences": [owner(job)],
    }


def deployment(name: str, uid: str) -> Manifest:
    """The operator's own Deployment as owner of what goes with the release."""
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid}


def owner(job: FineTuningJob) -> Manifest:
    """The job as owner; to block its deletion would need rights on its finalizers."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "name": job.metadata.name,
        "uid": job.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
