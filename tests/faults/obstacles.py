"""What can keep the Pod of a stage from coming or starting, as the one who knows says it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.faults.node import CONTAINERS, Node, component, parent
from typing_extensions import override

from finetuning.controller.gateway import EVENTS, PODS, Gateway, Resource

if TYPE_CHECKING:
    from tests.faults.scene import Raw

POLICY_API = ("admissionregistration.k8s.io", "v1")
POLICIES = Resource(*POLICY_API, "validatingadmissionpolicies")
BINDINGS = Resource(*POLICY_API, "validatingadmissionpolicybindings")
QUOTAS = Resource("", "v1", "resourcequotas")
RANGES = Resource("", "v1", "limitranges")


@dataclass(frozen=True)
class Obstacle:
    """Of a Pod that is there: what scheduler or kubelet write of it, and what the status says."""

    title: str
    reason: str
    words: str
    unscheduled: str = ""
    waiting: tuple[str, str] = ("", "")
    event: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    """What asks for the thing that is missing."""

    def status(self, stage: str) -> Raw:
        if self.unscheduled:
            mark = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            return {"conditions": [{**mark, "message": self.unscheduled}]}
        reason, message = self.waiting
        if not reason:
            return {}
        image = {"image": "trainer:1", "imageID": "", "ready": False, "restartCount": 0}
        state = {"waiting": {"reason": reason, "message": message}}
        return {"containerStatuses": [{"name": CONTAINERS[stage], "state": state, **image}]}


class Obstructing(Node):
    """At one stage of each job that is named, its Pod waits for ever."""

    def __init__(self, gateway: Gateway, namespace: str, stage: str) -> None:
        super().__init__(gateway, namespace)
        self._stage = stage
        self.obstacles: dict[str, Obstacle] = {}
        self.told: dict[str, float] = {}
        """When, by the name of the job."""

    @override
    async def _serve(self, pod: Raw) -> None:
        name = parent(pod)
        obstacle = self.obstacles.get(name)
        if obstacle is None or component(pod) != self._stage:
            await super()._serve(pod)
        elif name not in self.told:
            await self._tell_obstacle(pod, obstacle)
            self.told[name] = time.monotonic()

    async def _tell_obstacle(self, pod: Raw, obstacle: Obstacle) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        status = {"status": obstacle.status(self._stage)}
        await self._gateway.patch(PODS, self._namespace, name, status, "status")
        if not obstacle.event:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {"kind": "Pod", "name": name, "namespace": self._namespace, "uid": uid}
        event = {
            "metadata": {"generateName": f"{name}.", "namespace": self._namespace},
            "involvedObject": about, "reason": "FailedMount", "message": obstacle.event,
            "type": "Warning", "lastTimestamp": now, "firstTimestamp": now,
        }  # fmt: skip
        await self._gateway.create(EVENTS, event)


@dataclass(frozen=True)
class Ban:
    """An object that lets no Pod of a namespace be made any more."""

    title: str
    words: str
    parts: tuple[tuple[Resource, dict[str, Any]], ...]

    async def begin(self, admin: Gateway, namespace: str) -> None:
        for kind, body in self.parts:
            path = kind.path(None if kind in (POLICIES, BINDINGS) else namespace)
            await admin._call("create", kind, "POST", path, body=body)

    async def end(self, admin: Gateway, namespace: str) -> None:
        for kind, body in reversed(self.parts):
            where = None if kind in (POLICIES, BINDINGS) else namespace
            path = kind.path(where, body["metadata"]["name"])
            await admin._call("delete", kind, "DELETE", path)


def policy(namespace: str) -> Ban:
    """As a company's admission policies or webhooks do; here by CEL in the API server itself."""
    meta = {"name": f"no-pods-{namespace}"}
    rules = [
        {
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["pods"], "scope": "Namespaced",
        }
    ]  # fmt: skip
    said = "pods need the label cost-center"
    check = {"expression": "'cost-center' in object.metadata.labels", "message": said}
    spec = {"matchConstraints": {"resourceRules": rules}, "validations": [check]}
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    bound = {"policyName": meta["name"], "validationActions": ["Deny"], "matchResources": here}
    api = {"apiVersion": "/".join(POLICY_API)}
    return Ban(
        "an admission policy forbids it",
        said,
        (
            (
                POLICIES,
                {**api, "kind": "ValidatingAdmissionPolicy", "metadata": meta, "spec": spec},
            ),
            (
                BINDINGS,
                {
                    **api,
                    "kind": "ValidatingAdmissionPolicyBinding",
                    "metadata": meta,
                    "spec": bound,
                },
            ),
        ),
    )


def bans(namespace: str) -> tuple[Ban, ...]:
    meta = {"name": "limit", "namespace": namespace}
    none = {"metadata": meta, "spec": {"hard": {"pods": "0"}}}
    small = {
        "metadata": meta,
        "spec": {"limits": [{"type": "Pod", "min": {"cpu": "64"}}]},
    }
    return (
        Ban("the quota is used up", "exceeded quota", ((QUOTAS, none),)),
        Ban(
            "a LimitRange wants it larger",
            "usage per Pod is",
            ((RANGES, small),),
        ),
        policy(namespace),
    )
