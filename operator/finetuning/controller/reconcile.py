"""One look at one job: what should be, what is, the next missing thing, then the status once.

Level-triggered: whatever the event, the same function looks at everything and takes the next step,
so that a restart at any point goes on where it was. What is remembered between looks only saves
calls; losing it loses nothing.
"""

import contextlib
import json
import logging
import time
from collections.abc import Callable
from datetime import datetime

from pydantic import ValidationError

from finetuning.api.v1alpha1 import FineTuningJob, FineTuningJobStatus, Phase, Reason
from finetuning.controller import (
    aim,
    announcements,
    apply,
    children,
    deadlines,
    kueue,
    monitors,
    naming,
    observed,
    obstacles,
    publications,
    served,
    status,
    training_status,
    usage,
    writers,
)
from finetuning.controller.cache import Cache
from finetuning.controller.complaints import Complaints, Obstructed
from finetuning.controller.desired import Desired
from finetuning.controller.errors import InvalidSpecError
from finetuning.controller.gateway import CLAIMS, ApiError, Gateway
from finetuning.controller.live import Listener
from finetuning.controller.memory import NEVER, Memory
from finetuning.controller.metrics import OperatorMetrics
from finetuning.controller.monitoring_mode import ModeKeeper
from finetuning.controller.observed import Children, Custom, Key
from finetuning.controller.settings import Settings
from finetuning.controller.specs import Specs
from finetuning.controller.training_status import Nodes, Problem, Seen

log = logging.getLogger(__name__)

HOLD_SECONDS = 2.0
"""A small change waits this long for the next one, so that both are one write."""

HINT_AFTER_SECONDS = 8.0
"""A Pod that does not come or start for so long is worth reading events for,"""
HINT_SOON_SECONDS = 12.0
"""and again after so long,"""
HINT_EVERY_SECONDS = 60.0
"""and after so long when it has waited longer than that."""

SERVICE_EVERY_SECONDS = 300.0
"""Between two looks for the Service by which the pods of a running group meet."""

_NODE_LOST_EVERY = 30.0
"""Between two looks at a Pod that is to end."""
_AT_THE_END = 1.0
"""Until a job's Jobs are told when to go and its monitor goes, once its last status is written."""

_RETRY_SECONDS = {Reason.PREVIOUS_RUN_TERMINATING: 2.0, Reason.OUTPUT_IN_USE: 10.0}
_RETRY_DEFAULT = 30.0
_NOISE = "Value error, "


