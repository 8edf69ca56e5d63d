import re

import pytest

from finetuning.artifacts.models import GpuState, TrainingState
from finetuning.monitoring import catalog, collector
from finetuning.monitoring.catalog import METRICS, SPECIFIED, Kind, Metric
from finetuning.monitoring.collector import LABEL_VALUE_BYTES

# Written down a second time on purpose: these are promises to users.
PROMISED = {
    "finetuning_job_status": ("gauge", "job_name,model_id,method"),
    "finetuning_job_duration_seconds": ("histogram", "job_name,model_id,method"),
    "finetuning_training_epoch": ("gauge", "job_name,model_id"),
    "finetuning_training_step": ("gauge", "job_name,model_id"),
    "finetuning_training_progress": ("gauge", "job_name,model_id"),
    "finetuning_train_loss": ("gauge", "job_name,model_id,epoch"),
    "finetuning_learning_rate": ("gauge", "job_name,model_id"),
    "finetuning_samples_per_second": ("gauge", "job_name,model_id"),
    "finetuning_tokens_per_second": ("gauge", "job_name,model_id"),
    "finetuning_gpu_utilization_percent": ("gauge", "job_name,gpu_id"),
    "finetuning_gpu_memory_used_bytes": ("gauge", "job_name,gpu_id"),
    "finetuning_gpu_memory_total_bytes": ("gauge", "job_name,gpu_id"),
    "finetuning_checkpoints_total": ("counter", "job_name,model_id"),
    "finetuning_checkpoint_size_bytes": ("histogram", "job_name,model_id"),
}


# Written down a second time as well: a histogram with other buckets is another one.
MINUTE, HOUR, DAY, MIB = 60, 3600, 86400, 2**20
BUCKETS = {
    "finetuning_job_duration_seconds": (
        MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR,
        12 * HOUR, DAY, 2 * DAY, 3 * DAY, 7 * DAY,
    ),
    "finetuning_checkpoint_size_bytes": (
        MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, 2**30, 2**32, 2**34, 2**36, 2**38, 2**40,
    ),
}  # fmt: skip


def test_the_specified_metrics_keep_names_types_and_labels() -> None:
    assert {m.name: (m.kind.value, ",".join(m.labels)) for m in SPECIFIED} == PROMISED


def test_the_specified_histograms_keep_their_buckets() -> None:
    assert {m.name: m.buckets for m in SPECIFIED if m.buckets} == BUCKETS


def test_no_metric_is_listed_twice() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_follows_the_naming_rules(metric: Metric) -> None:
    assert re.fullmatch(r"finetuning_[a-z0-9_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.help
    assert metric.unit


def test_every_field_the_collector_reads_is_in_the_contract() -> None:
    assert set(collector._FIELDS.values()) <= set(TrainingState.model_fields)
    assert set(collector._GPU_FIELDS.values()) <= set(GpuState.model_fields)


def test_a_label_value_never_exceeds_what_prometheus_takes() -> None:
    identity = collector.Identity(job_name="ü" * 400, model_id="\udcff")
    assert all(len(value.encode()) <= LABEL_VALUE_BYTES for value in identity.labels.values())


def test_every_metric_of_the_module_is_in_the_table() -> None:
    defined = {value for value in vars(catalog).values() if isinstance(value, Metric)}
    assert defined == set(METRICS)
