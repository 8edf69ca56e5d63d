"""The alerts, each with what a person woken by it needs: a sentence, the figures, a runbook.

What happens to a running job is asked of its sidecar; its end only of the operator, since the
sidecar's series end with the pod.
"""

from dataclasses import dataclass
from enum import StrEnum
from textwrap import dedent

RUNBOOKS = "https://github.com/finetuning-operator/finetuning-operator/blob/main/docs/runbooks.md"


class Severity(StrEnum):
    """Critical: look now. Warning: look today. Info: worth knowing."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Alert:
    """One alert; `wait` is how long its expression must hold, empty for at once.

    In the texts <job> stands for the labels that name a job; the rest is Prometheus' templates.
    """

    name: str
    group: str
    severity: Severity
    wait: str
    expr: str
    summary: str
    description: str

    @property
    def query(self) -> str:
        return dedent(self.expr).strip()

    @property
    def runbook_url(self) -> str:
        return f"{RUNBOOKS}#{self.name.lower()}"


ALERTS: tuple[Alert, ...] = (
    Alert(
        "FineTuningJobStalled",
        "training",
        Severity.WARNING,
        "10m",
        """
        changes(namespace_job_name:finetuning_training_step:max[15m]) == 0
        and (namespace_job_name:finetuning_training_step:max offset 15m)
        and on (cluster, namespace, job_name)
          max by (cluster, namespace, job_name) (finetuning_training_state{state="training"}) == 1
        or
        max by (cluster, namespace, job_name) (
          changes(finetuning_training_state{state="starting"}[1h]) == 0
          and finetuning_training_state{state="starting"} == 1
          and (finetuning_training_state{state="starting"} offset 1h)
        )
        """,
        "Fine-tuning job <job> makes no progress",
        "<job> has made no step for 15 minutes of training, or an hour before its first one.",
    ),
    Alert(
        "FineTuningTelemetryStale",
        "training",
        Severity.WARNING,
        "5m",
        """
        time()
          - max by (cluster, namespace, job_name) (finetuning_last_update_timestamp_seconds) > 300
        and on (cluster, namespace, job_name)
          max by (cluster, namespace, job_name) (finetuning_training_state{state="training"}) == 1
        or
        time()
          - max by (cluster, namespace, job_name) (finetuning_last_update_timestamp_seconds) > 3600
        and on (cluster, namespace, job_name)
          max by (cluster, namespace, job_name) (finetuning_job_status) == 1
        """,
        "The trainer of <job> has gone silent",
        "<job> is running, but its process has reported nothing for"
        " {{ $value | humanizeDuration }}: it hangs, or what it does takes longer than that.",
    ),
    Alert(
        "FineTuningSidecarDown",
        "training",
        Severity.WARNING,
        "10m",
        """
        max by (cluster, namespace, job_name) (finetuning_operator_job_phase{phase="Running"}) == 1
        unless on (cluster, namespace, job_name) finetuning_job_status
        unless on (cluster, namespace, job_name)
          finetuning_operator_validation_phase{phase=~"Pending|Running"} == 1
        """,
        "No figures arrive from <job>",
        "The operator says that <job> is running, but Prometheus gets nothing from its sidecar.",
    ),
    Alert(
        "FineTuningLossNotFinite",
        "training",
        Severity.CRITICAL,
        "",
        """
        sum by (cluster, namespace, job_name) (increase(finetuning_nonfinite_loss_total[15m])) > 0
        or
        sum by (cluster, namespace, job_name) (
          finetuning_nonfinite_loss_total
          unless finetuning_nonfinite_loss_total offset 15m
          and on (cluster, namespace, job_name, pod)
            finetuning_resume_timestamp_seconds <= finetuning_start_timestamp_seconds
        ) > 0
        or
        max by (cluster, namespace, job_name) (
          namespace_job_name_pod:finetuning_train_loss:max
          != namespace_job_name_pod:finetuning_train_loss:max
        )
        """,
        "The loss of <job> is not a number",
        "<job> had a loss or a gradient that was NaN or infinite in the last 15 minutes.",
    ),
    Alert(
        "FineTuningLossDiverging",
        "training",
        Severity.WARNING,
        "15m",
        """
        max by (cluster, namespace, job_name) (
          namespace_job_name_pod:finetuning_train_loss:avg10m
          > 0.1 + 1.5 * min_over_time(namespace_job_name_pod:finetuning_train_loss:avg10m[2h])
        )
        and on (cluster, namespace, job_name)
          max by (cluster, namespace, job_name) (finetuning_training_progress) > 5
        """,
        "The loss of <job> rises",
        "The loss of <job> is"
        " {{ $value | humanize }} over the last 10 minutes, more than"
        " half above the least of the last two hours.",
    ),
    Alert(
        "FineTuningGradNormSpike",
        "training",
        Severity.INFO,
        "5m",
        """
        max by (cluster, namespace, job_name) (
          namespace_job_name_pod:finetuning_grad_norm:max
          > 10 * quantile_over_time(0.5, namespace_job_name_pod:finetuning_grad_norm:max[1h])
        )
        """,
        "The gradient of <job> has jumped",
        "The gradient norm of <job> is"
        " {{ $value | humanize }}, more than ten times its"
        " median of the last hour; a jump of the loss tends to follow.",
    ),
    Alert(
        "FineTuningOverfitting",
        "training",
        Severity.INFO,
        "30m",
        """
        max by (cluster, namespace, job_name) (
          namespace_job_name_pod:finetuning_eval_loss:max
          > 1.1 * min_over_time(namespace_job_name_pod:finetuning_eval_loss:max[1d])
          and deriv(namespace_job_name_pod:finetuning_train_loss:avg10m[1h]) < 0
        )
        """,
        "<job> learns its training data by heart",
        "The loss of <job> on held-out data is"
        " {{ $value | humanize }}, more than a tenth"
        " above its best, while the training loss still falls.",
    ),
    Alert(
        "FineTuningNoRecentCheckpoint",
        "training",
        Severity.WARNING,
        "5m",
        """
        (
          time() - max by (cluster, namespace, job_name) (
            finetuning_last_checkpoint_timestamp_seconds > finetuning_resume_timestamp_seconds
            or finetuning_resume_timestamp_seconds
          )
        )
        > 2 * max by (cluster, namespace, job_name) (
          finetuning_checkpoint_interval_steps
            * (finetuning_last_update_timestamp_seconds - finetuning_start_timestamp_seconds)
            / (finetuning_training_step > 0)
        )
        and on (cluster, namespace, job_name)
          max by (cluster, namespace, job_name) (finetuning_job_status) == 1
        unless on (cluster, namespace, job_name)
          max by (cluster, namespace, job_name) (finetuning_training_state{state="evaluating"}) == 1
        """,
        "<job> has saved no checkpoint for long",
        "What <job> did in the last"
        " {{ $value | humanizeDuration }} is in no checkpoint;"
        " that is more than twice the planned interval at the run's average speed.",
    ),
    Alert(
        "FineTuningProgressBehindDeadline",
        "training",
        Severity.INFO,
        "15m",
        """
        max by (cluster, namespace, job_name) (finetuning_estimated_completion_timestamp_seconds)
          - max by (cluster, namespace, job_name)
            (finetuning_operator_job_deadline_timestamp_seconds)
        > 0
        """,
        "<job> will not be done in time",
        "At its present speed <job> ends"
        " {{ $value | humanizeDuration }} after its deadline,"
        " at which it will be stopped.",
    ),
    Alert(
        "FineTuningLowGpuUtilization",
        "gpu",
        Severity.INFO,
        "30m",
        """
        avg_over_time(namespace_job_name:finetuning_gpu_utilization_percent:avg[15m]) < 30
        and changes(namespace_job_name:finetuning_training_step:max[15m]) > 0
        """,
        "The GPUs of <job> are mostly idle",
        "The GPUs of <job> were busy"
        " {{ $value | humanize }} % of the last 15 minutes,"
        " while the training went on.",
    ),
    Alert(
        "FineTuningGpuMemoryNearLimit",
        "gpu",
        Severity.WARNING,
        "10m",
        "namespace_job_name_gpu_id:finetuning_gpu_memory_used:ratio > 0.95",
        "GPU {{ $labels.gpu_id }} of <job> is nearly full",
        "The memory of GPU {{ $labels.gpu_id }} of <job> is"
        " {{ $value | humanizePercentage }} used; a longer batch may end the run.",
    ),
    Alert(
        "FineTuningJobQueuedTooLong",
        "jobs",
        Severity.WARNING,
        "1h",
        """
        max by (cluster, namespace, job_name)
          (finetuning_operator_job_phase{phase="Pending"}) == 1
        """,
        "<job> waits for its start",
        "<job> has been pending for more than an hour.",
    ),
    Alert(
        "FineTuningJobFailed",
        "jobs",
        Severity.WARNING,
        "",
        """
        max by (cluster, namespace, job_name) (finetuning_operator_job_phase{phase="Failed"}) == 1
        and on (cluster, namespace, job_name)
          time() - max by (cluster, namespace, job_name)
            (finetuning_operator_job_completed_timestamp_seconds) < 3600
        """,
        "Fine-tuning job <job> has failed",
        "<job> failed within the last hour; its status has the reason.",
    ),
    Alert(
        "FineTuningJobRestarted",
        "jobs",
        Severity.INFO,
        "",
        """
        max by (cluster, namespace, job_name) (finetuning_operator_job_restarts)
          - min by (cluster, namespace, job_name)
            (min_over_time(finetuning_operator_job_restarts[15m]))
        >= 1
        unless on (cluster, namespace, job_name)
          max by (cluster, namespace, job_name) (finetuning_operator_job_restarts)
            - min by (cluster, namespace, job_name)
              (min_over_time(finetuning_operator_job_restarts[1h]))
          >= 3
        """,
        "The training of <job> was lost and started anew",
        "A trainer of <job> was killed or failed in the last 15 minutes; another one goes on from"
        " the newest checkpoint.",
    ),
    Alert(
        "FineTuningJobRestarting",
        "jobs",
        Severity.WARNING,
        "",
        """
        max by (cluster, namespace, job_name) (finetuning_operator_job_restarts)
          - min by (cluster, namespace, job_name)
            (min_over_time(finetuning_operator_job_restarts[1h]))
        >= 3
        """,
        "<job> keeps restarting",
        "The training of <job> was started anew {{ $value }} times within an hour.",
    ),
    Alert(
        "FineTuningValidationFailed",
        "validation",
        Severity.WARNING,
        "",
        """
        max by (cluster, namespace, job_name) (finetuning_operator_validation_passed) == 0
        and on (cluster, namespace, job_name)
          max by (cluster, namespace, job_name)
            (finetuning_operator_validation_check_result{result="Fail"}) == 1
        and on (cluster, namespace, job_name) (
          time() - max by (cluster, namespace, job_name)
            (finetuning_operator_job_completed_timestamp_seconds) < 86400
          or max by (cluster, namespace, job_name)
            (changes(finetuning_operator_validation_passed[1d])) > 0
          or max by (cluster, namespace, job_name)
            (changes(finetuning_operator_validation_phase[1d])) > 0
        )
        """,
        "The model of <job> did not pass its validation",
        "At least one check of <job> says that the trained model is not good enough.",
    ),
    Alert(
        "FineTuningValidationError",
        "validation",
        Severity.WARNING,
        "",
        """
        max by (cluster, namespace, job_name) (finetuning_operator_validation_passed) == 0
        unless on (cluster, namespace, job_name)
          max by (cluster, namespace, job_name)
            (finetuning_operator_validation_check_result{result="Fail"}) == 1
        and on (cluster, namespace, job_name) (
          time() - max by (cluster, namespace, job_name)
            (finetuning_operator_job_completed_timestamp_seconds) < 86400
          or max by (cluster, namespace, job_name)
            (changes(finetuning_operator_validation_passed[1d])) > 0
          or max by (cluster, namespace, job_name)
            (changes(finetuning_operator_validation_phase[1d])) > 0
        )
        """,
        "The model of <job> could not be validated",
        "The validation of <job> ended without a verdict: no check failed, but not all could"
        " be made.",
    ),
    Alert(
        "FineTuningValidationStuck",
        "validation",
        Severity.WARNING,
        "1h",
        """
        max by (cluster, namespace, job_name)
          (finetuning_operator_validation_phase{phase=~"Pending|Running"}) == 1
        and on (cluster, namespace, job_name)
          max by (cluster, namespace, job_name)
            (finetuning_operator_job_phase{phase=~"Running|Succeeded"}) == 1
        """,
        "The validation of <job> does not end",
        "<job> was trained more than an hour ago, and its validation has no verdict yet.",
    ),
    Alert(
        "FineTuningMonitorMissing",
        "operator",
        Severity.INFO,
        "15m",
        "sum by (cluster, reason) (increase(finetuning_operator_monitor_errors_total[15m])) > 0",
        "Jobs are not monitored: {{ $labels.reason }}",
        "The operator could not make the monitoring objects of a job ({{ $labels.reason }});"
        " training goes on without them.",
    ),
    Alert(
        "FineTuningOperatorDown",
        "operator",
        Severity.CRITICAL,
        "10m",
        """
        max by (cluster, namespace) (max_over_time(finetuning_operator_build_info[1d]))
        unless on (cluster, namespace) finetuning_operator_build_info
        or absent(finetuning_operator_build_info)
        """,
        "No fine-tuning operator is running",
        "Prometheus gets nothing from the operator: new jobs do not start, and the status of"
        " running ones stands still. Training itself goes on.",
    ),
    Alert(
        "FineTuningOperatorWithoutLeader",
        "operator",
        Severity.CRITICAL,
        "5m",
        "sum by (cluster, namespace) (finetuning_operator_leader) == 0",
        "No fine-tuning operator is leading",
        "Operators run, but none of them holds the lease that lets it work: new jobs do not start,"
        " and the status of running ones stands still.",
    ),
    Alert(
        "FineTuningReconcileErrors",
        "operator",
        Severity.WARNING,
        "10m",
        """
        sum by (cluster, namespace) (rate(finetuning_operator_reconcile_total{outcome!="ok"}[10m]))
          / sum by (cluster, namespace) (rate(finetuning_operator_reconcile_total[10m]))
        > 0.1
        """,
        "The fine-tuning operator often fails",
        "{{ $value | humanizePercentage }} of the operator's looks at jobs failed in the last"
        " 10 minutes.",
    ),
)
