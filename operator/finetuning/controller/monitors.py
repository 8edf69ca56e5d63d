"""What makes Prometheus find a job: made with its Pod, kept while it trains, gone afterwards.

Never in the way of training.
"""

import logging
from collections.abc import Callable

from finetuning.api.v1alpha1 import ConditionType, FineTuningJob, Reason
from finetuning.controller import apply, conditions, training_status
from finetuning.controller.conditions import MONITORED
from finetuning.controller.desired import Desired, Manifest
from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import ApiError
from finetuning.controller.memory import NEVER, Memory, left
from finetuning.controller.monitoring_mode import (
    DONE,
    MEND_SECONDS,
    MISSING,
    PROBE_SECONDS,
    ModeKeeper,
    create_monitor,
    monitored,
    news,
)
from finetuning.controller.observed import Children
from finetuning.controller.settings import MonitoringMode
from finetuning.controller.stock import holds
from finetuning.controller.training_status import Problem

log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""Between two tries for a job whose monitor is refused,"""
LOOK_SECONDS = 20.0
"""and between two looks at what a job has; they send nothing by themselves."""

_DISABLED = Problem(
    Reason.MONITORING_DISABLED, "The operator makes no monitors (monitoring.mode: none)."
)


class Monitors:
    """Remembers for all jobs together that the cluster knows no ServiceMonitor."""

    def __init__(
        self,
        keeper: ModeKeeper,
        failed: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        """`failed` is told the reason of every try that came to nothing."""
        self._keeper, self._stock = keeper, keeper.stock
        self._failed, self._clock = failed, clock
        self._missing: Problem | None = None
        self._probed = NEVER

    async def ensure(
        self, job: FineTuningJob, wanted: Desired, found: Children, memory: Memory
    ) -> None:
        """Make what is missing or was changed, now and then; remembers what came of it."""
        if self._keeper.mode is MonitoringMode.NONE:
            memory.monitoring = _DISABLED
            return
        training = found.training
        if training is None or training.finished or not found.training_pods:
            return
        if not self._keeper.ready:
            memory.monitoring = self._keeper.outcome
            return
        if not self._is_due(job, memory):
            return
        memory.monitor_tried = self._clock()
        if any(map(training_status.trainer_runs, found.training_pods)):
            await self._renew(memory)
        try:
            memory.monitoring = await self._wire_up(wanted, memory)
        except apply.CannotApplyError as error:
            memory.monitoring = error.problem
            self._failed(error.problem.reason)
        except (ApiError, RetryLaterError) as error:
            log.warning("job=%s/%s monitoring is tried again: %s", *_key(job), error)
            self._failed("ApiError")

    async def _renew(self, memory: Memory) -> None:
        """What cannot be listed can still be made."""
        try:
            await self._stock.renew(memory.wired)
        except ApiError as error:
            log.warning("whether the jobs' monitors are as they were cannot be seen: %s", error)
            self._failed("ApiError")

    def _is_due(self, job: FineTuningJob, memory: Memory) -> bool:
        """What an earlier life of this process made for a job is not known before a list."""
        done, now = self._is_done(job), self._clock()
        if not done and memory.wired == NEVER:
            memory.wired = now
        pause = next_try(memory)
        waits = pause is None or now - memory.monitor_tried < pause
        return not waits and (self._stock.known or not done)

    def next_look(self, memory: Memory) -> float | None:
        """In how many seconds a running job's monitoring should be looked at again."""
        pause = next_try(memory)
        return None if pause is None else left(pause, memory.monitor_tried, self._clock())

    async def remove(self, wanted: Desired) -> None:
        """Of a job that is over: each monitor is a scrape pool, also where nothing is left in it.

        Its Service stays and costs nobody anything; both go with the job in any case.
        """
        if wanted.service is not None:
            self._stock.forget(wanted.service)
        if not self.is_left(wanted):
            return
        assert wanted.service_monitor is not None, "is_left"  # noqa: S101 - for the type checker
        try:
            await self._stock.remove(wanted.service_monitor)
        except ApiError as error:
            name = wanted.service_monitor["metadata"]["name"]
            log.warning("ServiceMonitor %s of a finished job stays: %s", name, error)

    def is_left(self, wanted: Desired) -> bool:
        """Whether the job has a monitor of its own, as far as is known."""
        monitor = wanted.service_monitor
        return monitor is not None and self._stock.find(monitor) is not None

    async def _wire_up(self, wanted: Desired, memory: Memory) -> Problem | None:
        if wanted.service is not None and await self._is_wanting(wanted.service, memory):
            await self._stock.make(wanted.service)
        monitor = wanted.service_monitor
        if monitor is None:
            return self._keeper.outcome
        if not await self._is_wanting(monitor, memory):
            return monitored(self._keeper.mode, monitor)
        return await self._make_monitor(monitor)

    async def _is_wanting(self, manifest: Manifest, memory: Memory) -> bool:
        """Whether it is to be made; one that somebody changed is deleted first, but not for ever.

        What is new in the settings is not merged into what is old.
        """
        found, kind = self._stock.find(manifest), manifest["kind"]
        if found is None:
            return True
        last = memory.mended.get(kind, NEVER)
        if holds(found, manifest) or self._clock() - last < MEND_SECONDS:
            return False
        memory.mended[kind] = self._clock()
        meta = manifest["metadata"]
        log.warning("%s %s/%s differs; made anew", kind, meta["namespace"], meta["name"])
        await self._stock.remove(manifest)
        return True

    async def _make_monitor(self, manifest: Manifest) -> Problem:
        if self._missing is not None and self._clock() - self._probed < PROBE_SECONDS:
            return self._missing
        self._probed = self._clock()
        result = await create_monitor(self._stock.make, self._keeper.mode, manifest)
        news(self._missing, result)
        self._missing = result if result.reason in MISSING else None
        if result.reason not in MONITORED:
            self._failed(result.reason)
        return result

    def _is_done(self, job: FineTuningJob) -> bool:
        """Whether the status says so, of the mode that is set now."""
        kind = ConditionType.MONITORING_READY
        known = conditions.find(job.status.conditions, kind)
        if known is None or known.status != conditions.TRUE:
            return False
        return known.reason == DONE[self._keeper.mode]


def next_try(memory: Memory) -> float | None:
    """Seconds from one look at a job's monitoring to the next."""
    last = memory.monitoring
    if last is None or last.reason in MISSING:
        return PROBE_SECONDS
    if last.reason in MONITORED:
        return LOOK_SECONDS
    return None if last is _DISABLED else RETRY_SECONDS


def _key(job: FineTuningJob) -> tuple[str, str]:
    return (job.metadata.namespace, job.metadata.name)
