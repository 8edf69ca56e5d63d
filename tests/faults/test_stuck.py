"""Each way in which a job can be stuck shows in its status within 15 seconds."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.node import Node
from tests.faults.scene import in_words
from typing_extensions import override

from finetuning.controller import naming
from finetuning.controller.gateway import EVENTS, PODS, Gateway, Resource

if TYPE_CHECKING:
    from tests.faults.scene import Raw, Site

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SECONDS = 15.0
QUOTAS = Resource("", "v1", "resourcequotas")
RANGES = Resource("", "v1", "limitranges")


class Told(Node):
    """A node on which a Pod waits for ever, with what scheduler or kubelet say of it."""

    def __init__(self, gateway: Gateway, namespace: str, status: Raw, event: str = "") -> None:
        super().__init__(gateway, namespace)
        self._status, self._event, self._told = status, event, set[str]()

    @override
    async def _serve(self, pod: Raw) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        if name in self._told:
            return
        self._told.add(name)
        await self._gateway.patch(PODS, self._namespace, name, {"status": self._status}, "status")
        if self._event:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            about = {"kind": "Pod", "name": name, "namespace": self._namespace, "uid": uid}
            event = {
                "metadata": {"generateName": f"{name}.", "namespace": self._namespace},
                "involvedObject": about, "reason": "FailedMount", "message": self._event,
                "type": "Warning", "lastTimestamp": now, "firstTimestamp": now,
            }  # fmt: skip
            await self._gateway.create(EVENTS, event)


def unscheduled(message: str) -> Raw:
    mark = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {"conditions": [{**mark, "message": message}]}


def container(reason: str, message: str) -> Raw:
    state = {"waiting": {"reason": reason, "message": message}}
    image = {"image": "trainer:1", "imageID": "", "ready": False, "restartCount": 0}
    named = {"name": naming.TRAINING_CONTAINER, "state": state}
    return {"containerStatuses": [{**named, **image}]}


MISSING = 'persistentvolumeclaim "mine" not found'
KEY = "references non-existent config key: train.jsonl"
PULL = container("ImagePullBackOff", "not found")
SECRET = container("CreateContainerConfigError", 'secret "hub" not found')
NO_CLAIM = unscheduled(MISSING)
ON_A_NODE = {
    "no GPU is free": (
        unscheduled("0/3 nodes: 3 Insufficient amd.com/gpu"), "", "Unschedulable", "amd.com/gpu",
    ),
    "its claim is missing": (NO_CLAIM, "", "Unschedulable", "spec.output.storage.claimName"),
    "its image cannot be pulled": (PULL, "", "ImagePullFailed", "not found"),
    "its Secret is missing": (SECRET, "", "ContainerConfigError", "hub"),
    "its ConfigMap lacks the key": ({}, KEY, "ContainerConfigError", "kubectl --namespace"),
}  # fmt: skip
FORBIDDEN = {
    "the quota is used up": (QUOTAS, {"hard": {"pods": "0"}}, "exceeded quota"),
    "it asks for more than a LimitRange allows": (
        RANGES, {"limits": [{"type": "Container", "max": {"cpu": "1m"}}]}, "maximum cpu usage",
    ),
}  # fmt: skip


async def shows(site: Site, name: str, reason: str, words: str, **spec: Any) -> float:
    await site.submit(name, **spec)
    begun = time.monotonic()

    def told(status: Raw) -> bool:
        return bool(status.get("reason") == reason and words in status.get("message", ""))

    await site.until(f"{reason}: {words}", told, 60, name=name)
    took = time.monotonic() - begun
    await site.remove(name)
    await asyncio.sleep(0.5)
    return took


@pytest.mark.fault(
    "Quota, LimitRange, no GPU, missing claim, Secret, key or image",
    "the reason shows within 15 s of being known",
)
async def test_every_obstacle_shows_in_time(site: Site, record_property: Any) -> None:
    site.start_operator()
    took: dict[str, float] = {}
    for number, (title, (status, event, reason, words)) in enumerate(ON_A_NODE.items()):
        site.node = Told(site.admin, site.namespace, status, event)
        spec: Raw = {"output": {"storage": {"claimName": "mine"}}} if "claim" in title else {}
        took[title] = await shows(site, f"node-{number}", reason, words, **spec)
    for number, (title, (kind, limits, words)) in enumerate(FORBIDDEN.items()):
        meta = {"name": "limit", "namespace": site.namespace}
        made = await site.admin.create(kind, {"metadata": meta, "spec": limits})
        await asyncio.sleep(2)  # The admission's own cache.
        took[title] = await shows(site, f"forbidden-{number}", "PodsForbidden", words)
        await site.admin.delete(kind, site.namespace, "limit", made["metadata"]["uid"])
    record_property("happened", "shown after " + in_words(took))
    # The first one waits for the operator's start as well.
    assert {title: each for title, each in list(took.items())[1:] if each > SECONDS} == {}
