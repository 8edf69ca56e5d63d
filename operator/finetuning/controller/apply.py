"""The only writes: children created once under fixed names, Jobs suspended, status patched, events.

Deleted is what tells Prometheus of a job, where it was changed or is of no use any more.

A child that exists already is adopted when this very job owns it, waited for when it belongs to a
deleted job of the same name, and left alone when it is anybody else's.
"""

import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from finetuning.api.v1alpha1 import GROUP, KIND, VERSION, Reason
from finetuning.artifacts.plain import plain
from finetuning.controller import naming, observed
from finetuning.controller.desired.metadata import Manifest
from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import (
    CLAIMS,
    CUSTOMS,
    EVENTS,
    JOBS,
    POD_MONITORS,
    SERVICE_MONITORS,
    SERVICES,
    ApiError,
    Gateway,
    Raw,
    Resource,
)
from finetuning.controller.training_status import Problem

log = logging.getLogger(__name__)

_RESOURCES: dict[str, Resource] = {
    "Job": JOBS,
    "PersistentVolumeClaim": CLAIMS,
    "Service": SERVICES,
    "ServiceMonitor": SERVICE_MONITORS,
    "PodMonitor": POD_MONITORS,
}

AT_ONCE = 1
"""Seconds that a Job may run which is to end; no user may ask for so few."""

NO_WEBHOOK = re.compile("failed calling webhook|conversion webhook for .* failed")
"""The API server's words, with code 500, where a webhook has to be asked and does not answer."""

_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _INVALID = 400, 403, 404, 409, 422


def kind_of(resource: Resource) -> str:
    """What manifests call it."""
    return next(kind for kind, each in _RESOURCES.items() if each == resource)


class CannotApplyError(Exception):
    """A child cannot be made; `problem` says why, in the words of the status."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


class NamespaceGoneError(Exception):
    """The namespace is being deleted, and the job with it."""


async def create(gateway: Gateway, manifest: Manifest) -> Raw:
    """Make a child, or find the one that an earlier look made; raises CannotApplyError."""
    found, _ = await find_or_create(gateway, manifest)
    return found


async def find_or_create(gateway: Gateway, manifest: Manifest) -> tuple[Raw, bool]:
    """The child, and whether it was there before; raises CannotApplyError."""
    resource = _RESOURCES[manifest["kind"]]
    try:
        return await gateway.create(resource, manifest), False
    except ApiError as error:
        if error.code == _CONFLICT and error.reason == "AlreadyExists":
            return await _adopt(gateway, resource, manifest), True
        raise _explained(error, f"{_label(manifest)} cannot be created") from error


async def _adopt(gateway: Gateway, resource: Resource, manifest: Manifest) -> Raw:
    wanted = manifest["metadata"]
    found = await gateway.get(resource, wanted["namespace"], wanted["name"])
    if found is None:
        raise RetryLaterError(f"{_label(manifest)} was there and went")
    meta = observed.meta(found)
    if _is_ours(meta, wanted) and not meta.deleting:
        return found
    if meta.deleting or meta.owner_kind == KIND:
        raise CannotApplyError(left_behind(meta, manifest["kind"]))
    message = (
        f"{_label(manifest)} exists already and does not belong to this job. Delete it or give the "
        f"job another name, then create the job again.{_kept(meta, manifest)}"
    )
    raise CannotApplyError(Problem(Reason.NAME_CONFLICT, message, final=True))


def _kept(found: observed.Meta, wanted: Mapping[str, Any]) -> str:
    """A claim that a job of this name left on purpose can be taken up on purpose."""
    name = wanted["metadata"]["labels"].get(naming.JOB_NAME_LABEL)
    if wanted["kind"] != kind_of(CLAIMS) or found.owner_uid or found.parent != name:
        return ""
    return (
        " An earlier job of this name kept it: to go on in it, say "
        "spec.output.storage.whenDeleted: Retain as that one did."
    )


def left_behind(found: observed.Meta, kind: str) -> Problem:
    """The collector forgets it where its watch broke between the old job's end and the new one."""
    words = f"{kind} {found.name} of an earlier job of this name is still being deleted."
    if not found.deleting:
        words = (
            f"{kind} {found.name} of an earlier job of this name waits for Kubernetes' garbage "
            "collector. When it is still there after some minutes and nobody needs it: "
            f"kubectl --namespace {found.namespace} delete {kind.lower()} {found.name}"
        )
    return Problem(Reason.PREVIOUS_RUN_TERMINATING, words)


