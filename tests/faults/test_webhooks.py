"""A real API server that has to ask a webhook about Jobs, and nobody listens there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.faults.node import FINAL, component
from tests.faults.scene import judged
from tests.faults.test_ends import trains
from tests.ports import free_port

from finetuning.controller.gateway import Resource

if TYPE_CHECKING:
    from tests.faults.scene import Raw, Site

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

WEBHOOKS = Resource("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations")
SECONDS = 15.0


async def put_up(site: Site) -> None:
    """As Kueue's, while its manager is down."""
    rule = {
        "apiGroups": ["batch"], "apiVersions": ["v1"], "resources": ["jobs"],
        "operations": ["CREATE", "UPDATE"],
    }  # fmt: skip
    hook = {
        "name": "mjob.example.com", "failurePolicy": "Fail", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "timeoutSeconds": 2, "rules": [rule],
        "clientConfig": {"url": f"https://127.0.0.1:{free_port()}/mutate"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": site.namespace}},
    }  # fmt: skip
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": site.namespace},
        "webhooks": [hook],
    }
    await site.admin._call("create", WEBHOOKS, "POST", WEBHOOKS.path(None), body=body)
    # The API server hears of it by a watch.
    await asyncio.sleep(2)


async def take_down(site: Site) -> None:
    path = WEBHOOKS.path(None, site.namespace)
    await site.admin._call("delete", WEBHOOKS, "DELETE", path)


def waits(status: Raw) -> bool:
    return status.get("reason") == "Forbidden"


@pytest.mark.fault(
    "A webhook about Jobs that does not answer (real API server)",
    "the reason shows within 15 s, of a start and of a pause; then both come about",
)
async def test_a_start_and_a_pause_wait_for_a_webhook(site: Site) -> None:
    await put_up(site)
    site.start_operator()
    await site.submit()
    found = await site.until("why it waits", waits, SECONDS)
    assert 'failed calling webhook "mjob.example.com"' in found["message"]
    await take_down(site)
    site.node.ending = lambda _pod: None
    await site.until("training", trains)
    await put_up(site)
    await site.change(suspend=True)
    found = await site.until("why it is no pause", waits, SECONDS)
    assert found["message"].startswith("Job demo-train cannot be paused")
    await take_down(site)
    await site.until("a pause", lambda s: s.get("phase") == "Paused")
    site.node.ending = lambda pod: (0, FINAL[component(pod)])
    await site.change(suspend=False)
    await site.until("a verdict", judged)
    assert site.node.most_writers == 1
