"""What the operator asks of a real API server, and where a secret may not turn up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.node import component
from tests.faults.scene import Raw, Site, judged, over
from tests.unit.controller.objects import trainer_says, validator_says

from finetuning.controller import naming
from finetuning.controller.gateway import CUSTOMS, EVENTS, JOBS, Resource
from finetuning.controller.permissions import PERMISSIONS, Permission, Scope
from finetuning.controller.settings import MonitoringMode

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

SECRETS = Resource("", "v1", "secrets")
CANARY = "hf_CanaryCanaryCanary0123456789abcdef"


MODE = MonitoringMode.NONE
NOT_IN_THIS_STORY = {
    ("get", "jobs"),  # A Job that the status names and no watch has told of.
    ("get", "persistentvolumeclaims"),  # A claim that was there before.
    ("create", "persistentvolumeclaims"),  # A job without a claim of the user's.
    ("list", "events"),  # A Pod that does not come.
    ("list", "workloads"),  # A job in a queue.
    ("create", "services"),  # Metrics in other modes, and several workers.
    ("get", "services"),
    ("list", "services"),  # What another mode left.
    ("delete", "services"),
    ("list", "servicemonitors"),
    ("delete", "servicemonitors"),
}


def rights(permissions: Iterable[Permission]) -> set[tuple[str, str]]:
    return {(verb, each.resource) for each in permissions for verb in each.verbs}


def asked(site: Site) -> set[tuple[str, str]]:
    found = set()
    for event in site.plane.audited():
        about = event.get("objectRef") or {}
        sub = f"/{about['subresource']}" if about.get("subresource") else ""
        found.add((event["verb"], f"{about.get('resource', '')}{sub}"))
    return found


@pytest.mark.fault(
    "Rights against what the audit log saw",
    "no call beyond the role, no refusal",
)
async def test_the_audit_log_knows_no_call_beyond_the_permissions_and_no_refusal(
    site: Site, record_property: Any
) -> None:
    before = len(site.plane.audited())  # An API server that comes back refuses for a moment.
    site.start_operator()
    await site.submit(output={"storage": {"claimName": "mine"}}, ttlSecondsAfterFinished=3600)
    await site.until("a verdict", judged)
    await site.submit("second", suspend=True)
    await site.until("a pause", lambda s: s.get("phase") == "Paused", name="second")
    await site.change("second", suspend=False)
    await site.until("a verdict", judged, name="second")
    used = {(verb, kind) for verb, kind in asked(site) if kind and "customresource" not in kind}
    assert used <= rights(PERMISSIONS)
    since = site.plane.audited()[before:]
    assert [e for e in since if e["responseStatus"].get("code") == 403] == []
    of_this_story = rights(
        each
        for each in PERMISSIONS
        if each.scope is Scope.JOBS and MODE in each.modes and not each.only_if
    )
    record_property("happened", f"{len(used)} rights used, none beyond them")
    assert of_this_story - used <= NOT_IN_THIS_STORY


@pytest.mark.fault(
    "A token in a Secret and in a crash message",
    "in no log, status, Event or Job",
)
async def test_a_token_turns_up_nowhere(site: Site) -> None:
    meta = {"name": "hub", "namespace": site.namespace}
    await site.admin.create(SECRETS, {"metadata": meta, "stringData": {"token": CANARY}})
    model = {"modelId": "org/gated", "tokenSecretRef": {"name": "hub", "key": "token"}}

    def ending(pod: Raw) -> tuple[int, str]:
        if pod["metadata"]["labels"][naming.JOB_NAME_LABEL] == "leaks":
            return 1, f"Traceback\nHTTPError: 401 for token {CANARY} (Bearer {CANARY})"
        if component(pod) == naming.TRAINING:
            return 0, trainer_says(step=1, totalSteps=1, message=f"read with {CANARY}")
        return 0, validator_says(report=f"4/4 checks passed, {CANARY}")

    site.node.ending = ending
    site.start_operator(LOG_LEVEL="debug")
    await site.submit(baseModel=model)
    await site.submit("leaks", baseModel=model, backoffLimit=0)
    await site.until("a verdict", judged)
    await site.until("a failure", over, name="leaks")
    places: dict[str, str] = {"log": site.log.read_text()}
    for resource in (CUSTOMS, JOBS, EVENTS):
        found = [raw async for raw in site.admin.items(resource, site.namespace)]
        places[resource.plural] = json.dumps(found)
    assert "[redacted]" in places["finetuningjobs"]
    assert [place for place, text in places.items() if CANARY in text] == []
    assert [e for e in site.plane.audited() if "secrets" in e.get("requestURI", "")] == []
