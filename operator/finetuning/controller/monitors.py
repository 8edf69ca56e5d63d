"""What makes Prometheus find a job, made when its Pod exists; never in the way of training."""

import logging
from collections.abc import Callable

from finetuning.api.v1alpha1 import ConditionType, FineTuningJob, Reason
from finetuning.controller import apply, conditions
from finetuning.controller.conditions import MONITORED
from finetuning.controller.desired import Desired
from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import ApiError, Gateway
from finetuning.controller.memory import NEVER, Memory
from finetuning.controller.monitoring_mode import (
    DONE,
    MISSING,
    PROBE_SECONDS,
    ModeKeeper,
    create_monitor,
)
from finetuning.controller.observed import Children
from finetuning.controller.settings import MonitoringMode
from finetuning.controller.training_status import Problem

log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""Between two tries for a job whose monitor is refused."""

_SETTLED = MONITORED | {Reason.MONITORING_DISABLED}
_DISABLED = Problem(
    Reason.MONITORING_DISABLED, "The operator makes no monitors (monitoring.mode: none)."
)


class Monitors:
    """Remembers for all jobs together that the cluster knows no ServiceMonitor."""

    def __init__(
        self,
        gateway: Gateway,
        keeper: ModeKeeper,
        failed: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        """`failed` is told the reason of every try that came to nothing."""
        self._gateway, self._keeper = gateway, keeper
        self._failed, self._clock = failed, clock
        self._missing: Problem | None = None
        self._probed = NEVER

    async def ensure(
        self, job: FineTuningJob, wanted: Desired, found: Children, memory: Memory
    ) -> None:
        """Make what is missing, now and then; remembers what came of it."""
        if self._keeper.mode is MonitoringMode.NONE:
            memory.monitoring = _DISABLED
            return
        training = found.training
        if training is None or training.finished or not found.training_pods or self._is_done(job):
            return
        if not self._keeper.ready:
            memory.monitoring = self._keeper.outcome
            return
        pause = next_try(memory)
        if pause is None or self._clock() - memory.monitor_tried < pause:
            return
        memory.monitor_tried = self._clock()
        try:
            memory.monitoring = await self._wire_up(wanted, memory)
        except apply.CannotApplyError as error:
            memory.monitoring = error.problem
            self._failed(error.problem.reason)
        except (ApiError, RetryLaterError) as error:
            log.warning("job=%s/%s monitoring is tried again: %s", *_key(job), error)
            self._failed("ApiError")

    async def _wire_up(self, wanted: Desired, memory: Memory) -> Problem | None:
        if wanted.service is not None and not memory.has_service:
            await apply.create(self._gateway, wanted.service)
            memory.has_service = True
        if wanted.service_monitor is None:
            return self._keeper.outcome
        if self._missing is not None and self._clock() - self._probed < PROBE_SECONDS:
            return self._missing
        self._probed = self._clock()
        result = await create_monitor(self._gateway, self._keeper.mode, wanted.service_monitor)
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
    """In how many seconds a job that is not monitored should be looked at again."""
    last = memory.monitoring
    if last is None or last.reason in MISSING:
        return PROBE_SECONDS
    return None if last.reason in _SETTLED else RETRY_SECONDS


def _key(job: FineTuningJob) -> tuple[str, str]:
    return (job.metadata.namespace, job.metadata.name)
