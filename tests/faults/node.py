"""Tells the API server what a kubelet would: that Pods run, end, and with which last words."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.unit.controller.objects import publisher_says, trainer_says, validator_says

from finetuning.controller import naming
from finetuning.controller.gateway import PODS, ApiError, Gateway, Resource

if TYPE_CHECKING:
    from collections.abc import Callable

Raw = dict[str, Any]
BINDINGS = Resource("", "v1", "pods")
NAME = "node-1"
FINAL = {
    naming.TRAINING: trainer_says(step=10, totalSteps=10, loss=0.5),
    naming.VALIDATION: validator_says(),
    naming.PUBLISHING: publisher_says("s3://models/law", manifestSha256="c" * 64),
}
CONTAINERS = {
    naming.TRAINING: naming.TRAINING_CONTAINER,
    naming.VALIDATION: naming.VALIDATION_CONTAINER,
    naming.PUBLISHING: naming.PUBLISHING_CONTAINER,
}
Ending = tuple[int, str]
"""Exit code and last words."""


class Node:
    """Every Pod is started at one look and ended at a later one, as `ending` says."""

    def __init__(self, gateway: Gateway, namespace: str) -> None:
        self._gateway, self._namespace = gateway, namespace
        self.ending: Callable[[Raw], Ending | None] = lambda pod: (0, FINAL[component(pod)])
        """None lets the Pod run on."""
        self.most_writers = 0
        """Trainers of one job that ran at the same time."""
        self.started: list[str] = []

    async def look(self) -> None:
        pods = [
            pod
            async for pod in self._gateway.items(
                PODS, self._namespace, labelSelector=naming.CHILD_SELECTOR
            )
        ]
        alive = [p for p in pods if p["status"].get("phase") in {"Pending", "Running"}]
        writing = (p for p in alive if component(p) == naming.TRAINING and _runs(p))
        writers = Counter(parent(p) for p in writing)
        self.most_writers = max(self.most_writers, *writers.values(), 0)
        going = [p for p in pods if p not in alive and "deletionTimestamp" in p["metadata"]]
        for pod in going:
            with contextlib.suppress(ApiError):
                await self._remove(pod)
        for pod in alive:
            with contextlib.suppress(ApiError):
                await self._serve(pod)

    async def _serve(self, pod: Raw) -> None:
        if "deletionTimestamp" in pod["metadata"]:
            words = trainer_says(result="paused", step=4, totalSteps=10)
            await self._tell(pod, "Failed", _ended(143, words))
            await self._remove(pod)
        elif not pod["spec"].get("nodeName"):
            await self._bind(pod)
            await self._start(pod)
        elif pod["status"].get("phase") == "Pending":  # Bound, and the API server was gone then.
            await self._start(pod)
        elif (ending := self.ending(pod)) is not None:
            code, words = ending
            await self._tell(pod, "Failed" if code else "Succeeded", _ended(code, words))

    async def _start(self, pod: Raw) -> None:
        await self._tell(pod, "Running", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
        self.started.append(pod["metadata"]["name"])

    async def _remove(self, pod: Raw) -> None:
        path = PODS.path(self._namespace, pod["metadata"]["name"])
        await self._gateway._call("delete", PODS, "DELETE", path, body={"gracePeriodSeconds": 0})

    async def _bind(self, pod: Raw) -> None:
        name = pod["metadata"]["name"]
        target = {"apiVersion": "v1", "kind": "Node", "name": NAME}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        path = PODS.path(self._namespace, name, "binding")
        await self._gateway._call("create", PODS, "POST", path, body=body)

    async def _tell(self, pod: Raw, phase: str, state: Raw) -> None:
        container = CONTAINERS[component(pod)]
        image = "registry.example/trainer:1"
        status = {
            "name": container, "state": state, "ready": phase == "Running",
            "restartCount": 0, "image": image, "imageID": image,
        }  # fmt: skip
        changes = {"status": {"phase": phase, "containerStatuses": [status]}}
        await self._gateway.patch(PODS, self._namespace, pod["metadata"]["name"], changes, "status")


def component(pod: Raw) -> str:
    return str(pod["metadata"]["labels"][naming.COMPONENT_LABEL])


def parent(pod: Raw) -> str:
    return str(pod["metadata"]["labels"][naming.JOB_NAME_LABEL])


def _runs(pod: Raw) -> bool:
    return bool(pod["spec"].get("nodeName"))


def _ended(code: int, message: str) -> Raw:
    times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:05:00Z"}
    return {"terminated": {"exitCode": code, "message": message, "reason": "", **times}}
