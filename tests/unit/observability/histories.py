"""What the histories of the alerts are made of: samples, in promtool's notation."""

from dataclasses import dataclass, field

JOB = {"namespace": "team", "job_name": "llama"}

Series = tuple[str, str]


def series(metric: str, values: str, **labels: str) -> Series:
    """One sample a minute from the sidecar of one pod, in promtool's notation."""
    given = {**JOB, "pod": "llama-train-x1", "model_id": "org/m", **labels}
    words = ",".join(f'{name}="{value}"' for name, value in given.items())
    return f"finetuning_{metric}{{{words}}}", values


def operator(metric: str, values: str, **labels: str) -> Series:
    """The same from the operator."""
    given = {"pod": "operator-1", **labels}
    words = ",".join(f'{name}="{value}"' for name, value in given.items())
    return f"finetuning_operator_{metric}{{{words}}}", values


@dataclass(frozen=True)
class Case:
    """A history, the minute at which Prometheus is asked, and what the alert says then, if any."""

    alert: str
    history: str
    series: tuple[Series, ...]
    minute: int
    says: str = ""
    labels: dict[str, str] = field(default_factory=lambda: JOB)

    @property
    def name(self) -> str:
        return f"{self.alert}-{'fires' if self.says else 'silent'}-{self.history}"


TRAINING = series("training_state", "1x200", state="training")
STARTING = series("training_state", "1x200", state="starting")
EVALUATING = series("training_state", "0x5 1x195", state="evaluating")
NOT_TRAINING = series("training_state", "1x5 0x195", state="training")
RUNNING = operator("job_phase", "1x200", **JOB, phase="Running")
FAILED = operator("job_phase", "0x30 1x170", **JOB, phase="Failed")
SUCCEEDED = operator("job_phase", "0x10 1x190", **JOB, phase="Succeeded")
ENDED_AT_10 = operator("job_completed_timestamp_seconds", "_x10 600x190", **JOB)
ENDED_A_DAY_BEFORE = operator("job_completed_timestamp_seconds", "-86400x50", **JOB)
ENDED_HALF_A_DAY_BEFORE = operator("job_completed_timestamp_seconds", "-43200x50", **JOB)
ENDED_AT_30 = operator("job_completed_timestamp_seconds", "_x30 1800x170", **JOB)
BUSY = series("job_status", "1x200", method="lora")

STALLED, STALE, DOWN = "FineTuningJobStalled", "FineTuningTelemetryStale", "FineTuningSidecarDown"
NOT_FINITE, DIVERGING = "FineTuningLossNotFinite", "FineTuningLossDiverging"
SPIKE, OVERFIT = "FineTuningGradNormSpike", "FineTuningOverfitting"
CHECKPOINT, DEADLINE = "FineTuningNoRecentCheckpoint", "FineTuningProgressBehindDeadline"
IDLE, FULL = "FineTuningLowGpuUtilization", "FineTuningGpuMemoryNearLimit"
QUEUED, FAILURE = "FineTuningJobQueuedTooLong", "FineTuningJobFailed"
RESTARTED, RESTARTING = "FineTuningJobRestarted", "FineTuningJobRestarting"
BAD_MODEL, NO_VERDICT = "FineTuningValidationFailed", "FineTuningValidationError"
STUCK, UNMONITORED = "FineTuningValidationStuck", "FineTuningMonitorMissing"
NO_OPERATOR, ERRORS = "FineTuningOperatorDown", "FineTuningReconcileErrors"
NO_LEADER = "FineTuningOperatorWithoutLeader"


def checkpoints(saved: str, resumed: str = "0x200") -> tuple[Series, ...]:
    """A step every six seconds and a checkpoint planned every 100 steps, which is 10 minutes."""
    return (
        BUSY,
        series("checkpoint_interval_steps", "100x200"),
        series("training_step", "0+10x200"),
        series("start_timestamp_seconds", "0x200"),
        series("resume_timestamp_seconds", resumed),
        series("last_update_timestamp_seconds", "0+60x200"),
        series("last_checkpoint_timestamp_seconds", saved),
    )


def gpu(metric: str, values: str, gpu_id: str = "0") -> Series:
    return series(f"gpu_{metric}", values, gpu_id=gpu_id)


def verdict(passed: str, **results: str) -> tuple[Series, ...]:
    return (
        operator("validation_passed", passed, **JOB),
        *(
            operator("validation_check_result", values, **JOB, check="training_loss", result=result)
            for result, values in results.items()
        ),
    )
