"""The process: watches, workers, resync and HTTP, started and stopped in order."""

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine
from typing import Any

import uvloop
from aiohttp import web
from prometheus_client import disable_created_metrics

from finetuning.controller import endpoints, logs, runner
from finetuning.controller.cache import Cache
from finetuning.controller.election import Election, LostError
from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import CUSTOMS, ApiError, Gateway, wait_for_kind
from finetuning.controller.metrics import OperatorMetrics
from finetuning.controller.monitoring_mode import ModeKeeper
from finetuning.controller.observed import Key
from finetuning.controller.reconcile import Reconciler
from finetuning.controller.resync import Resync
from finetuning.controller.settings import Settings
from finetuning.controller.watching import SOON, Look, Watches
from finetuning.controller.workqueue import ClosedError, WorkQueue

log = logging.getLogger(__name__)

WORKERS = 8
DRAIN_SECONDS = 4.0
"""A look that was begun may end: it takes milliseconds, or one request's time limit."""

CRD_WAIT_SECONDS = 60.0
"""A chart installs the definition and the operator together, in no order."""

AWAY_SECONDS = 5.0
"""Without any answer that is one: what failed meanwhile may succeed after it."""
ANSWER_SECONDS = 10.0
"""An answer is so long ago at most where one is expected every two seconds, of the Lease."""

_FAILED = 1
_SERVER_ERROR = 500


class NotInstalledError(Exception):
    """The cluster does not know the kind that is served."""


class Operator:
    """One running operator."""

    def __init__(self, settings: Settings, cache: Cache, metrics: OperatorMetrics) -> None:
        self._settings, self._cache, self._metrics = settings, cache, metrics
        self._queue: WorkQueue[Key] = WorkQueue()
        self._ready = False
        self._leads = False
        self._election: Election | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Lock()
        self._silent_since = 0.0
        """When a call failed that no other has succeeded since; 0 where the last one did."""
        self._answered = float("-inf")
        # One that stands by queues every job for the day when it leads, and nobody waits for that.
        metrics.depth.set_function(lambda: self._queue.depth if self._leads else 0)

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Told of every call: when somebody answers again, nobody waits for long any more."""
        self._metrics.requested(verb, resource, code, seconds)
        now = time.monotonic()
        if code == 0 or code >= _SERVER_ERROR:
            self._silent_since = self._silent_since or now
            return
        if self._silent_since and now - self._silent_since > AWAY_SECONDS:
            self._queue.hurry()
        self._silent_since = 0.0
        self._answered = now

    def answers(self) -> bool:
        """Whether the API server has answered any call lately."""
        return time.monotonic() - self._answered < ANSWER_SECONDS

    async def run(self, gateway: Gateway) -> None:
        """Serve until SIGTERM or SIGINT, which kopf takes; raises when a watch cannot go on.

        Probes are answered from the start, so that nobody ends what waits for the API server.
        """
        keeper = ModeKeeper(gateway, self._settings, self._metrics.monitor_failed)
        reconciler = Reconciler(
            self._cache,
            gateway,
            self._settings,
            metrics=self._metrics,
            keeper=keeper,
            wake=lambda key: self._queue.add_within(key, SOON),
        )
        namespaces = tuple(self._settings.watch_namespaces)
        watches = Watches(gateway, self._cache, self._queue, namespaces, self.answers)
        server = await endpoints.serve(
            self._settings.http_port,
            self._metrics.registry,
            lambda: self._ready and not watches.lacks_a_kind(),
        )
        resync = Resync(self._cache, gateway, self._queue, namespaces)
        self._election = candidate(self._settings, gateway)
        look = watches.guarded(reconciler.reconcile)
        try:
            await _installed(gateway)
            self._task = asyncio.create_task(self._work(watches, resync, keeper, look))
            # kopf ends every task that comes to be while it runs: the watches are there before.
            await first_to_end(
                *watches.parts(),
                runner.operator(lambda: self._stop(server)),
                self._ending(),
            )
        finally:
            await self._stop(server)
            await reconciler.close()

    async def _ending(self) -> None:
        """End when the work ends, which only `_stop` may cut short."""
        if self._task is not None:
            task = self._task
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    async def _work(self, watches: Watches, resync: Resync, keeper: ModeKeeper, look: Look) -> None:
        """Look at nothing before everything is known: a missing child could just be unseen."""
        await watches.listed()
        self._ready = True
        log.info("ready: %d jobs known", len(self._cache.customs))
        await first_to_end(resync.forever(), self._lead(keeper, look))

    async def _lead(self, keeper: ModeKeeper, look: Look) -> None:
        """Wait for our turn; every job was put into the queue while nobody took from it."""
        if self._election is not None:
            await self._election.win()
            log.info("leading as %s", self._settings.identity)
        self._leads = True
        self._metrics.leads()
        kept = [self._election.keep()] if self._election else []
        await first_to_end(self._workers(look), keeper.forever(), *kept)

    async def _workers(self, look: Look) -> None:
        await asyncio.gather(*(self._worker(look) for _ in range(WORKERS)))

    async def _worker(self, look: Look) -> None:
        while True:
            try:
                key = await self._queue.get()
            except ClosedError:
                return
            try:
                with self._metrics.duration.time():
                    outcome = await self._attempt(key, look)
            finally:
                self._queue.done(key)
            self._metrics.reconciles.labels(outcome).inc()
            # A look at a finished job waits for nothing, and thousands of them in a row would let
            # neither the Lease be renewed nor a probe be answered.
            await asyncio.sleep(0)

    async def _attempt(self, key: Key, look: Look) -> str:
        """One look; whatever it raises, the job comes back and the worker lives on."""
        try:
            again = await look(key)
        except (ApiError, RetryLaterError) as error:
            delay = self._queue.retry(key, error.after)
            log.debug("job=%s/%s retry in %.1f s: %s", *key, delay, error)
            return "retry"
        except Exception:
            delay = self._queue.retry(key)
            log.exception("job=%s/%s this is a bug; retry in %.1f s", *key, delay)
            return "error"
        self._queue.succeeded(key, again)
        return "ok"

    async def _stop(self, server: web.AppRunner) -> None:
        """Let what was begun end, hand over, then go; twice does no harm, one after the other.

        Ending the work ends `run` too, which stops as well while kopf still waits for this here.
        """
        async with self._stopping:
            await self._stop_alone(server)

    async def _stop_alone(self, server: web.AppRunner) -> None:
        self._ready = False
        self._queue.close()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=DRAIN_SECONDS if self._leads else 0)
            self._task.cancel()
            self._task = None
        if self._election is not None:
            await self._election.release()
        await server.cleanup()


def candidate(settings: Settings, gateway: Gateway) -> Election | None:
    """None where this process is alone."""
    if not settings.leader_election:
        return None
    where = (settings.deployment_namespace, settings.deployment_name)
    return Election(gateway, *where, settings.identity)


async def first_to_end(*parts: Coroutine[Any, Any, None]) -> None:
    """Run the parts side by side until one ends, and raise what it raises."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()