class Reconciler:
    """Looks at jobs; holds what a look needs."""

    def __init__(
        self,
        cache: Cache,
        gateway: Gateway,
        settings: Settings,
        *,
        metrics: OperatorMetrics,
        keeper: ModeKeeper,
        wake: Callable[[Key], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wake` asks for another look at a job."""
        self._cache, self._gateway = cache, gateway
        self._settings, self._metrics, self._clock = settings, metrics, clock
        self._monitors = monitors.Monitors(keeper, metrics.monitor_failed, clock)
        self._announcer = announcements.Announcer(gateway, clock)
        self._listener = Listener(settings.progress_interval_seconds, clock, wake)
        self._specs = Specs(settings)
        self._memories: dict[Key, Memory] = {}
        self._turns = writers.Turns()
        self._complaints = Complaints(gateway, clock)

    def _now(self) -> datetime:
        """As the API writes it, by the clock by which it tells the times of pods."""
        return self._gateway.now().replace(microsecond=0)

    async def close(self) -> None:
        """End what goes on beside the looks."""
        await self._listener.close()

    async def reconcile(self, key: Key) -> float | None:
        """Take the next steps for a job; says in how many seconds to look again, if at all."""
        custom = self._cache.custom(key)
        if custom is None or custom.meta.deleting:
            self._memories.pop(key, None)
            self._specs.forget(key)
            return None
        memory = self._remember(key, custom)
        try:
            job, wanted = self._specs.read(custom)
        except (ValidationError, InvalidSpecError) as error:
            new = status.invalid(custom.body, _problem_text(error), self._now())
            return await self._write(custom, memory, status.parse(custom.body.get("status")), new)
        if status.is_settled(job):
            self._memories.pop(key, None)
            self._specs.forget(key)
            await children.give_up(self._gateway, self._cache, job)
            await children.expire(self._gateway, self._cache, job)
            await self._monitors.remove(wanted)
            return None
        return await self._look(custom, job, wanted, memory)

    async def _look(
        self, custom: Custom, job: FineTuningJob, wanted: Desired, memory: Memory
    ) -> float | None:
        try:
            seen = await self._act(custom, job, wanted, memory)
        except apply.NamespaceGoneError:
            return None
        new = status.status_of(seen, self._now())
        self._note_end(seen, memory)
        going = status.is_last_chance(seen.children.training_pods)
        held = await self._write(custom, memory, job.status, new, at_once=going)
        due = 0.0 if held is None and _is_due(seen, new) else None
        end = _AT_THE_END if self._is_to_tidy(seen, wanted, new) else None
        looks = (held, due, end, *self._next_looks(seen, new, memory))
        return min(
            (delay for delay in looks if delay is not None),
            default=None,
        )

    async def _act(
        self, custom: Custom, job: FineTuningJob, wanted: Desired, memory: Memory
    ) -> Seen:
        """Do what is missing, then say what is there."""
        steps = children.Steps(
            self._cache, self._gateway, custom.key, memory.looked_at, self._turns
        )
        problem = await steps.training(job, wanted)
        problem_after = await steps.validation(job, wanted)
        problem_at_last = await steps.publishing(job, wanted)
        outcome = await aim.serve(self._gateway, job, self._settings)
        found = self._cache.children(custom.key, job.metadata.uid)
        await self._monitors.ensure(job, wanted, found, memory)
        await self._keep_service(steps, wanted, found, memory)
        self._listener.ask(custom.key, found, memory)
        await self._ask_events(job, found, memory)
        self._count_usage(custom, job, found, memory)
        return Seen(
            job=job,
            children=found,
            live=memory.live,
            problem=problem,
            validation_problem=problem_after,
            publish_problem=problem_at_last,
            served=outcome,
            monitoring=memory.monitoring,
            nodes=Nodes(self._settings.gpu_model, self._settings.gpu_resource_name),
            claim_modes=await self._claim_modes(job, memory),
            used=memory.usage,
            hint=memory.hint,
            now=self._gateway.now(),
        )

    def _note_end(self, seen: Seen, memory: Memory) -> None:
        """What a trainer says last is told with the end of its Job, if that comes soon."""
        training = seen.children.training
        closes = training is not None and not training.finished
        if not (closes and status.has_ended(seen.children.training_pods)):
            memory.ended = NEVER
        elif memory.ended == NEVER:
            memory.ended = self._clock()

    def _count_usage(
        self, custom: Custom, job: FineTuningJob, found: Children, memory: Memory
    ) -> None:
        pods = found.training_pods
        # Only one Pod of a group tells what its GPUs use, which is not what the job's do.
        tells = job.spec.workers == 1
        energy = usage.reading(pods, memory.live, memory.live_pod) if tells else None
        gpus = usage.gpus_of_pod(custom.body["spec"], self._settings.gpu_resource_name)
        before = memory.usage or job.status.usage
        memory.usage = usage.counted(before, pods, gpus, energy, self._now())

    def _remember(self, key: Key, custom: Custom) -> Memory:
        memory = self._memories.get(key)
        if memory is None or memory.uid != custom.meta.uid:
            fresh = not status.is_written(custom.body.get("status"))
            memory = Memory(custom.meta.uid, wrote=self._clock() if fresh else NEVER)
            self._memories[key] = memory
        return memory

    async def _keep_service(
        self, steps: children.Steps, wanted: Desired, found: Children, memory: Memory
    ) -> None:
        """How the pods of a group find each other is not watched: look now and then for it."""
        if wanted.rendezvous is None or not any(
            training_status.trainer_runs(pod) for pod in found.training_pods
        ):
            return
        if memory.service_looked == NEVER:
            memory.service_looked = self._clock()
        if self._clock() - memory.service_looked >= SERVICE_EVERY_SECONDS:
            memory.service_looked = self._clock()
            await steps.keep(wanted.rendezvous)

    async def _claim_modes(self, job: FineTuningJob, memory: Memory) -> tuple[str, ...] | None:
        """Of the user's own claim that several pods have to share; looked at once."""
        name = job.spec.output.storage.claim_name
        if name is None or job.spec.workers == 1 or job.status.training_job_name:
            return memory.claim_modes
        if memory.claim_modes is None:
            with contextlib.suppress(ApiError):
                found = await self._gateway.get(CLAIMS, job.metadata.namespace, name)
                memory.claim_modes = observed.access_modes(found) if found else None
        return memory.claim_modes

    async def _ask_events(self, job: FineTuningJob, found: Children, memory: Memory) -> None:
        """Quotas, pod security and mounts say why nothing starts in events, Kueue elsewhere."""
        waits = None if job.spec.suspend else children.waits_for(found, job.spec.workers)
        now, about = self._clock(), _waiting_for(waits)
        if about != memory.waiting_for:
            # After a restart, what an earlier life of this process read is still the best answer.
            first = waits if not memory.waiting_for else None
            memory.hint = _read_before(job, first.about.component) if first is not None else ""
            memory.waiting_for, memory.waiting, memory.hinted = about, now, NEVER
        if waits is None or now < _next_hint(memory):
            return
        # Before it is asked: where that fails, the next look does without.
        before, memory.hinted = memory.hinted, now
        words = await self._complaints.about(waits)
        if words is None:
            memory.hinted = before
        else:
            memory.hint = words

    async def _write(
        self,
        custom: Custom,
        memory: Memory,
        known: FineTuningJobStatus,
        new: FineTuningJobStatus,
        *,
        at_once: bool = False,
    ) -> float | None:
        """Patch the status if it differs; says how long a small change should still wait."""
        old = known if status.is_written(custom.body.get("status")) else None
        changes = status.patch(old, new)
        if not changes:
            return None
        since = max(memory.wrote, memory.ended)
        held = self._hold_seconds(old, new) - (self._clock() - since)
        if held > 0 and not at_once:
            return held
        memory.withheld = not at_once and self._outdated(custom.key, old, new)
        if memory.withheld:
            return None
        written = await apply.patch_status(self._gateway, custom, changes)
        if written is None:
            return None
        memory.wrote = self._clock()
        self._cache.customs.put(observed.custom(written))
        self._metrics.turned(custom, old, new)
        announcements.log_transition(custom.key, old, new)
        await self._announcer.announce(custom, old, new)
        return None

    def _outdated(
        self, key: Key, old: FineTuningJobStatus | None, new: FineTuningJobStatus
    ) -> bool:
        """Figures that newer ones are on their way to replace, with a look of their own."""
        return old is not None and self._listener.waits(key) and status.is_progress_only(old, new)

    def _hold_seconds(self, old: FineTuningJobStatus | None, new: FineTuningJobStatus) -> float:
        before = old or FineTuningJobStatus()
        if status.is_turn(before, new):
            return 0.0
        if obstacles.is_news(before, new):
            return HOLD_SECONDS
        if new.phase is Phase.SUCCEEDED or status.is_progress_only(before, new):
            return self._settings.progress_interval_seconds
        return HOLD_SECONDS

    def _next_looks(
        self, seen: Seen, new: FineTuningJobStatus, memory: Memory
    ) -> list[float | None]:
        pods = seen.children.training_pods
        running = new.phase is Phase.RUNNING and any(map(training_status.trainer_runs, pods))
        problem = seen.problem or seen.validation_problem or seen.publish_problem
        ending = any(pod.meta.deleting for pod in seen.children.pods)
        return [
            self._to_start(seen, new),
            _NODE_LOST_EVERY if ending else None,
            self._listener.next_question(memory) if running else None,
            _until(_next_hint(memory), self._clock()) if memory.waiting_for else None,
            self._monitors.next_look(memory) if running else None,
            _retry_seconds(problem) if problem is not None else None,
            _RETRY_DEFAULT if served.is_put_off(seen.served) else None,
        ]

    def _is_to_tidy(self, seen: Seen, wanted: Desired, new: FineTuningJobStatus) -> bool:
        job = seen.job.model_copy(update={"status": new})
        if not status.is_settled(job):
            return False
        timed = job.spec.ttl_seconds_after_finished is not None
        waits = children.is_given_up(job, seen.children.training)
        return timed or waits or self._monitors.is_left(wanted)

    def _to_start(self, seen: Seen, new: FineTuningJobStatus) -> float | None:
        job = seen.job.model_copy(update={"status": new})
        left = deadlines.to_start(job, seen.children, self._gateway.now())
        return None if left is None else max(0.0, left.total_seconds())


def _waiting_for(waits: Obstructed | None) -> str:
    if waits is None:
        return ""
    return f"{waits.about.uid} in a queue" if waits.in_queue else waits.about.uid


def _read_before(job: FineTuningJob, component: str) -> str:
    """What the status has of an earlier hint."""
    status_then = job.status
    if component != naming.TRAINING:
        return obstacles.told_before(status_then, component)
    if status_then.reason == Reason.QUEUED:
        return kueue.kept(status_then.message)
    return status_then.message if status_then.reason in obstacles.FROM_EVENTS else ""


def _next_hint(memory: Memory) -> float:
    """When events are worth reading, on the monotonic clock; the first minute tells most."""
    if memory.hinted < memory.waiting:
        return memory.waiting + HINT_AFTER_SECONDS
    long = memory.hinted - memory.waiting > HINT_EVERY_SECONDS
    return memory.hinted + (HINT_EVERY_SECONDS if long else HINT_SOON_SECONDS)


def _until(moment: float, now: float) -> float:
    """At least a second: where the budget of reads is spent, nobody spins."""
    return max(1.0, moment - now)


def _is_due(seen: Seen, written: FineTuningJobStatus) -> bool:
    """Whether the status that was just written asks for the next step at once."""
    job = seen.job.model_copy(update={"status": written})
    if seen.served is None and served.missing(job) is not None:
        return True
    hindered = seen.job.spec.suspend or seen.publish_problem is not None
    return not hindered and publications.is_due(job, seen.children)


def _retry_seconds(problem: Problem) -> float | None:
    return None if problem.final else _RETRY_SECONDS.get(problem.reason, _RETRY_DEFAULT)


def _problem_text(error: ValidationError | InvalidSpecError) -> str:
    """Field, value and what is allowed, for the first few problems of a spec."""
    if isinstance(error, InvalidSpecError):
        return str(error)
    lines = [
        f"{'.'.join(str(part) for part in each['loc'])}: {each['msg'].removeprefix(_NOISE)} "
        f"(got {json.dumps(each['input'], default=str)[:80]})"
        for each in error.errors(include_url=False)[:5]
    ]
    return "; ".join(lines)[:1024]
