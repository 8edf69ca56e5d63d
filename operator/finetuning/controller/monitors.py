"""Service and ServiceMonitor of a job, made when its Pod exists; never in the way of training."""

import logging
from collections.abc import Callable

from finetuning.api.v1alpha1 import ConditionType, FineTuningJob, Reason
from finetuning.controller import apply, conditions
from finetuning.controller.desired import Desired, Manifest
from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import ApiError, Gateway
from finetuning.controller.memory import NEVER, Memory
from finetuning.controller.observed import Children
from finetuning.controller.training_status import Problem

log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""Between two tries for a job, and between two looks whether the resource exists by now."""

_DONE = {Reason.SERVICE_MONITOR_CREATED, Reason.MONITORING_DISABLED}
_DISABLED = Problem(
    Reason.MONITORING_DISABLED, "The operator makes no ServiceMonitors (monitoring.mode: none)."
)


class Monitors:
    """Remembers for all jobs together that the cluster knows no ServiceMonitor."""

    def __init__(self, gateway: Gateway, clock: Callable[[], float]) -> None:
        self._gateway, self._clock = gateway, clock
        self._missing: Problem | None = None
        self._probed = NEVER

    async def ensure(
        self, job: FineTuningJob, wanted: Desired, found: Children, memory: Memory
    ) -> None:
        """Make what is missing, at most once a minute for each job; remembers what came of it."""
        if wanted.service is None or wanted.service_monitor is None:
            memory.monitoring = _DISABLED
            return
        training = found.training
        if training is None or training.finished or not found.training_pods or _is_done(job):
            return
        done = memory.monitoring is not None and memory.monitoring.reason in _DONE
        if done or self._clock() - memory.monitor_tried < RETRY_SECONDS:
            return
        memory.monitor_tried = self._clock()
        try:
            if not memory.has_service:
                await apply.create(self._gateway, wanted.service)
                memory.has_service = True
            memory.monitoring = await self._monitor(wanted.service_monitor)
        except apply.CannotApplyError as error:
            memory.monitoring = error.problem
        except (ApiError, RetryLaterError) as error:
            log.warning("job=%s/%s monitoring is tried again: %s", *_key(job), error)

    async def _monitor(self, manifest: Manifest) -> Problem:
        if self._missing is not None and self._clock() - self._probed < RETRY_SECONDS:
            return self._missing
        self._probed = self._clock()
        result = await apply.create_monitor(self._gateway, manifest)
        absent = result.reason is Reason.SERVICE_MONITOR_CRD_MISSING
        self._missing = result if absent else None
        return result


def next_try(memory: Memory) -> float | None:
    """In how many seconds a job that is not monitored should be looked at again."""
    last = memory.monitoring
    return None if last is not None and last.reason in _DONE else RETRY_SECONDS


def _key(job: FineTuningJob) -> tuple[str, str]:
    return (job.metadata.namespace, job.metadata.name)


def _is_done(job: FineTuningJob) -> bool:
    kind = ConditionType.MONITORING_READY
    known = conditions.find(job.status.conditions, kind)
    return known is not None and known.status == conditions.TRUE