def run(settings: Settings, kubeconfig: str | None) -> int:
    """The whole process; the answer is its exit code."""
    logs.configure(settings.log_level)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # They would double the series.
    return uvloop.run(_run(settings, kubeconfig))


async def _run(settings: Settings, kubeconfig: str | None) -> int:
    me = asyncio.current_task()
    if me is not None:
        for each in (signal.SIGTERM, signal.SIGINT):
            # Until kopf takes over, a signal simply ends the waiting.
            asyncio.get_running_loop().add_signal_handler(each, me.cancel)
    try:
        return await _serve(settings, kubeconfig)
    except asyncio.CancelledError:
        return 0
    except (ApiError, LostError, NotInstalledError, OSError) as error:
        log.error("stopped: %s", error)  # noqa: TRY400 - the message says it all
        return _FAILED


async def _serve(settings: Settings, kubeconfig: str | None) -> int:
    cache = Cache()
    operator = Operator(settings, cache, OperatorMetrics(cache, settings))
    gateway = await Gateway.connect(kubeconfig, operator.requested)
    try:
        await operator.run(gateway)
    finally:
        await gateway.close()
    log.info("stopped")
    return 0


async def _installed(gateway: Gateway) -> None:
    """Wait for an API server, however long it is away, and a little for the definition.

    Whoever ends instead is started again by kubelet later and later, up to five minutes.

    Raises:
        NotInstalledError: the API server answers, and has no FineTuningJobs.
    """
    while True:
        try:
            if await wait_for_kind(gateway, CUSTOMS, CRD_WAIT_SECONDS):
                return
        except ApiError as error:
            if error.code in {401, 403}:
                raise
            log.warning("waiting for the API server: %s", error)
        else:
            name = f"{CUSTOMS.plural}.{CUSTOMS.group}/{CUSTOMS.version}"
            remedy = "install the chart, or: kubectl apply --server-side -f crds/"
            raise NotInstalledError(f"the cluster does not serve {name}; {remedy}")
