import re

import pytest

from finetuning.api.v1alpha1 import Phase
from finetuning.artifacts.models import CheckResult
from finetuning.monitoring import operator_catalog
from finetuning.monitoring.catalog import Kind, Metric
from finetuning.monitoring.operator_catalog import METRICS, PREFIX

# Written down a second time on purpose: rules, dashboards and users' own queries rely on them.
PROMISED = {
    "job_info": ("gauge", "namespace,job_name,model_id,method,gpus"),
    "job_phase": ("gauge", "namespace,job_name,phase"),
    "job_created_timestamp_seconds": ("gauge", "namespace,job_name"),
    "job_started_timestamp_seconds": ("gauge", "namespace,job_name"),
    "job_completed_timestamp_seconds": ("gauge", "namespace,job_name"),
    "job_deadline_timestamp_seconds": ("gauge", "namespace,job_name"),
    "job_final_train_loss": ("gauge", "namespace,job_name"),
    "job_restarts": ("gauge", "namespace,job_name"),
    "job_gpu_seconds_total": ("counter", "namespace,job_name"),
    "job_energy_joules_total": ("counter", "namespace,job_name"),
    "queue_wait_seconds": ("histogram", ""),
    "job_duration_seconds": ("histogram", "method,result"),
    "validation_phase": ("gauge", "namespace,job_name,phase"),
    "validation_passed": ("gauge", "namespace,job_name"),
    "validation_check_result": ("gauge", "namespace,job_name,check,result"),
    "validation_check_score": ("gauge", "namespace,job_name,check"),
    "validation_duration_seconds": ("histogram", "result"),
    "reconcile_total": ("counter", "outcome"),
    "reconcile_duration_seconds": ("histogram", ""),
    "api_requests_total": ("counter", "verb,resource,code"),
    "api_request_duration_seconds": ("histogram", "verb"),
    "workqueue_depth": ("gauge", ""),
    "monitor_errors_total": ("counter", "reason"),
    "watched_jobs": ("gauge", ""),
    "leader": ("gauge", ""),
    "build_info": ("gauge", "version"),
}


def test_the_metrics_keep_names_types_and_labels() -> None:
    found = {m.name.removeprefix(PREFIX): (m.kind.value, ",".join(m.labels)) for m in METRICS}
    assert found == PROMISED


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_follows_the_naming_rules(metric: Metric) -> None:
    assert re.fullmatch(rf"{PREFIX}[a-z0-9_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.help
    assert metric.unit


def test_every_metric_of_the_module_is_in_the_table_once() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    defined = {value for value in vars(operator_catalog).values() if isinstance(value, Metric)}
    assert defined == set(METRICS)


def test_the_help_names_every_value_of_a_state_set() -> None:
    for metric, states in (
        (operator_catalog.JOB_PHASE, Phase),
        (operator_catalog.VALIDATION_CHECK_RESULT, CheckResult),
    ):
        assert [state for state in states if state not in metric.help] == []
