"""The watches read what the views are made of, and nothing of it is left out."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from tests.unit.controller.objects import ENDED, STARTED, UID, ended, job_body, running, waiting

from finetuning.api.v1alpha1 import KIND
from finetuning.controller import naming, observed, wire

LABELS = {
    naming.JOB_NAME_LABEL: "demo",
    naming.JOB_UID_LABEL: UID,
    naming.COMPONENT_LABEL: naming.TRAINING,
    naming.INDEX_LABEL: "1",
    naming.QUEUE_LABEL: "gpus",
}
ANNOTATIONS = dict.fromkeys(
    (
        naming.POLICY_ANNOTATION,
        naming.REVALIDATE_ANNOTATION,
        naming.GENERATION_ANNOTATION,
        naming.WISH_ANNOTATION,
        naming.REPUBLISH_ANNOTATION,
        naming.SERVE_ANNOTATION,
    ),
    "7",
)
METADATA = {
    "namespace": "team",
    "name": "demo-train",
    "uid": "uid-1",
    "resourceVersion": "9",
    "creationTimestamp": STARTED,
    "deletionTimestamp": ENDED,
    "labels": LABELS,
    "annotations": ANNOTATIONS,
    "ownerReferences": [{"kind": KIND, "uid": UID, "name": "demo", "controller": True}],
    "managedFields": [{"manager": "x"}],
}
MOUNTS = {"name": naming.OUTPUT_VOLUME, "mountPath": "/output", "subPath": "run"}
POD_SPEC = {
    "nodeName": "gpu-7",
    "volumes": [{"name": naming.OUTPUT_VOLUME, "persistentVolumeClaim": {"claimName": "shared"}}],
    "containers": [{"name": naming.TRAINING_CONTAINER, "volumeMounts": [MOUNTS]}],
}
TYPES = ("Complete", "Failed", "FailureTarget", "Suspended")


def mark(kind: str) -> dict[str, str]:
    return {"type": kind, "status": "True", "reason": "why", "lastTransitionTime": ENDED}


JOB = {
    "metadata": METADATA,
    "spec": {
        "suspend": True,
        "ttlSecondsAfterFinished": 60,
        "activeDeadlineSeconds": 1,
        "template": {"spec": POD_SPEC},
    },
    "status": {
        "active": 1,
        "failed": 2,
        "startTime": STARTED,
        "completionTime": ENDED,
        "conditions": [mark(kind) for kind in TYPES],
    },
}
POD = {
    "metadata": METADATA,
    "spec": POD_SPEC,
    "status": {
        "phase": "Failed",
        "podIP": "10.0.0.1",
        "reason": "Evicted",
        "message": "The node was low on memory",
        "conditions": [
            {**mark("PodScheduled"), "status": "False", "reason": "Unschedulable"},
            mark("DisruptionTarget"),
        ],
        "initContainerStatuses": [
            {"name": naming.SIDECAR_CONTAINER, "state": waiting("CrashLoopBackOff")}
        ],
        "containerStatuses": [
            {"name": naming.TRAINING_CONTAINER, "state": ended(1, "boom")},
            {"name": "istio-proxy", "state": running()},
        ],
    },
}
CUSTOM = job_body() | {"status": {"phase": "Failed", "completionTime": ENDED}}
CUSTOM["metadata"] |= METADATA


@pytest.mark.parametrize(
    ("raw", "view", "read"),
    [
        (JOB, observed.batch_job, wire.job),
        (POD, observed.pod, wire.pod),
        (CUSTOM, observed.custom, wire.custom),
    ],
)
def test_what_a_watch_reads_makes_the_same_view(
    raw: Mapping[str, Any],
    view: Callable[[Mapping[str, Any]], Any],
    read: Callable[[msgspec.Raw], Any],
) -> None:
    seen = view(raw)
    assert read(msgspec.Raw(json.dumps(raw).encode())) == seen
    fields = [each for each in dataclasses.fields(seen) if each.default is not dataclasses.MISSING]
    untold = [each.name for each in fields if getattr(seen, each.name) == each.default]
    assert untold == [], "each field of the view has to be told here"
