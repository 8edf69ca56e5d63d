"""Turns one snapshot into metric families; built anew for every scrape, so nothing old stays."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from typing_extensions import override

from finetuning.artifacts.models import GpuState, RunState, TrainingState
from finetuning.monitoring import catalog
from finetuning.monitoring.catalog import JobStatus, Kind, Metric
from finetuning.monitoring.freshness import present
from finetuning.monitoring.source import Snapshot

LABEL_VALUE_BYTES = 256
"""Prometheus refuses the whole scrape when a label value is above its limit; ours is this."""

_SAVING_PERCENT = 99.9
"""All steps are done, but the result is not saved yet."""

_FIELDS: Mapping[Metric, str] = {
    catalog.TRAINING_EPOCH: "epoch",
    catalog.TRAINING_STEP: "step",
    catalog.LEARNING_RATE: "learning_rate",
    catalog.SAMPLES_PER_SECOND: "samples_per_second",
    catalog.TOKENS_PER_SECOND: "tokens_per_second",
    catalog.CHECKPOINTS_TOTAL: "checkpoints_total",
    catalog.TRAIN_STEPS_PLANNED: "total_steps",
    catalog.EPOCHS_PLANNED: "total_epochs",
    catalog.START_TIMESTAMP: "started_at",
    catalog.RESUME_TIMESTAMP: "resumed_at",
    catalog.TOKENS_TOTAL: "tokens_total",
    catalog.SAMPLES_TOTAL: "samples_total",
    catalog.EVAL_LOSS: "eval_loss",
    catalog.GRAD_NORM: "grad_norm",
    catalog.NONFINITE_LOSS_TOTAL: "nonfinite_losses",
    catalog.LAST_CHECKPOINT_TIMESTAMP: "last_checkpoint_at",
    catalog.CHECKPOINT_INTERVAL: "checkpoint_interval_steps",
    catalog.MFU: "mfu_ratio",
    catalog.LAST_UPDATE_TIMESTAMP: "updated_at",
}

_GPU_FIELDS: Mapping[Metric, str] = {
    catalog.GPU_UTILIZATION: "utilization_percent",
    catalog.GPU_MEMORY_USED: "memory_used_bytes",
    catalog.GPU_MEMORY_TOTAL: "memory_total_bytes",
    catalog.GPU_PEAK_MEMORY: "peak_memory_bytes",
    catalog.GPU_POWER: "power_watts",
    catalog.GPU_TEMPERATURE: "temperature_celsius",
    catalog.GPU_ENERGY_TOTAL: "energy_joules",
}

_STATUS: Mapping[RunState, JobStatus] = {
    RunState.STARTING: JobStatus.RUNNING,
    RunState.TRAINING: JobStatus.RUNNING,
    RunState.EVALUATING: JobStatus.RUNNING,
    RunState.SAVING: JobStatus.RUNNING,
    RunState.FINISHED: JobStatus.SUCCEEDED,
    RunState.FAILED: JobStatus.FAILED,
    RunState.PAUSED: JobStatus.PAUSED,
}


@dataclass(frozen=True)
class Identity:
    """Label values; they come from who started the exporter, never from the trainer's files."""

    job_name: str = "finetuning"
    model_id: str = ""
    method: str = ""
    version: str = ""
    python_version: str = ""

    @property
    def labels(self) -> dict[str, str]:
        return {name: _label(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Sample:
    """One value of one metric; `value` None is unknown and leaves no series."""

    metric: Metric
    value: float | None
    labels: Mapping[str, str]


class SnapshotCollector(Collector):
    """What prometheus_client's text writers take."""

    def __init__(self, snapshot: Snapshot, identity: Identity) -> None:
        self._snapshot = snapshot
        self._identity = identity

    @override
    def collect(self) -> Iterable[Family]:
        return families(self._snapshot, self._identity)


def families(snapshot: Snapshot, identity: Identity) -> Iterator[Family]:
    """All families that have a sample, in the order of the catalogue."""
    state = present(snapshot)
    samples: dict[Metric, list[Sample]] = {}
    for sample in _samples(state, snapshot, identity.labels):
        if sample.value is not None:
            samples.setdefault(sample.metric, []).append(sample)
    for metric in catalog.METRICS:
        if metric.kind is Kind.HISTOGRAM:
            observed = _observations(metric, state)
            if observed is not None:
                yield _histogram(metric, observed, identity.labels)
        elif metric in samples:
            yield _simple(metric, samples[metric])


def _samples(
    state: TrainingState | None, snapshot: Snapshot, labels: Mapping[str, str]
) -> Iterator[Sample]:
    yield Sample(catalog.JOB_STATUS, job_status(state), labels)
    yield Sample(catalog.STATE_PARSE_ERRORS_TOTAL, snapshot.parse_errors, labels)
    yield Sample(catalog.BUILD_INFO, 1, labels)
    if state is not None:
        yield from _state_samples(state, labels)


def _state_samples(state: TrainingState, labels: Mapping[str, str]) -> Iterator[Sample]:
    yield Sample(catalog.TRAINING_INFO, 1, {**labels, "precision": state.precision})
    for each in RunState:
        is_it = float(each is state.state)
        yield Sample(catalog.TRAINING_STATE, is_it, {**labels, "state": each.value})
    for metric, field in _FIELDS.items():
        yield Sample(metric, _number(getattr(state, field)), labels)
    yield Sample(catalog.TRAINING_PROGRESS, progress_percent(state), labels)
    epoch = epoch_label(state.epoch if state.loss_epoch is None else state.loss_epoch)
    yield Sample(catalog.TRAIN_LOSS, state.loss, {**labels, "epoch": epoch})
    yield Sample(catalog.ESTIMATED_COMPLETION, _estimated_completion(state), labels)
    for gpu in {gpu.index: gpu for gpu in state.gpus}.values():
        yield from _gpu_samples(gpu, labels)


def _gpu_samples(gpu: GpuState, labels: Mapping[str, str]) -> Iterator[Sample]:
    known = {
        **labels,
        "gpu_id": str(gpu.index),
        "gpu_uuid": _label(gpu.uuid or ""),
        "gpu_name": _label(gpu.name or ""),
        "pci_address": _label(gpu.pci_address or ""),
    }
    yield Sample(catalog.GPU_INFO, 1, known)
    for metric, field in _GPU_FIELDS.items():
        yield Sample(metric, _number(getattr(gpu, field)), known)


def job_status(state: TrainingState | None) -> JobStatus:
    """The specification's status code; a run that has written nothing yet is pending."""
    return JobStatus.PENDING if state is None else _STATUS[state.state]


def progress_percent(state: TrainingState) -> float | None:
    """0 to 100; 100 only when the result is saved, None while the number of steps is unknown."""
    if state.state is RunState.FINISHED:
        return 100.0
    step, total = _number(state.step), _number(state.total_steps)
    if step is None or not total:
        return None
    return min(100 * step / total, _SAVING_PERCENT)


def epoch_label(epoch: float | None) -> str:
    """The epoch being trained, counted from 1; empty when it is unknown."""
    if epoch is None or not math.isfinite(epoch):
        return ""
    return _label(str(max(1, math.ceil(epoch))))


def _estimated_completion(state: TrainingState) -> float | None:
    if state.state.is_terminal or state.estimated_remaining_seconds is None:
        return None
    return state.updated_at + state.estimated_remaining_seconds


def _observations(metric: Metric, state: TrainingState | None) -> list[float] | None:
    """None while nobody knows them: those of an earlier process of the run may be among them."""
    if metric is catalog.JOB_DURATION:
        return _durations(state)
    if state is None or state.checkpoint_sizes_bytes is None:
        return None
    return [_number(size) or 0.0 for size in state.checkpoint_sizes_bytes]


def _durations(state: TrainingState | None) -> list[float]:
    """Of this process: a job that goes on after a failed one has a series for each of its pods."""
    if state is None or state.state not in (RunState.FINISHED, RunState.FAILED):
        return []
    began, ended = state.process_started_at, state.finished_at
    return [] if began is None or ended is None else [max(0.0, ended - began)]


def _simple(metric: Metric, samples: list[Sample]) -> Family:
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for sample in samples:
        value = sample.value if sample.value is not None else math.nan
        family.add_metric([sample.labels[name] for name in metric.labels], value)
    return family


def _histogram(metric: Metric, observed: list[float], labels: Mapping[str, str]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = (*metric.buckets, math.inf)
    counts = [0.0] * len(bounds)
    for value in observed:
        counts[bisect_left(bounds, value)] += 1
    names = [str(floatToGoString(bound)) for bound in bounds]  # type: ignore[no-untyped-call]
    buckets = list(zip(names, accumulate(counts), strict=True))
    family.add_metric([labels[name] for name in metric.labels], buckets, sum(observed))
    return family


def _number(value: float | None) -> float | None:
    """A float; integers that none can hold become infinite instead of an error."""
    try:
        return None if value is None else float(value)
    except OverflowError:
        return math.inf


def _label(value: str) -> str:
    """Valid UTF-8 of bounded length."""
    return value.encode("utf-8", "replace")[:LABEL_VALUE_BYTES].decode("utf-8", "ignore")
