"""What describes a job, read from the watches' cache at each scrape.

Nothing is kept between scrapes: the series of a job outlive its pods and go with the resource, and
a restart of the operator loses none.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from typing_extensions import override

from finetuning.api.v1alpha1 import (
    FineTuningJobStatus,
    Phase,
    Usage,
    ValidationPhase,
)
from finetuning.artifacts.models import CheckResult
from finetuning.controller import naming, status, usage
from finetuning.controller.cache import Cache
from finetuning.controller.observed import BatchJob, Custom, Key
from finetuning.monitoring import operator_catalog as catalog
from finetuning.monitoring.catalog import Kind, Metric

ENDED = (Phase.SUCCEEDED, Phase.FAILED)


@dataclass(frozen=True)
class Sample:
    """One value; `labels` are those that follow namespace and job_name."""

    metric: Metric
    value: float | None
    """None is unknown and leaves no series."""
    labels: tuple[str, ...] = ()


class JobCollector(Collector):
    """All jobs that run or wait, and the newest `finished` of the others."""

    def __init__(self, cache: Cache, gpu_resource: str, finished: int) -> None:
        self._cache, self._gpu_resource, self._finished = cache, gpu_resource, finished

    @override
    def collect(self) -> Iterable[Family]:
        # The scrape runs in a thread of its own: the watches may put while it goes on.
        known, trainings = list(self._cache.customs), by_owner(list(self._cache.jobs))
        families: dict[str, _Family] = {}
        yield _family(catalog.WATCHED_JOBS, [((), float(len(known)))])
        for custom in shown(known, self._finished):
            training = trainings.get(custom.meta.uid)
            for sample in samples(custom, training, self._gpu_resource):
                if sample.value is not None:
                    name = sample.metric.name
                    family = families.get(name) or families.setdefault(name, _family(sample.metric))
                    family.add_metric((*custom.key, *sample.labels), sample.value)
        yield from families.values()


_Family = GaugeMetricFamily | CounterMetricFamily


def _family(metric: Metric, values: Iterable[tuple[tuple[str, ...], float]] = ()) -> _Family:
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def shown(known: Iterable[Custom], finished: int) -> list[Custom]:
    """One object per name (a deleted one may linger beside its successor), not too many ended."""
    newest: dict[Key, Custom] = {}
    for custom in known:
        other = newest.get(custom.key)
        if other is None or other.meta.version < custom.meta.version:
            newest[custom.key] = custom
    ended = [custom for custom in newest.values() if custom.ended_at]
    ended.sort(key=lambda custom: custom.ended_at, reverse=True)
    return [custom for custom in newest.values() if not custom.ended_at] + ended[:finished]


def by_owner(jobs: Iterable[BatchJob]) -> dict[str, BatchJob]:
    """The training Jobs by the uid of the FineTuningJob."""
    return {job.meta.owner_uid: job for job in jobs if job.meta.component == naming.TRAINING}


def samples(custom: Custom, training: BatchJob | None, gpu_resource: str) -> Iterator[Sample]:
    """Everything about one job, of whose Job little is in its status."""
    spec, found = custom.body.get("spec") or {}, status.parse(custom.body.get("status"))
    gpus = usage.gpus_of_job(spec, gpu_resource)
    model = (spec.get("baseModel") or {}).get("modelId", "")
    shape = (str(model), str(spec.get("method", "")), "" if gpus is None else str(gpus))
    yield Sample(catalog.JOB_INFO, 1, shape)
    for phase in Phase:
        yield Sample(catalog.JOB_PHASE, float(phase is found.phase), (phase.value,))
    yield Sample(catalog.JOB_CREATED, _seconds(custom.meta.created))
    yield Sample(catalog.JOB_STARTED, _seconds(found.start_time))
    yield Sample(catalog.JOB_COMPLETED, _seconds(found.completion_time))
    yield Sample(catalog.JOB_DEADLINE, _deadline(spec, training))
    yield Sample(catalog.JOB_FINAL_TRAIN_LOSS, found.train_loss if found.phase in ENDED else None)
    yield Sample(catalog.JOB_RESTARTS, found.restarts)
    used = found.usage or Usage()
    yield Sample(catalog.JOB_GPU_SECONDS, used.gpu_seconds)
    yield Sample(catalog.JOB_ENERGY, used.energy_joules)
    yield from _verdict(found)


def _verdict(found: FineTuningJobStatus) -> Iterator[Sample]:
    validation = found.validation
    if validation is None:
        return
    for phase in ValidationPhase:
        yield Sample(catalog.VALIDATION_PHASE, float(phase is validation.phase), (phase.value,))
    match validation.phase:
        case ValidationPhase.PASSED:
            yield Sample(catalog.VALIDATION_PASSED, 1)
        case ValidationPhase.FAILED | ValidationPhase.ERROR:
            yield Sample(catalog.VALIDATION_PASSED, 0)
        case _:
            pass
    for check in validation.checks:
        for result in CheckResult:
            is_it = float(result == check.result)
            yield Sample(catalog.VALIDATION_CHECK_RESULT, is_it, (check.name, result.value))
        yield Sample(catalog.VALIDATION_CHECK_SCORE, check.score, (check.name,))


def _deadline(spec: Mapping[str, Any], training: BatchJob | None) -> float | None:
    """Kubernetes counts the wait for a node too, and anew after a pause."""
    begun = training.active_since if training is not None else None
    limit = spec.get("activeDeadlineSeconds")
    return begun.timestamp() + limit if begun is not None and isinstance(limit, int) else None


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()
