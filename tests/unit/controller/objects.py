"""API objects as a cluster would send them, and the job they belong to, for the tests here."""

import json
from typing import Any

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.controller import naming, observed, status
from finetuning.controller.observed import BatchJob, Children, Pod
from finetuning.controller.settings import Settings
from finetuning.controller.training_status import Seen

UID = "uid-of-the-job"
SETTINGS = Settings(operator_image="operator:1", trainer_image="trainer:1")
STARTED = "2026-01-01T10:00:00Z"
ENDED = "2026-01-01T10:05:00Z"
CHECKS = ("training_loss", "model_output", "checkpoint_integrity", "aim_profile")


def job_body(name: str = "demo", uid: str = UID, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "aim.amd.com/v1alpha1",
        "kind": "FineTuningJob",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": uid,
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T09:59:00Z",
        },
        "spec": {
            "baseModel": {"modelId": "example/tiny"},
            "dataset": {"source": "configmap:rows:train.jsonl"},
            **spec,
        },
    }


def job(written: dict[str, Any] | None = None, **spec: Any) -> FineTuningJob:
    found = FineTuningJob.from_body(job_body(**spec))
    found.status = status.parse(written)
    return found


def batch_job(
    component: str = naming.TRAINING,
    *,
    failed: str | None = None,
    message: str = "",
    complete: bool = False,
    condition: str | None = None,
    failed_pods: int = 0,
    attempt: int = 1,
    **fields: Any,
) -> BatchJob:
    conditions = []
    if failed is not None:
        conditions.append(
            {"type": "Failed", "status": "True", "reason": failed} | {"message": message}
        )
    if complete:
        conditions.append({"type": "Complete", "status": "True"})
    if condition is not None:
        conditions.append({"type": condition, "status": "True"})
    for each in conditions:
        each["lastTransitionTime"] = ENDED
    labels = {
        naming.JOB_NAME_LABEL: "demo",
        naming.JOB_UID_LABEL: UID,
        naming.COMPONENT_LABEL: component,
    }
    judge = naming.validation_job("demo", attempt)
    name = naming.names("demo").training if component == naming.TRAINING else judge
    owner = {"kind": "FineTuningJob", "uid": UID, "name": "demo", "controller": True}
    return observed.batch_job(
        {
            "metadata": {
                "namespace": "team",
                "name": name,
                "uid": f"uid-{component}",
                "labels": labels,
                "ownerReferences": [owner],
            },
            "spec": {"suspend": fields.pop("suspend", False)},
            "status": {"conditions": conditions, "failed": failed_pods, **fields},
        }
    )


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def running() -> dict[str, Any]:
    return {"running": {"startedAt": STARTED}}


def ended(code: int, message: str = "", reason: str = "") -> dict[str, Any]:
    times = {"startedAt": STARTED, "finishedAt": ENDED}
    return {"terminated": {"exitCode": code, "message": message, "reason": reason, **times}}


def pod(
    state: dict[str, Any] | None = None,
    *,
    component: str = naming.TRAINING,
    name: str = "demo-train-x",
    sidecar: dict[str, Any] | None = None,
    last: dict[str, Any] | None = None,
    created: str = STARTED,
    deletes: str | None = None,
    index: int | None = None,
    **fields: Any,
) -> Pod:
    main = (
        naming.TRAINING_CONTAINER if component == naming.TRAINING else naming.VALIDATION_CONTAINER
    )
    statuses: dict[str, Any] = {}
    if state is not None:
        image = "registry.example/trainer:1"
        statuses["containerStatuses"] = [{"name": main, "image": image, "state": state}]
    if sidecar is not None:
        statuses["initContainerStatuses"] = [
            {"name": naming.SIDECAR_CONTAINER, "state": sidecar, "lastState": last}
        ]
    labels = {naming.JOB_UID_LABEL: UID, naming.COMPONENT_LABEL: component}
    if index is not None:
        labels[naming.INDEX_LABEL] = str(index)
    return observed.pod(
        {
            "metadata": {
                "namespace": "team",
                "name": name,
                "uid": f"uid-{name}",
                "labels": labels,
                "creationTimestamp": created,
                "deletionTimestamp": deletes,
                "ownerReferences": [{"kind": "Job", "uid": f"uid-{component}", "controller": True}],
            },
            "status": {"phase": "Pending", **statuses, **fields},
        }
    )


def seen(
    *pods: Pod,
    of: FineTuningJob | None = None,
    training: BatchJob | None = None,
    validation: BatchJob | None = None,
    validation_pods: tuple[Pod, ...] = (),
    **fields: Any,
) -> Seen:
    children = Children(
        training=training,
        validation=validation,
        training_pods=pods,
        validation_pods=validation_pods,
    )
    return Seen(job=of or job(), children=children, **fields)


def trainer_says(**fields: Any) -> str:
    return json.dumps({"kind": "training", "result": "finished", **fields})


def publisher_says(*locations: str, **fields: Any) -> str:
    copies = [
        {"kind": "s3", "location": each, "digest": "f" * 64, "files": 9, "sizeBytes": 1000}
        for each in locations
    ]
    return json.dumps({"kind": "publish", "copies": copies, **fields})


def validator_says(*failed: str, names: tuple[str, ...] = CHECKS, **fields: Any) -> str:
    checks = [
        {"name": name, "result": "Fail" if name in failed else "Pass", "message": f"about {name}"}
        for name in names
    ]
    return json.dumps({"kind": "validation", "checks": checks, **fields})
