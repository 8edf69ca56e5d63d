"""What Kueue says of a Job that waits for it, out of the Job's Workload."""

from collections.abc import Iterable, Mapping
from typing import Any

from finetuning.artifacts.plain import plain
from finetuning.controller.gateway import ApiError, Gateway, Resource
from finetuning.controller.observed import Meta, Raw

WORKLOADS = tuple(
    Resource("kueue.x-k8s.io", version, "workloads") for version in ("v1beta2", "v1beta1")
)
"""By the versions that Kueue's releases serve; what is read is the same in both."""
JOB_UID_LABEL = "kueue.x-k8s.io/job-uid"
MARK = "Kueue: "
"""What its words begin with in a status."""

NOT_INSTALLED = "is not installed: there is no kind workloads.kueue.x-k8s.io in this cluster."
NO_WORKLOAD = (
    "has made no Workload of Job {job}: its manager is down, does not serve batch/job, or there is "
    "no such PriorityClass as the job names."
)

_FORBIDDEN, _NOT_FOUND = 403, 404


async def hint(gateway: Gateway, job: Meta) -> str:
    """Why the Job still waits; empty when it waits no longer, or where nobody may read that."""
    try:
        words = _said(await _workloads(gateway, job), job)
    except ApiError as error:
        if error.code == _FORBIDDEN:
            return ""
        raise
    return f"{MARK}{words}" if words else ""


async def has(gateway: Gateway, job: Meta) -> bool:
    """Whether the Job has a Workload, by which Kueue starts and stops it."""
    try:
        return bool(await _workloads(gateway, job))
    except ApiError as error:
        if error.code == _FORBIDDEN:
            return False
        raise


def _said(workloads: list[Raw] | None, job: Meta) -> str:
    if workloads is None:
        return NOT_INSTALLED
    return words(workloads[0]) if workloads else NO_WORKLOAD.format(job=job.name)


async def _workloads(gateway: Gateway, job: Meta) -> list[Raw] | None:
    """None where Kueue is not installed."""
    selector = f"{JOB_UID_LABEL}={job.uid}"
    for resource in WORKLOADS:
        try:
            found = gateway.items(resource, job.namespace, labelSelector=selector)
            return [each async for each in found]
        except ApiError as error:
            if error.code != _NOT_FOUND:
                raise
    return None


def kept(message: str) -> str:
    """Its words out of the status that an earlier life of the operator wrote."""
    _, mark, words_then = message.partition(MARK)
    return mark + words_then


def words(workload: Mapping[str, Any]) -> str:
    """Of a Workload that is not admitted: what took its place, and what it lacks now."""
    status = workload.get("status") or {}
    conditions = {str(each.get("type")): each for each in status.get("conditions") or []}
    if _holds(conditions, "Admitted"):
        return ""
    if _holds(conditions, "QuotaReserved"):
        return _checks(status.get("admissionChecks") or [])
    told = [_message(conditions["Evicted"])] if _holds(conditions, "Evicted") else []
    told.append(_message(conditions.get("QuotaReserved") or {}))
    # Of an eviction, both say the same until Kueue has looked for quota anew.
    return plain(" ".join(dict.fromkeys(filter(None, told))), 700)


def _holds(conditions: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    return (conditions.get(name) or {}).get("status") == "True"


def _message(condition: Mapping[str, Any]) -> str:
    text = str(condition.get("message") or "").strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _checks(checks: Iterable[Mapping[str, Any]]) -> str:
    waits = [
        f"{each.get('name')} ({each.get('message') or each.get('state')})"
        for each in checks
        if each.get("state") != "Ready"
    ]
    names = ", ".join(waits)
    return plain(f"it has its quota and waits for the admission checks {names}.", 700)
