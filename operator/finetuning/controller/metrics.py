"""The operator's own metrics, all under finetuning_operator_ so that nothing is counted twice.

What describes a job is made from the cache at each scrape: its series go when it goes.
"""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from typing_extensions import override

from finetuning.api.v1alpha1 import Phase, ValidationPhase
from finetuning.controller.cache import Cache
from finetuning.controller.observed import Custom

PREFIX = "finetuning_operator_"
_JOB_LABELS = ("namespace", "job_name")
_RECONCILE_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30)


class JobCollector(Collector):
    """One look at the cache per scrape."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @override
    def collect(self) -> Iterable[Metric]:
        info = InfoMetricFamily(f"{PREFIX}job", "What a job trains.", labels=_JOB_LABELS)
        phase = GaugeMetricFamily(
            f"{PREFIX}job_phase",
            "Phase of a job: 1 for the one it is in, 0 for the others.",
            labels=(*_JOB_LABELS, "phase"),
        )
        passed = GaugeMetricFamily(
            f"{PREFIX}validation_passed",
            "Verdict on the trained model: 1 passed, 0 not; absent while there is none.",
            labels=_JOB_LABELS,
        )
        for custom in list(self._cache.customs):
            _add(custom, info, phase, passed)
        yield from (info, phase, passed)


def _add(
    custom: Custom, info: InfoMetricFamily, phase: GaugeMetricFamily, passed: GaugeMetricFamily
) -> None:
    labels = custom.key
    spec, status = custom.body.get("spec") or {}, custom.body.get("status") or {}
    model = (spec.get("baseModel") or {}).get("modelId", "")
    info.add_metric(labels, {"model_id": model, "method": spec.get("method", "")})
    current = status.get("phase", Phase.PENDING)
    for each in Phase:
        phase.add_metric((*labels, each.value), float(each == current))
    verdict = _verdict(status.get("validation") or {})
    if verdict is not None:
        passed.add_metric(labels, verdict)


def _verdict(validation: dict[str, Any]) -> float | None:
    match validation.get("phase"):
        case ValidationPhase.PASSED:
            return 1.0
        case ValidationPhase.FAILED | ValidationPhase.ERROR:
            return 0.0
        case _:
            return None


class OperatorMetrics:
    """Counters of the process, in a registry of its own."""

    def __init__(self, cache: Cache) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            f"{PREFIX}reconcile",
            "Looks at a job: ok, retry (will be tried again), error (a bug).",
            ["outcome"],
            registry=self.registry,
        )
        self.duration = Histogram(
            f"{PREFIX}reconcile_duration_seconds",
            "Time of one look at a job.",
            buckets=_RECONCILE_BUCKETS,
            registry=self.registry,
        )
        self.requests = Counter(
            f"{PREFIX}api_requests",
            "Calls of the Kubernetes API besides the watches; code 0 means no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.depth = Gauge(
            f"{PREFIX}queue_depth", "Jobs that wait for a worker.", registry=self.registry
        )
        build = Gauge(
            f"{PREFIX}build_info", "Version of the operator.", ["version"], registry=self.registry
        )
        build.labels(version("finetuning-operator")).set(1)
        for outcome in ("ok", "retry", "error"):
            self.reconciles.labels(outcome)
        self.registry.register(JobCollector(cache))
        ProcessCollector(registry=self.registry)
