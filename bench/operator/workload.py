"""The objects that are created, the same training Jobs for every subject.

The floor is what Kubernetes itself costs: the very Jobs that the operator would make, created by
the load client, with nobody behind them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetuning.api.v1alpha1 import GROUP, KIND, PLURAL, VERSION, FineTuningJob
from finetuning.controller import desired
from finetuning.controller.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[2]
CRD = ROOT / "crds" / "finetuningjobs.aim.amd.com.yaml"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CLAIM = "results"
SETTINGS = Settings(operator_image="bench/operator:1", trainer_image="bench/trainer:1")
JOBS = "/apis/batch/v1"
CUSTOMS = f"/apis/{GROUP}/{VERSION}"


@dataclass(frozen=True)
class Subject:
    """One contender."""

    name: str
    operator: bool
    validation: bool = False


SUBJECTS = {
    each.name: each
    for each in (
        Subject("floor", operator=False),
        Subject("trained", operator=True),
        Subject("validated", operator=True, validation=True),
    )
}


@dataclass(frozen=True)
class Round:
    """How many jobs, and whether each waits for the pod of the one before it."""

    jobs: int
    one_by_one: bool = False

    @property
    def name(self) -> str:
        return f"{self.jobs}x1" if self.one_by_one else str(self.jobs)


def custom(namespace: str, name: str, *, validation: bool) -> dict[str, Any]:
    """A FineTuningJob as a user writes it, whose result goes into one claim for all."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "baseModel": {"modelId": "bench/tiny"},
            "method": "lora",
            "dataset": {"source": "hf://bench/rows"},
            "hyperparameters": {"epochs": 10, "batchSize": 8, "learningRate": 0.0002},
            "output": {"storage": {"claimName": CLAIM}},
            "resources": {"limits": {"amd.com/gpu": 1, "memory": "8Gi", "cpu": 4}},
            "validation": {"enabled": validation},
        },
    }


def plain(namespace: str, name: str) -> dict[str, Any]:
    """The operator's own training Job, without an owner."""
    raw = custom(namespace, name, validation=False)
    raw["metadata"] |= {"uid": f"floor-{name}", "generation": 1}
    made = desired.build(FineTuningJob.from_body(raw), SETTINGS).training_job
    return {**made, "metadata": {**made["metadata"], "ownerReferences": []}}


def objects(
    subject: Subject, namespace: str, names: Iterable[str]
) -> tuple[str, dict[str, dict[str, Any]]]:
    """The path to create them at, and the objects by job."""
    if not subject.operator:
        path = f"{JOBS}/namespaces/{namespace}/jobs"
        return path, {name: plain(namespace, name) for name in names}
    path = f"{CUSTOMS}/namespaces/{namespace}/{PLURAL}"
    return path, {name: custom(namespace, name, validation=subject.validation) for name in names}


def surroundings(namespace: str) -> list[tuple[str, dict[str, Any]]]:
    """A namespace with a claim that is bound already, and where to create each part."""
    volume = f"{namespace}-{CLAIM}"
    room = {"storage": "1Ti"}
    modes = ["ReadWriteMany"]
    return [
        ("/api/v1/namespaces", named("Namespace", namespace)),
        (
            "/api/v1/persistentvolumes",
            named("PersistentVolume", volume)
            | {
                "spec": {
                    "accessModes": modes,
                    "capacity": room,
                    "hostPath": {"path": "/nowhere"},
                    "claimRef": {"namespace": namespace, "name": CLAIM},
                }
            },
        ),
        (
            f"/api/v1/namespaces/{namespace}/persistentvolumeclaims",
            named("PersistentVolumeClaim", CLAIM)
            | {
                "spec": {
                    "accessModes": modes,
                    "resources": {"requests": room},
                    "volumeName": volume,
                    "storageClassName": "",
                }
            },
        ),
    ]


def named(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
