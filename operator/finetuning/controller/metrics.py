"""The operator's own metrics: what the process did, counted as it happens.

What describes a single job comes from `job_metrics`.
"""

from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from finetuning.api.hyperparameters import Method
from finetuning.api.v1alpha1 import FineTuningJobStatus, ValidationPhase
from finetuning.controller import attempts
from finetuning.controller.cache import Cache
from finetuning.controller.job_metrics import ENDED, JobCollector
from finetuning.controller.observed import Custom
from finetuning.controller.settings import Settings
from finetuning.monitoring import operator_catalog as catalog
from finetuning.monitoring.catalog import Metric

_VERDICTS = (ValidationPhase.PASSED, ValidationPhase.FAILED, ValidationPhase.ERROR)

Observation = tuple[Metric, tuple[str, ...], float]
"""A histogram of the catalogue, its label values, and seconds."""


class OperatorMetrics:
    """Counters and histograms of the process, in a registry of its own."""

    def __init__(self, cache: Cache, settings: Settings) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = self._counter(catalog.RECONCILE_TOTAL)
        self.duration = self._histogram(catalog.RECONCILE_DURATION)
        self.depth = Gauge(
            catalog.WORKQUEUE_DEPTH.name, catalog.WORKQUEUE_DEPTH.help, registry=self.registry
        )
        self._leader = Gauge(catalog.LEADER.name, catalog.LEADER.help, registry=self.registry)
        self._requests = self._counter(catalog.API_REQUESTS_TOTAL)
        self._request_duration = self._histogram(catalog.API_REQUEST_DURATION)
        self._monitor_errors = self._counter(catalog.MONITOR_ERRORS_TOTAL)
        turns = (catalog.QUEUE_WAIT, catalog.JOB_DURATION, catalog.VALIDATION_DURATION)
        self._turns = {metric: self._histogram(metric) for metric in turns}
        self._start_at_zero()
        self._build_info()
        self._jobs = JobCollector(cache, settings.gpu_resource_name, settings.metrics_finished_jobs)
        ProcessCollector(registry=self.registry)

    def leads(self) -> None:
        """From now on this process works, and tells about the jobs: two would count them twice."""
        self._leader.set(1)
        self.registry.register(self._jobs)

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Count a call of the Kubernetes API."""
        self._requests.labels(verb, resource, str(code)).inc()
        self._request_duration.labels(verb).observe(seconds)

    def monitor_failed(self, reason: str) -> None:
        """Count a try to wire up monitoring that came to nothing."""
        self._monitor_errors.labels(reason).inc()

    def turned(
        self, custom: Custom, old: FineTuningJobStatus | None, new: FineTuningJobStatus
    ) -> None:
        """Observe what a status that was just written says for the first time."""
        for metric, labels, seconds in durations(custom, old or FineTuningJobStatus(), new):
            histogram = self._turns[metric]
            (histogram.labels(*labels) if labels else histogram).observe(seconds)

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(
            metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=self.registry
        )

    def _start_at_zero(self) -> None:
        """A series that appears with its first count has no rate before the second."""
        for outcome in ("ok", "retry", "error"):
            self.reconciles.labels(outcome)
        for result in _VERDICTS:
            self._turns[catalog.VALIDATION_DURATION].labels(result.value)
        for method in Method:
            for phase in ENDED:
                self._turns[catalog.JOB_DURATION].labels(method.value, phase.value)

    def _build_info(self) -> None:
        info = catalog.BUILD_INFO
        gauge = Gauge(info.name, info.help, info.labels, registry=self.registry)
        gauge.labels(version("finetuning-operator")).set(1)


def durations(
    custom: Custom, old: FineTuningJobStatus, new: FineTuningJobStatus
) -> Iterator[Observation]:
    """What the turn from one status to the next makes known, so that nothing counts twice."""
    if old.start_time is None:
        yield from _took(catalog.QUEUE_WAIT, (), custom.meta.created, new.start_time)
    if new.phase in ENDED and old.phase not in ENDED:
        method = str((custom.body.get("spec") or {}).get("method", ""))
        about = (method, new.phase.value)
        yield from _took(catalog.JOB_DURATION, about, new.start_time, new.completion_time)
    found = new.validation
    if found is not None and found.phase in _VERDICTS and attempts.is_news(old.validation, found):
        result = (found.phase.value,)
        yield from _took(
            catalog.VALIDATION_DURATION, result, found.start_time, found.completion_time
        )


def _took(
    metric: Metric, labels: tuple[str, ...], begun: datetime | None, ended: datetime | None
) -> Iterator[Observation]:
    if begun is not None and ended is not None:
        yield metric, labels, max(0.0, (ended - begun).total_seconds())
