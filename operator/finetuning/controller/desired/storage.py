"""The claim that holds checkpoints and the trained model when the user names none."""

from finetuning.api.v1alpha1 import FineTuningJob, WhenDeleted
from finetuning.controller import naming
from finetuning.controller.desired.metadata import Manifest, metadata


def claim(job: FineTuningJob) -> Manifest:
    storage = job.spec.output.storage
    spec: Manifest = {
        "accessModes": [job.spec.access_mode.value],
        "resources": {"requests": {"storage": str(storage.size)}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    meta = metadata(job, naming.names(job.metadata.name).claim, naming.STORAGE)
    if storage.when_deleted is WhenDeleted.RETAIN:
        del meta["ownerReferences"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": meta,
        "spec": spec,
    }
