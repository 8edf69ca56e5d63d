"""What the jobs have of their own for Prometheus: Services and monitors, as last seen or made.

None of it is watched. One list of each kind now and then speaks of all jobs, so that a running job
costs no request of its own, and none at all is sent while nobody asks.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

from finetuning.api.v1alpha1 import KIND
from finetuning.controller import apply, naming, observed
from finetuning.controller.desired import Manifest
from finetuning.controller.gateway import (
    SERVICE_MONITORS,
    SERVICES,
    ApiError,
    Gateway,
    Raw,
    Resource,
)
from finetuning.controller.memory import NEVER
from finetuning.controller.namespaces import in_each
from finetuning.controller.settings import MonitoringMode, Settings

RENEW_SECONDS = 30.0
"""Between two lists; a job looks at what was found as often, so that it knows within a minute,"""
AGAIN_SECONDS = 10.0
"""and between two tries where the API server refuses."""

PER_JOB: Mapping[Resource, tuple[MonitoringMode, ...]] = {
    SERVICES: (MonitoringMode.PER_JOB, MonitoringMode.SHARED),
    SERVICE_MONITORS: (MonitoringMode.PER_JOB,),
}
"""What each job has of its own, and the modes in which it has it."""

_NOT_FOUND = 404
_SELECTOR = f"{naming.CHILD_SELECTOR},{naming.COMPONENT_LABEL}={naming.METRICS}"
_KEPT = ("name", "namespace", "uid", "labels", "annotations", "ownerReferences")
_Key = tuple[str, str, str]


class Stock:
    """The objects by kind, namespace and name."""

    def __init__(self, gateway: Gateway, settings: Settings, clock: Callable[[], float]) -> None:
        self._gateway, self._settings, self._clock = gateway, settings, clock
        self._objects: dict[_Key, Raw] = {}
        self._fresh: dict[_Key, Raw] = {}
        """Made since the last list began, which may not have them."""
        self._begun, self._tried = NEVER, NEVER

    @property
    def known(self) -> bool:
        """Whether anything was listed yet."""
        return self._begun != NEVER

    async def renew(self, since: float = NEVER) -> None:
        """List all of it, unless that was done, or `since` is, less than RENEW_SECONDS ago.

        Raises ApiError; what was known before stays then.
        """
        now = self._clock()
        if now - max(self._begun, since) < RENEW_SECONDS or now - self._tried < AGAIN_SECONDS:
            return
        self._tried = now
        self._fresh, found = {}, dict[_Key, Raw]()
        for resource, modes in PER_JOB.items():
            if self._settings.monitoring_mode in modes:
                async for raw in self.of_jobs(resource):
                    found |= _entry(apply.kind_of(resource), raw)
        self._objects, self._begun = found | self._fresh, now

    async def of_jobs(
        self, resource: Resource, refused: Callable[[], None] = lambda: None
    ) -> AsyncIterator[Raw]:
        """Those that a FineTuningJob owns: a label alone makes nothing ours."""
        ask = partial(self._gateway.items, resource, labelSelector=_SELECTOR)
        try:
            async for raw in in_each(self._settings.watch_namespaces, ask, refused):
                if observed.meta(raw).owner_kind == KIND:
                    yield raw
        except ApiError as error:
            # Without its definition there are no objects of a kind.
            if error.code != _NOT_FOUND:
                raise

    def find(self, manifest: Manifest) -> Raw | None:
        """What is there under the name of what is wanted."""
        return self._objects.get(_key(manifest["kind"], manifest))

    async def make(self, manifest: Manifest) -> None:
        """Raises as apply.create does."""
        found = await apply.create(self._gateway, manifest)
        entry = _entry(manifest["kind"], found)
        self._objects |= entry
        self._fresh |= entry

    async def remove(self, manifest: Manifest) -> None:
        """Delete the very object that was found under this name; raises ApiError."""
        found = self.find(manifest)
        if found is not None:
            await apply.delete(self._gateway, manifest["kind"], found)
            self.forget(manifest)

    def forget(self, manifest: Manifest) -> None:
        """Nobody asks for it any more."""
        for known in (self._objects, self._fresh):
            known.pop(_key(manifest["kind"], manifest), None)


def holds(found: Mapping[str, Any], wanted: Manifest) -> bool:
    """Whether an object is as it was made, whatever the API server or others added.

    Not to a selector: each word more in it selects less.
    """
    same = has(found.get("metadata"), wanted["metadata"]) and has(found["spec"], wanted["spec"])
    return bool(same and found["spec"]["selector"] == wanted["spec"]["selector"])


def has(found: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there; more may be, but not in a list."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            has(found.get(name), value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        same = isinstance(found, list) and len(found) == len(wanted)
        return same and all(map(has, found, wanted))
    return bool(found == wanted)


def _key(kind: str, raw: Mapping[str, Any]) -> _Key:
    return (kind, raw["metadata"]["namespace"], raw["metadata"]["name"])


def _entry(kind: str, raw: Mapping[str, Any]) -> dict[_Key, Raw]:
    """Without what nobody compares, which is most of it."""
    meta = {name: raw["metadata"][name] for name in _KEPT if name in raw["metadata"]}
    return {_key(kind, raw): {"metadata": meta, "spec": raw.get("spec") or {}}}