def _is_ours(found: observed.Meta, wanted: Mapping[str, Any]) -> bool:
    """Owned by this very job; or owned by nobody, as wished, and made for a job of this name."""
    owners = [each["uid"] for each in wanted.get("ownerReferences", ())]
    if owners or found.owner_uid:
        return found.owner_uid in owners
    return bool(found.parent == wanted["labels"].get(naming.JOB_NAME_LABEL, ""))


def _explained(error: ApiError, what: str, *, mends: bool = False) -> Exception:
    """What the API server's refusal means for the job; errors that may pass stay as they are.

    `mends` where another look may find a refused value allowed.
    """
    if error.code == _FORBIDDEN and "being terminated" in error.message:
        return NamespaceGoneError(error.message)
    words = plain(f"{what}: {error.message}", 1024)
    if error.code in {_BAD_REQUEST, _INVALID} and not mends:
        return CannotApplyError(Problem(Reason.INVALID_SPEC, words, final=True))
    if error.code in {_BAD_REQUEST, _FORBIDDEN, _INVALID} or NO_WEBHOOK.search(error.message):
        return CannotApplyError(Problem(Reason.FORBIDDEN, words))
    return error


def _label(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


async def delete(gateway: Gateway, kind: str, found: Mapping[str, Any]) -> None:
    """Delete this very object; one that is gone, or has a successor, is left alone."""
    meta = observed.meta(found)
    await gateway.delete(_RESOURCES[kind], meta.namespace, meta.name, meta.uid)


async def suspend(gateway: Gateway, job: observed.BatchJob, *, wanted: bool) -> Raw:
    """Pause or continue a Job; its controller stops or starts the Pod.

    Raises CannotApplyError where somebody forbids it.
    """
    patch = {"spec": {"suspend": wanted}}
    try:
        return await gateway.patch(JOBS, job.meta.namespace, job.meta.name, patch)
    except ApiError as error:
        raise no_pause(error, job, wanted=wanted) from error


def no_pause(error: ApiError, job: observed.BatchJob, *, wanted: bool) -> Exception:
    """Why a Job can be neither paused nor continued."""
    what = f"Job {job.meta.name} cannot be {'paused' if wanted else 'let go on'}"
    return _explained(error, what, mends=True)


async def end(gateway: Gateway, job: observed.BatchJob) -> Raw:
    """Have a Job fail at once, or as soon as it is let go; nothing begins it anew."""
    patch = {"spec": {"activeDeadlineSeconds": AT_ONCE}}
    return await gateway.patch(JOBS, job.meta.namespace, job.meta.name, patch)


async def leave_to_kueue(gateway: Gateway, job: observed.BatchJob) -> Raw:
    """Note for every later look, of whichever operator, that its suspend is not ours to write."""
    patch = {"metadata": {"annotations": {naming.QUEUED_ANNOTATION: "true"}}}
    return await gateway.patch(JOBS, job.meta.namespace, job.meta.name, patch)


async def expire(gateway: Gateway, job: observed.BatchJob, seconds: int | None) -> Raw | None:
    """Have a finished Job deleted after `seconds` from its end; None when it is gone already."""
    patch = {"spec": {"ttlSecondsAfterFinished": seconds}}
    try:
        return await gateway.patch(JOBS, job.meta.namespace, job.meta.name, patch)
    except ApiError as error:
        if error.code == _NOT_FOUND:
            return None
        raise


async def patch_status(
    gateway: Gateway, job: observed.Custom, changes: Mapping[str, Any]
) -> Raw | None:
    """Write the status, unless somebody wrote after us; None when the job is gone.

    Raises RetryLaterError when the cache is behind: the next look will know more.
    """
    patch = {
        "metadata": {"resourceVersion": str(job.meta.version), "uid": job.meta.uid},
        "status": changes,
    }
    try:
        return await gateway.patch(CUSTOMS, job.meta.namespace, job.meta.name, patch, "status")
    except ApiError as error:
        if error.code == _NOT_FOUND:
            return None
        if error.code == _CONFLICT:
            raise RetryLaterError("the job changed meanwhile") from error
        if error.code == _INVALID:
            log.warning("job=%s/%s its status was refused: %s", *job.key, error)
        raise


class Words(Protocol):
    """What an Event says."""

    @property
    def reason(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def warning(self) -> bool: ...


async def post_event(gateway: Gateway, job: observed.Custom, words: Words, now: datetime) -> None:
    meta, time = job.meta, now.strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{meta.name}.", "namespace": meta.namespace},
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
        },
        "reason": words.reason,
        "message": plain(words.message, 1000),
        "type": "Warning" if words.warning else "Normal",
        "source": {"component": naming.MANAGED_BY},
        "reportingComponent": naming.MANAGED_BY,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
    await gateway.create(EVENTS, event)
