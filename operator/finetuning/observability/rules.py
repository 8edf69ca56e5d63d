"""Recording rules, and how they and the alerts become one file of Prometheus rules.

Every rule speaks of a job as (cluster, namespace, job_name): the labels of the pod that reports it
come and go with restarts, and a range over them would end at each. `cluster` is there where one
Prometheus, Thanos or Mimir has several. What is held against its own past is kept by pod: a name is
used again, and what a run before had is no measure for the next.
"""

from dataclasses import dataclass
from typing import Any

from finetuning.observability.alerts import ALERTS, Alert

INTERVAL = "30s"


@dataclass(frozen=True)
class Recording:
    """A query whose result is kept as a series of its own, named level:metric:operation."""

    record: str
    expr: str
    why: str


RECORDINGS: tuple[Recording, ...] = (
    Recording(
        "namespace_job_name_pod:finetuning_train_loss:max",
        "max by (cluster, namespace, job_name, pod) (finetuning_train_loss)",
        "One series through all epochs: the label epoch cuts every range at its border.",
    ),
    Recording(
        "namespace_job_name_pod:finetuning_train_loss:avg10m",
        "avg_over_time(namespace_job_name_pod:finetuning_train_loss:max[10m])",
        "The loss without the noise of single batches.",
    ),
    Recording(
        "namespace_job_name:finetuning_training_step:max",
        "max by (cluster, namespace, job_name) (finetuning_training_step)",
        "The step of a job, through restarts of its pod.",
    ),
    Recording(
        "namespace_job_name_pod:finetuning_eval_loss:max",
        "max by (cluster, namespace, job_name, pod) (finetuning_eval_loss)",
        "The loss on held-out data.",
    ),
    Recording(
        "namespace_job_name_pod:finetuning_grad_norm:max",
        "max by (cluster, namespace, job_name, pod) (finetuning_grad_norm)",
        "The gradient's norm.",
    ),
    Recording(
        "namespace_job_name:finetuning_gpu_utilization_percent:avg",
        "avg by (cluster, namespace, job_name) (finetuning_gpu_utilization_percent)",
        "How busy a job's GPUs are.",
    ),
    Recording(
        "namespace_job_name_gpu_id:finetuning_gpu_memory_used:ratio",
        "max by (cluster, namespace, job_name, gpu_id)"
        " (finetuning_gpu_memory_used_bytes / finetuning_gpu_memory_total_bytes)",
        "How full each GPU's memory is.",
    ),
)


def rule_file() -> dict[str, Any]:
    """The `spec` of a PrometheusRule, and what promtool reads: recordings, then alerts by group."""
    recordings = [{"record": each.record, "expr": each.expr} for each in RECORDINGS]
    groups: dict[str, list[dict[str, Any]]] = {"recording": recordings}
    for alert in ALERTS:
        groups.setdefault(alert.group, []).append(_rule(alert))
    return {"groups": [_group(name, rules) for name, rules in groups.items()]}


def _group(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": f"finetuning.{name}", "interval": INTERVAL, "rules": rules}


def _rule(alert: Alert) -> dict[str, Any]:
    wait = {"for": alert.wait} if alert.wait else {}
    return {
        "alert": alert.name,
        "expr": alert.query,
        **wait,
        "labels": {"severity": alert.severity.value},
        "annotations": {
            "summary": with_labels(alert.summary),
            "description": with_labels(alert.description),
            "runbook_url": alert.runbook_url,
        },
    }


def with_labels(text: str) -> str:
    return text.replace("<job>", "{{ $labels.namespace }}/{{ $labels.job_name }}")
