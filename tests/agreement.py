"""What Prometheus has of a run, held against what the run has left and what the catalogue says."""

from __future__ import annotations

import math
from typing import Any

from hack import prometheus

from finetuning.monitoring import catalog
from finetuning.monitoring.catalog import METRICS, Kind, Metric

TARGET = {"__name__", "job", "instance", "namespace", "pod", "service", "container", "endpoint"}
"""Labels that Prometheus adds to what it scrapes."""

WITHOUT_A_GPU = {metric for metric in METRICS if "gpu_id" in metric.labels} | {catalog.MFU}
"""What no run on a processor can tell."""
AT_AN_END = {
    catalog.SAMPLES_PER_SECOND,
    catalog.TOKENS_PER_SECOND,
    catalog.ESTIMATED_COMPLETION,
}
"""What ends with a run."""

RESULTS = {
    "finetuning_training_step": "global_step",
    "finetuning_train_steps_planned": "total_steps",
    "finetuning_training_epoch": "epoch",
    "finetuning_epochs_planned": "total_epochs",
    "finetuning_train_loss": "final_loss",
    "finetuning_eval_loss": "eval_loss",
    "finetuning_tokens_total": "tokens_total",
    "finetuning_samples_total": "samples_total",
    "finetuning_nonfinite_loss_total": "nonfinite_losses",
    "finetuning_checkpoints_total": "checkpoints_total",
}
"""The name in training_info.json by that of the metric."""


def disagreements(url: str, job: str, info: dict[str, Any]) -> list[str]:
    """Where the last sample of a finished run is not what its training_info.json says."""
    results = info["results"]
    wanted = {metric: results[name] for metric, name in RESULTS.items()}
    sizes = results["checkpoint_sizes_bytes"]
    wanted["finetuning_checkpoint_size_bytes_count"] = len(sizes)
    wanted["finetuning_checkpoint_size_bytes_sum"] = sum(sizes)
    wanted["finetuning_job_duration_seconds_count"] = 1
    wanted["finetuning_job_status"] = 2
    wanted["finetuning_training_progress"] = 100
    found = {metric: _last(url, metric, job) for metric in wanted}
    return [
        f"{metric} is {found[metric]}, training_info.json says {value}"
        for metric, value in wanted.items()
        if found[metric] is None or not math.isclose(found[metric] or 0.0, value, rel_tol=1e-9)
    ]


def _last(url: str, metric: str, job: str) -> float | None:
    """The newest sample of any series of the job: that of the loss has another label each epoch."""
    series = prometheus.instant(url, f'{metric}{{job_name="{job}"}}[30m]')
    samples = [sample for each in series for sample in each["values"]]
    return float(max(samples)[1]) if samples else None


def misnamed(url: str, job: str, *, missing: set[Metric]) -> list[str]:
    """Series of the job that the catalogue does not have so, and metrics that it has alone.

    `missing` are those that this run cannot have.
    """
    ours = {name: metric for metric in METRICS for name in _series(metric)}
    needed = {n for n, m in ours.items() if "job_name" in m.labels and m not in missing}
    found: dict[str, list[set[str]]] = {}
    for each in prometheus.instant(url, f'{{__name__=~"finetuning_.+",job_name="{job}"}}'):
        labels = set(each["metric"])
        if not each["metric"]["__name__"].startswith("finetuning_operator_"):
            found.setdefault(each["metric"]["__name__"], []).append(labels - TARGET - {"le"})
    wrong = [
        f"{name} has the labels {sorted(labels)}"
        for name, all_labels in found.items()
        for labels in all_labels
        if name not in ours or labels != set(ours[name].labels)
    ]
    return wrong + [f"{name} is not there" for name in sorted(needed - found.keys())]


def _series(metric: Metric) -> tuple[str, ...]:
    if metric.kind is Kind.HISTOGRAM:
        return tuple(f"{metric.name}_{ending}" for ending in ("bucket", "sum", "count"))
    return (metric.name,)
