"""Brings the cluster into the monitoring mode that is set, whatever mode was set before.

Two scrape pools over one pod would give every sample twice: what the other modes left goes first,
also from running jobs, then comes the one monitor of all jobs where the mode wants one.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from finetuning.api.v1alpha1 import Reason
from finetuning.artifacts.plain import plain
from finetuning.controller import apply, naming, observed
from finetuning.controller.conditions import MONITORED
from finetuning.controller.desired import Manifest, monitoring
from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import (
    DEPLOYMENTS,
    POD_MONITORS,
    SERVICE_MONITORS,
    ApiError,
    Gateway,
    Raw,
    Resource,
)
from finetuning.controller.memory import NEVER
from finetuning.controller.settings import MonitoringMode, Settings
from finetuning.controller.stock import PER_JOB, Stock, holds
from finetuning.controller.training_status import Problem

log = logging.getLogger(__name__)

PROBE_SECONDS = 10.0
"""Between two tries with something in the way: every job knows a new CRD in twice that time,"""
RECHECK_SECONDS = 30.0
"""and between two looks whether the shared monitor is as it should be."""
MEND_SECONDS = 600.0
"""Between two times that a monitor is made anew which somebody changes again and again."""

_FORBIDDEN, _NOT_FOUND = 403, 404

_SHARED: Mapping[Resource, MonitoringMode] = {
    SERVICE_MONITORS: MonitoringMode.SHARED,
    POD_MONITORS: MonitoringMode.POD_MONITOR,
}
"""What there is once for all jobs, and the mode in which there is one."""

DONE: Mapping[MonitoringMode, Reason] = {
    MonitoringMode.PER_JOB: Reason.SERVICE_MONITOR_CREATED,
    MonitoringMode.SHARED: Reason.SERVICE_MONITOR_SHARED,
    MonitoringMode.POD_MONITOR: Reason.POD_MONITOR_SHARED,
}
"""What the condition MonitoringReady says of a job that Prometheus finds."""
MISSING = frozenset({Reason.SERVICE_MONITOR_CRD_MISSING, Reason.POD_MONITOR_CRD_MISSING})


def monitored(mode: MonitoringMode, manifest: Manifest) -> Problem:
    """Not a problem but its opposite: what a job is told that Prometheus finds."""
    meta = manifest["metadata"]
    words = f"{manifest['kind']} {meta['namespace']}/{meta['name']} selects this job."
    return Problem(DONE[mode], words)


def news(before: Problem | None, after: Problem) -> None:
    """Tell who installed the chart before prometheus-operator what the chart alone can make."""
    if before is not None and before.reason in MISSING and after.reason in MONITORED:
        log.info(
            "prometheus-operator is there now and finds the jobs; `helm upgrade` with the same "
            "values adds the operator's own ServiceMonitor and the alerts, if they are not there"
        )


async def create_monitor(
    make: Callable[[Manifest], Awaitable[object]], mode: MonitoringMode, manifest: Manifest
) -> Problem:
    """`make` a monitor; whatever comes of it, training goes on."""
    try:
        await make(manifest)
    except apply.CannotApplyError as error:
        return error.problem
    except ApiError as error:
        if error.code != _NOT_FOUND:
            raise
        kind = manifest["kind"]
        message = (
            f"The cluster has no {kind} resource, so Prometheus is not told of this job. "
            "Install prometheus-operator, or set monitoring.mode to none."
        )
        return Problem(Reason(f"{kind}CRDMissing"), message)
    return monitored(mode, manifest)


class ModeKeeper:
    """What all jobs share of the monitoring."""

    def __init__(
        self,
        gateway: Gateway,
        settings: Settings,
        failed: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`failed` is told the reason of every try that came to nothing."""
        self._gateway, self._settings, self._failed = gateway, settings, failed
        self._clock, self._mended = clock, NEVER
        self.stock = Stock(gateway, settings, clock)
        self.mode = settings.monitoring_mode
        self.ready = False
        """Nothing of another mode is left, so that jobs may be wired up."""
        self._left = False
        """Something may be left where nobody may look: two scrape pools once somebody may."""
        self.outcome: Problem | None = None
        """How it stands with the shared monitor; None where there is none to make, or not yet."""

    async def forever(self) -> None:
        while True:
            pause = await self.attempt()
            await asyncio.sleep(pause)

    async def attempt(self) -> float:
        """Do what is missing; says in how many seconds to look again."""
        before = self.outcome
        try:
            if self._left or not self.ready:
                await self._remove_leftovers()
                self.ready = True
            if not self.stock.known:
                await self.stock.renew()
            self.outcome = await self._ensure_shared()
        except (ApiError, RetryLaterError, apply.NamespaceGoneError) as error:
            log.warning("monitoring mode %s is tried again: %s", self.mode, error)
            if not isinstance(error, ApiError) or error.code != _FORBIDDEN:
                self._failed("ApiError")
                return PROBE_SECONDS
            self.outcome = Problem(Reason.FORBIDDEN, plain(str(error), 1024))
        if self.outcome is None:
            return RECHECK_SECONDS
        news(before, self.outcome)
        if self.outcome.reason in MONITORED:
            return RECHECK_SECONDS
        self._failed(self.outcome.reason)
        return PROBE_SECONDS

    async def _remove_leftovers(self) -> None:
        self._left = False

        def refused() -> None:
            self._left = True

        for resource, modes in PER_JOB.items():
            if self.mode not in modes:
                async for raw in self.stock.of_jobs(resource, refused):
                    await self._delete(resource, observed.meta(raw))
        for resource, mode in _SHARED.items():
            found = await self._found(resource) if self.mode is not mode else None
            if found is not None and _is_ours(found):
                await self._delete(resource, observed.meta(found))

    async def _ensure_shared(self) -> Problem | None:
        resource = next((kind for kind, mode in _SHARED.items() if mode is self.mode), None)
        if resource is None:
            return None
        found = await self._found(resource)
        if found is not None and not _is_ours(found):
            return self._name_conflict(resource)
        wanted = await self._wanted()
        if found is not None and (holds(found, wanted) or not self._may_mend()):
            return monitored(self.mode, wanted)
        if found is not None:
            # What is new in the settings is not merged into what is old.
            await self._delete(resource, observed.meta(found))
        return await create_monitor(partial(apply.create, self._gateway), self.mode, wanted)

    def _may_mend(self) -> bool:
        now = self._clock()
        if now - self._mended < MEND_SECONDS:
            return False
        self._mended = now
        return True

    async def _wanted(self) -> Manifest:
        """The Deployment owns it, so that it goes with the release; outside a cluster nobody."""
        where, name = self._settings.deployment_namespace, self._settings.deployment_name
        deployment = await self._gateway.get(DEPLOYMENTS, where, name)
        uid = deployment["metadata"]["uid"] if deployment is not None else None
        return monitoring.shared_monitor(self._settings, uid)

    async def _found(self, resource: Resource) -> Raw | None:
        where, name = self._settings.deployment_namespace, self._settings.shared_monitor_name
        return await self._gateway.get(resource, where, name)

    async def _delete(self, resource: Resource, meta: observed.Meta) -> None:
        log.info("%s %s/%s goes", resource.plural, meta.namespace, meta.name)
        await self._gateway.delete(resource, meta.namespace, meta.name, meta.uid)

    def _name_conflict(self, resource: Resource) -> Problem:
        name = f"{self._settings.deployment_namespace}/{self._settings.shared_monitor_name}"
        message = f"{resource.plural} {name} exists and is not the operator's. Delete or rename it."
        return Problem(Reason.NAME_CONFLICT, message)


def _is_ours(found: Raw) -> bool:
    labels = found["metadata"].get("labels") or {}
    return bool(labels.get(naming.MANAGED_BY_LABEL) == naming.MANAGED_BY)
