"""The claim that holds checkpoints and the trained model when the user names none."""

from finetuning.api.v1alpha1 import FineTuningJob
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
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(job, naming.names(job.metadata.name).claim, naming.STORAGE),
        "spec": spec,
    }
