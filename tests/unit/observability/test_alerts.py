"""promtool runs the chart's own rule file over made-up histories of jobs.

Every alert has histories in which it fires, with the words that a person then reads, and
histories that look alike in which it must not.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hack.cluster.shell import attempt

from finetuning.observability.alerts import ALERTS
from finetuning.observability.rules import rule_file, with_labels

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "charts" / "finetuning-operator" / "rules" / "finetuning.yaml"
JOB = {"namespace": "team", "job_name": "llama"}
OF = {alert.name: alert for alert in ALERTS}

pytestmark = pytest.mark.timeout(900)  # The first test may have to build promtool.

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


CASES = (
    Case(
        STALLED, "the step stands still",
        (TRAINING, series("training_step", "0+5x20 100x180")), 60,
        "team/llama has made no step for 15 minutes of training, or an hour before its first one.",
    ),
    Case(
        STALLED, "it never begins", (STARTING, series("training_step", "0x200")), 80,
        "team/llama has made no step for 15 minutes of training, or an hour before its first one.",
    ),
    Case(
        STALLED, "it hangs before it knows its step", (STARTING,), 80,
        "team/llama has made no step for 15 minutes of training, or an hour before its first one.",
    ),
    Case(STALLED, "its starts fail and are made anew", (
        series("training_state", "1x40 stale", state="starting"),
        series("training_state", "_x42 1x150", state="starting", pod="second")), 90),
    Case(STALLED, "a start of fifty minutes", (
        series("training_state", "1x50 0x150", state="starting"),
        series("training_state", "0x50 1x150", state="training"),
        series("training_step", "0x50 1+1x150")), 64),
    Case(STALLED, "a new run of that name begins", (
        series("training_state", "_x42 1x150", state="starting", pod="new"),
        series("training_step", "5x40 stale"), series("training_step", "_x42 0x150", pod="new"),
        ), 80),
    Case(
        STALLED, "another cluster has a job of that name", (
            series("training_state", "1x200", state="training", cluster="a"),
            series("training_step", "0+5x20 100x180", cluster="a"),
            series("training_state", "1x200", state="training", cluster="b", pod="b"),
            series("training_step", "1000+5x200", cluster="b", pod="b")), 60,
        "team/llama has made no step for 15 minutes of training, or an hour before its first one.",
        {**JOB, "cluster": "a"},
    ),
    Case(STALLED, "it advances", (TRAINING, series("training_step", "0+5x200")), 60),
    Case(STALLED, "a pause of ten minutes", (
        TRAINING, series("training_step", "0+5x20 100x10 105+5x100")), 34),
    Case(STALLED, "a long evaluation", (
        NOT_TRAINING, EVALUATING, series("training_step", "0+5x5 25x195")), 60),
    Case(STALLED, "it has just begun", (TRAINING, series("training_step", "0x200")), 20),
    Case(STALLED, "a resume lowers the step", (
        TRAINING, series("training_step", "100+1x20 60+1x100")), 45),
    Case(STALLED, "it has ended", (
        series("training_state", "1x20 stale", state="training"),
        series("training_step", "0+5x10 50x10 stale")), 60),
    Case(
        STALE, "no word for half an hour",
        (TRAINING, series("last_update_timestamp_seconds", "0+60x10 600x190")), 40,
        "team/llama is running, but its process has reported nothing for 30m 0s: it hangs, or what"
        " it does takes longer than that.",
    ),
    Case(
        STALE, "its start hangs",
        (BUSY, STARTING, series("last_update_timestamp_seconds", "0x200")), 90,
        "team/llama is running, but its process has reported nothing for 1h 30m 0s: it hangs, or"
        " what it does takes longer than that.",
    ),
    Case(
        STALE, "an evaluation hangs", (
            BUSY, NOT_TRAINING, EVALUATING,
            series("last_update_timestamp_seconds", "0+60x5 300x195")), 85,
        "team/llama is running, but its process has reported nothing for 1h 20m 0s: it hangs, or"
        " what it does takes longer than that.",
    ),
    Case(STALE, "it has ended", (
        series("job_status", "1x20 2x180", method="lora"),
        series("last_update_timestamp_seconds", "0+60x20 1200x180")), 120),
    Case(STALE, "it reports", (TRAINING, series("last_update_timestamp_seconds", "0+60x200")), 40),
    Case(STALE, "an evaluation takes half an hour", (
        BUSY, NOT_TRAINING, EVALUATING,
        series("last_update_timestamp_seconds", "0+60x5 300x195")), 35),
    Case(STALE, "a step of eight minutes", (
        TRAINING, series("last_update_timestamp_seconds", "0+60x10 600x7 1080+60x90")), 17),
    Case(
        DOWN, "running without a sidecar", (RUNNING,), 15,
        "The operator says that team/llama is running, but Prometheus gets nothing from its"
        " sidecar.",
    ),
    Case(DOWN, "the sidecar answers", (RUNNING, BUSY), 15),
    Case(DOWN, "just started", (RUNNING,), 8),
    Case(DOWN, "a job that has to pass waits to be validated", (
        RUNNING, operator("validation_phase", "_x5 1x195", **JOB, phase="Pending"),
        operator("validation_phase", "_x5 0x195", **JOB, phase="Running")), 25),
    Case(DOWN, "it has ended", (operator("job_phase", "0x200", **JOB, phase="Running"),), 15),
    Case(
        NOT_FINITE, "the loss is NaN",
        (series("train_loss", "0.5x10" + 20 * " NaN", epoch="1"),), 15,
        "team/llama had a loss or a gradient that was NaN or infinite in the last 15 minutes.",
    ),
    Case(
        NOT_FINITE, "one step was bad", (
            series("train_loss", "0.5x100", epoch="1"),
            series("nonfinite_loss_total", "0x10 1x90")), 15,
        "team/llama had a loss or a gradient that was NaN or infinite in the last 15 minutes.",
    ),
    Case(
        NOT_FINITE, "before the first scrape", (
            series("train_loss", "_x10 0.5x100", epoch="1"),
            series("start_timestamp_seconds", "_x10 590x100"),
            series("resume_timestamp_seconds", "_x10 590x100"),
            series("nonfinite_loss_total", "_x10 2x100")), 14,
        "team/llama had a loss or a gradient that was NaN or infinite in the last 15 minutes.",
    ),
    # The second pod knows nothing at first, then what its checkpoint says, then trains.
    *(
        Case(NOT_FINITE, f"before a resume, {when}", (
            series("nonfinite_loss_total", "0x10 2x20 stale"),
            series("training_state", "_x80 1x6 0x100", state="starting", pod="second"),
            series("start_timestamp_seconds", "_x86 3000x100", pod="second"),
            series("resume_timestamp_seconds", "_x86 5160x100", pod="second"),
            series("nonfinite_loss_total", "_x83 2x100", pod="second")), minute)
        for when, minute in (("while it loads", 84), ("once it trains", 88), ("later", 100))
    ),
    Case(
        NOT_FINITE, "a bad step soon after a resume", (
            series("nonfinite_loss_total", "0x10 2x20 stale"),
            series("start_timestamp_seconds", "_x86 3000x100", pod="second"),
            series("resume_timestamp_seconds", "_x86 5160x100", pod="second"),
            series("nonfinite_loss_total", "_x83 2x4 3x100", pod="second")), 90,
        "team/llama had a loss or a gradient that was NaN or infinite in the last 15 minutes.",
    ),
    Case(NOT_FINITE, "long ago", (
        series("train_loss", "0.5x100", epoch="1"),
        series("nonfinite_loss_total", "0x5 1x95")), 40),
    Case(NOT_FINITE, "no loss yet", (series("nonfinite_loss_total", "0x100"), BUSY), 15),
    Case(
        DIVERGING, "it doubles", (
            series("train_loss", "2-0.01x60 3x140", epoch="2"),
            series("training_progress", "10+0.1x200")), 100,
        "The loss of team/llama is 3 over the last 10 minutes, more than half above the least of"
        " the last two hours.",
    ),
    Case(
        DIVERGING, "a small loss doubles", (
            series("train_loss", "0.4x60 0.8x140", epoch="2"),
            series("training_progress", "10x200")), 100,
        "The loss of team/llama is 800m over the last 10 minutes, more than half above the least of"
        " the last two hours.",
    ),
    Case(DIVERGING, "it falls", (
        series("train_loss", "2-0.005x200", epoch="2"),
        series("training_progress", "10x200")), 100),
    Case(DIVERGING, "noise of a small loss", (
        series("train_loss", "0.02x60 0.08x140", epoch="2"),
        series("training_progress", "10x200")), 100),
    Case(DIVERGING, "single bad batches", (
        series("train_loss", "1x60 9 1x5 9 1x130", epoch="2"),
        series("training_progress", "10x200")), 100),
    Case(DIVERGING, "warming up", (
        series("train_loss", "2x60 4x140", epoch="1"), series("training_progress", "4x200")), 100),
    Case(DIVERGING, "another epoch", (
        series("train_loss", "2x80 stale", epoch="1"),
        series("train_loss", "_x81 1.9x120", epoch="2"),
        series("training_progress", "10x200")), 110),
    Case(DIVERGING, "after a finished run of that name", (
        series("train_loss", "2-0.03x60 stale", epoch="1"),
        series("training_progress", "1+1.6x60 stale"),
        series("train_loss", "_x70 2-0.005x200", epoch="1", pod="new"),
        series("training_progress", "_x70 6+0.5x200", pod="new")), 110),
    Case(DIVERGING, "for ten minutes", (
        series("train_loss", "2-0.01x60 3x140", epoch="2"),
        series("training_progress", "10+0.1x200")), 72),
    Case(
        SPIKE, "thirtyfold", (series("grad_norm", "1x50 30x50"),), 57,
        "The gradient norm of team/llama is 30, more than ten times its median of the last hour; a"
        " jump of the loss tends to follow.",
    ),
    Case(SPIKE, "now and then a small one", (
        series("grad_norm", 17 * "3 3 0.1 " + "4x50"),), 58),
    Case(SPIKE, "one step", (series("grad_norm", "1x50 30 1x50"),), 57),
    Case(SPIKE, "threefold", (series("grad_norm", "1x50 3x50"),), 57),
    Case(SPIKE, "after a finished run of that name", (
        series("grad_norm", "0.2x60 stale"), series("grad_norm", "_x70 4x100", pod="new")), 78),
    Case(SPIKE, "for two minutes", (series("grad_norm", "1x50 30x50"),), 53),
    Case(
        OVERFIT, "held-out loss rises", (
            series("eval_loss", "2-0.01x100 1+0.01x100"),
            series("train_loss", "2-0.005x200", epoch="1")), 190,
        "The loss of team/llama on held-out data is 1.89, more than a tenth above its best, while"
        " the training loss still falls.",
    ),
    Case(OVERFIT, "both fall", (
        series("eval_loss", "2-0.005x200"), series("train_loss", "2-0.005x200", epoch="1")), 190),
    Case(OVERFIT, "both rise", (
        series("eval_loss", "1+0.01x200"), series("train_loss", "1+0.005x200", epoch="1")), 190),
    Case(OVERFIT, "after a finished run of that name", (
        series("eval_loss", "2-0.03x60 stale"), series("train_loss", "2-0.03x60 stale", epoch="1"),
        series("eval_loss", "_x70 2-0.005x200", pod="new"),
        series("train_loss", "_x70 2-0.005x200", epoch="1", pod="new")), 190),
    Case(OVERFIT, "for a quarter of an hour", (
        series("eval_loss", "2-0.01x100 1+0.01x100"),
        series("train_loss", "2-0.005x200", epoch="1")), 128),
    Case(
        CHECKPOINT, "none since the second", checkpoints("_x10 600x10 1200x180"), 50,
        "What team/llama did in the last 30m 0s is in no checkpoint; that is more than twice the"
        " planned interval at the run's average speed.",
    ),
    Case(
        CHECKPOINT, "none ever", checkpoints("_x200"), 30,
        "What team/llama did in the last 30m 0s is in no checkpoint; that is more than twice the"
        " planned interval at the run's average speed.",
    ),
    Case(CHECKPOINT, "late by two minutes", checkpoints("_x200"), 23),
    Case(CHECKPOINT, "a long evaluation, and a save after it", (
        *(each for each in checkpoints("0x10 600x10 1200x10 1800x35 4140x130")
          if "training_step" not in each[0]),
        series("training_step", "0+10x40 400x26 410+10x130"),
        series("training_state", "0x40 1x24 0x140", state="evaluating")), 67),
    Case(CHECKPOINT, "as planned", checkpoints("_x10 600x10 1200x10 1800x10 2400x10 3000x10"), 55),
    Case(CHECKPOINT, "resumed after a long stop", checkpoints("60x200", "2400x200"), 50),
    Case(CHECKPOINT, "paused", (*checkpoints("600x200")[1:], series(
        "job_status", "4x200", method="lora")), 100),
    Case(
        DEADLINE, "an hour late", (
            series("estimated_completion_timestamp_seconds", "9000x200"),
            operator("job_deadline_timestamp_seconds", "5400x200", **JOB)), 30,
        "At its present speed team/llama ends 1h 0m 0s after its deadline, at which it will be"
        " stopped.",
    ),
    Case(DEADLINE, "since ten minutes", (
        series("estimated_completion_timestamp_seconds", "9000x200"),
        operator("job_deadline_timestamp_seconds", "5400x200", **JOB)), 10),
    Case(DEADLINE, "in time", (
        series("estimated_completion_timestamp_seconds", "5000x200"),
        operator("job_deadline_timestamp_seconds", "5400x200", **JOB)), 30),
    Case(DEADLINE, "no deadline", (
        series("estimated_completion_timestamp_seconds", "9000x200"),), 30),
    Case(
        IDLE, "idle while it trains", (
            gpu("utilization_percent", "10x200"), gpu("utilization_percent", "20x200", "1"),
            series("training_step", "0+5x200")), 60,
        "The GPUs of team/llama were busy 15 % of the last 15 minutes, while the training went on.",
    ),
    Case(IDLE, "for twenty minutes", (
        gpu("utilization_percent", "95x30 10x200"), series("training_step", "0+5x200")), 60),
    Case(IDLE, "a pause of five minutes now and then", (
        gpu("utilization_percent", " ".join(10 * ["95x9", "0x4"])),
        series("training_step", "0+5x200")), 70),
    Case(IDLE, "busy", (
        gpu("utilization_percent", "95x200"), series("training_step", "0+5x200")), 60),
    Case(IDLE, "not training", (
        gpu("utilization_percent", "0x200"), series("training_step", "100x200")), 60),
    Case(
        FULL, "one of two", (
            gpu("memory_used_bytes", "98x200", "1"), gpu("memory_total_bytes", "100x200", "1"),
            gpu("memory_used_bytes", "50x200"), gpu("memory_total_bytes", "100x200")), 20,
        "The memory of GPU 1 of team/llama is 98% used; a longer batch may end the run.",
        {**JOB, "gpu_id": "1"},
    ),
    Case(FULL, "short peak", (
        gpu("memory_used_bytes", "50x10 98x5 50x100"), gpu("memory_total_bytes", "100x200")), 20),
    Case(FULL, "for five minutes", (
        gpu("memory_used_bytes", "98x200"), gpu("memory_total_bytes", "100x200")), 5),
    Case(FULL, "total unknown", (gpu("memory_used_bytes", "98x200"),), 20),
    Case(
        QUEUED, "for an hour", (operator("job_phase", "1x200", **JOB, phase="Pending"),), 65,
        "team/llama has been pending for more than an hour.",
    ),
    Case(QUEUED, "resumed a minute ago", (
        operator("job_phase", "0x60 1x140", **JOB, phase="Pending"),
        operator("job_created_timestamp_seconds", "0x200", **JOB)), 65),
    Case(
        FAILURE, "fifty minutes ago", (FAILED, ENDED_AT_30), 80,
        "team/llama failed within the last hour; its status has the reason.",
    ),
    Case(FAILURE, "two hours ago", (FAILED, ENDED_AT_30), 155),
    Case(FAILURE, "succeeded", (
        operator("job_phase", "0x200", **JOB, phase="Failed"), SUCCEEDED, ENDED_AT_10), 20),
    Case(
        FAILURE, "the operator was replaced", (
            operator("job_phase", "1x40 stale", **JOB, phase="Failed"),
            operator("job_phase", "_x38 1x100", **JOB, phase="Failed", pod="operator-2"),
            operator("job_completed_timestamp_seconds", "1800x40 stale", **JOB),
            operator("job_completed_timestamp_seconds", "_x38 1800x90", **JOB, pod="operator-2"),
        ), 39,
        "team/llama failed within the last hour; its status has the reason.",
    ),
    Case(
        RESTARTED, "a trainer was killed", (operator("job_restarts", "0x30 1x60", **JOB),), 35,
        "A trainer of team/llama was killed or failed in the last 15 minutes; another one goes on"
        " from the newest checkpoint.",
    ),
    Case(
        RESTARTED, "killed while the operator was replaced", (
            operator("job_restarts", "1x30 stale", **JOB),
            operator("job_restarts", "_x33 2x60", **JOB, pod="operator-2")), 35,
        "A trainer of team/llama was killed or failed in the last 15 minutes; another one goes on"
        " from the newest checkpoint.",
    ),
    Case(RESTARTED, "an hour ago", (operator("job_restarts", "0x30 1x90", **JOB),), 90),
    Case(RESTARTED, "for the third time within an hour", (
        operator("job_restarts", "0x30 1x5 2x5 3x60", **JOB),), 50),
    Case(RESTARTED, "the operator was replaced", (
        operator("job_restarts", "1x30 stale", **JOB),
        operator("job_restarts", "_x33 1x60", **JOB, pod="operator-2")), 35),
    Case(RESTARTED, "it trains", (operator("job_restarts", "0x90", **JOB),), 35),
    Case(
        RESTARTING, "three times", (operator("job_restarts", "0x30 1x5 2x5 3x60", **JOB),), 50,
        "The training of team/llama was started anew 3 times within an hour.",
    ),
    Case(RESTARTING, "twice", (operator("job_restarts", "0x30 1x5 2x60", **JOB),), 50),
    Case(RESTARTING, "over days", (operator("job_restarts", "3x200", **JOB),), 50),
    Case(
        BAD_MODEL, "a check failed", (
            *verdict("0x50", Fail="1x50", Error="0x50"), ENDED_HALF_A_DAY_BEFORE), 20,
        "At least one check of team/llama says that the trained model is not good enough.",
    ),
    Case(BAD_MODEL, "all passed", (*verdict("1x200", Fail="0x200"), ENDED_AT_10), 20),
    Case(BAD_MODEL, "an optional check failed", (
        *verdict("1x200", Fail="1x200"), ENDED_AT_10), 20),
    Case(BAD_MODEL, "the validator broke", (
        *verdict("0x200", Fail="0x200", Error="1x200"), ENDED_AT_10), 20),
    Case(
        BAD_MODEL, "judged again a week later", (
            *verdict("1x30 0x170", Fail="0x30 1x170"),
            operator("job_completed_timestamp_seconds", "-604800x200", **JOB)), 60,
        "At least one check of team/llama says that the trained model is not good enough.",
    ),
    Case(
        BAD_MODEL, "found bad again a week later", (
            *verdict("0x200", Fail="1x200"),
            operator("validation_phase", "0x20 1x10 0x170", **JOB, phase="Running"),
            operator("job_completed_timestamp_seconds", "-604800x200", **JOB)), 60,
        "At least one check of team/llama says that the trained model is not good enough.",
    ),
    Case(BAD_MODEL, "days ago", (*verdict("0x50", Fail="1x50"), ENDED_A_DAY_BEFORE), 20),
    Case(
        NO_VERDICT, "a check could not be made", (
            *verdict("0x200", Fail="0x200", Error="1x200"), ENDED_AT_10), 20,
        "The validation of team/llama ended without a verdict: no check failed, but not all could"
        " be made.",
    ),
    Case(
        NO_VERDICT, "the validator left no word", (*verdict("0x50"), ENDED_HALF_A_DAY_BEFORE), 20,
        "The validation of team/llama ended without a verdict: no check failed, but not all could"
        " be made.",
    ),
    Case(NO_VERDICT, "a check failed", (
        *verdict("0x200", Fail="1x200", Error="1x200"), ENDED_AT_10), 20),
    Case(
        NO_VERDICT, "judged again a week later", (
            *verdict("1x30 0x170", Error="0x30 1x170"),
            operator("job_completed_timestamp_seconds", "-604800x200", **JOB)), 60,
        "The validation of team/llama ended without a verdict: no check failed, but not all could"
        " be made.",
    ),
    Case(NO_VERDICT, "days ago", (*verdict("0x50", Error="1x50"), ENDED_A_DAY_BEFORE), 20),
    Case(
        STUCK, "pending for an hour", (
            SUCCEEDED, operator("validation_phase", "1x200", **JOB, phase="Pending"),
            operator("validation_phase", "0x200", **JOB, phase="Running")), 80,
        "team/llama was trained more than an hour ago, and its validation has no verdict yet.",
    ),
    Case(
        STUCK, "first pending, then running", (
            SUCCEEDED, operator("validation_phase", "1x40 0x160", **JOB, phase="Pending"),
            operator("validation_phase", "0x40 1x160", **JOB, phase="Running")), 80,
        "team/llama was trained more than an hour ago, and its validation has no verdict yet.",
    ),
    Case(STUCK, "for half an hour", (
        SUCCEEDED, operator("validation_phase", "1x200", **JOB, phase="Running")), 40),
    Case(STUCK, "still training", (RUNNING,), 80),
    Case(
        STUCK, "a job that has to pass waits for a GPU to validate on", (
            RUNNING, operator("validation_phase", "1x200", **JOB, phase="Pending")), 80,
        "team/llama was trained more than an hour ago, and its validation has no verdict yet.",
    ),
    Case(STUCK, "has a verdict", (
        SUCCEEDED, operator("validation_phase", "1x30 0x170", **JOB, phase="Running")), 80),
    Case(STUCK, "turned off", (SUCCEEDED,), 80),
    Case(
        UNMONITORED, "forbidden", (
            operator("monitor_errors_total", "0+1x60", reason="Forbidden"),), 30,
        "The operator could not make the monitoring objects of a job (Forbidden); training goes on"
        " without them.",
        {"reason": "Forbidden"},
    ),
    Case(UNMONITORED, "for ten minutes", (
        operator("monitor_errors_total", "0+1x60", reason="Forbidden"),), 10),
    Case(UNMONITORED, "one error, mended", (
        operator("monitor_errors_total", "0x5 1x60", reason="Forbidden"),), 30),
    Case(
        NO_OPERATOR, "gone", (operator("build_info", "1x5 stale", version="1"),), 20,
        "Prometheus gets nothing from the operator: new jobs do not start, and the status of"
        " running ones stands still. Training itself goes on.",
        {},
    ),
    Case(
        NO_OPERATOR, "that of one of two releases", (
            operator("build_info", "1x20 stale", version="1", namespace="a"),
            operator("build_info", "1x200", version="1", namespace="b", pod="b")), 60,
        "Prometheus gets nothing from the operator: new jobs do not start, and the status of"
        " running ones stands still. Training itself goes on.",
        {"namespace": "a"},
    ),
    Case(NO_OPERATOR, "for five minutes", (
        operator("build_info", "1x5 stale", version="1"),), 11),
    Case(NO_OPERATOR, "an upgrade", (
        operator("build_info", "1x5 stale", version="1"),
        operator("build_info", "_x10 1x60", version="2", pod="operator-2")), 20),
    Case(
        NO_LEADER, "nobody gets the lease", (
            operator("leader", "1x5 0x60"), operator("leader", "0x65", pod="operator-2")), 20,
        "Operators run, but none of them holds the lease that lets it work: new jobs do not"
        " start, and the status of running ones stands still.",
        {},
    ),
    Case(
        NO_LEADER, "in one of two releases", (
            operator("leader", "0x60", namespace="a"),
            operator("leader", "1x60", namespace="b", pod="b")), 20,
        "Operators run, but none of them holds the lease that lets it work: new jobs do not"
        " start, and the status of running ones stands still.",
        {"namespace": "a"},
    ),
    Case(NO_LEADER, "one stands by", (
        operator("leader", "1x60"), operator("leader", "0x60", pod="operator-2")), 30),
    Case(NO_LEADER, "a take-over", (
        operator("leader", "1x5 stale"),
        operator("leader", "0x8 1x60", pod="operator-2")), 12),
    Case(
        ERRORS, "every fourth look", (
            operator("reconcile_total", "0+3x60", outcome="ok"),
            operator("reconcile_total", "0+1x60", outcome="retry"),
            operator("reconcile_total", "0x60", outcome="error")), 30,
        "25% of the operator's looks at jobs failed in the last 10 minutes.",
        {},
    ),
    Case(
        ERRORS, "every look of one of two releases", (
            operator("reconcile_total", "0+1x60", outcome="retry", namespace="a"),
            operator("reconcile_total", "0+90x60", outcome="ok", namespace="b")), 30,
        "100% of the operator's looks at jobs failed in the last 10 minutes.",
        {"namespace": "a"},
    ),
    Case(ERRORS, "every twentieth look", (
        operator("reconcile_total", "0+19x60", outcome="ok"),
        operator("reconcile_total", "0+1x60", outcome="retry")), 30),
    Case(ERRORS, "for five minutes", (
        operator("reconcile_total", "0+3x60", outcome="ok"),
        operator("reconcile_total", "0+1x60", outcome="retry")), 6),
    Case(ERRORS, "all well", (
        operator("reconcile_total", "0+3x60", outcome="ok"),
        operator("reconcile_total", "0x60", outcome="error")), 30),
    Case(ERRORS, "nothing to do", (operator("reconcile_total", "5x60", outcome="ok"),), 30),
)  # fmt: skip


def expected(case: Case) -> list[dict[str, Any]]:
    """What promtool must find; the words but for the description follow from the labels."""
    if not case.says:
        return []
    alert = OF[case.alert]
    summary = with_labels(alert.summary)
    for name, value in case.labels.items():
        summary = summary.replace(f"{{{{ $labels.{name} }}}}", value)
    annotations = {"summary": summary, "runbook_url": alert.runbook_url, "description": case.says}
    labels = {"severity": alert.severity.value, **case.labels}
    return [{"exp_labels": labels, "exp_annotations": annotations}]


def as_test(case: Case) -> dict[str, Any]:
    at = f"{case.minute}m"
    return {
        "name": case.name,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series],
        "alert_rule_test": [
            {"eval_time": at, "alertname": case.alert, "exp_alerts": expected(case)}
        ],
    }


def rules_of(alert: str) -> dict[str, Any]:
    """The chart's own file without the other alerts: promtool reckons all that it is given."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    for group in groups:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert", alert) == alert]
    return {"groups": groups}


@pytest.fixture
def promtool_says(promtool: Path, tmp_path: Path) -> Callable[[list[Case]], str]:
    """What promtool finds wrong with the histories of one alert; empty when all is as expected."""

    def run(cases: list[Case]) -> str:
        (alert,) = {case.alert for case in cases}
        (tmp_path / "rules.yaml").write_text(json.dumps(rules_of(alert)))
        groups = [group["name"] for group in rule_file()["groups"]]
        words: dict[str, Any] = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m"}
        words |= {"tests": [as_test(case) for case in cases], "group_eval_order": groups}
        file = tmp_path / "rules.test.yaml"
        file.write_text(json.dumps(words))
        done = attempt(promtool, "test", "rules", file)
        return done.stdout + done.stderr if done.returncode else ""

    return run


@pytest.mark.parametrize("alert", OF)
def test_every_alert_fires_when_it_should_and_only_then(
    alert: str, promtool_says: Callable[[list[Case]], str]
) -> None:
    assert promtool_says([case for case in CASES if case.alert == alert]) == ""


def test_a_history_with_another_end_is_told(promtool_says: Callable[[list[Case]], str]) -> None:
    """The test above could not fail if promtool skipped what it does not understand."""
    silent = Case(DOWN, "running without a sidecar", (RUNNING,), 15)
    assert "FineTuningSidecarDown" in promtool_says([silent])


def test_every_alert_has_a_history_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert {case.alert for case in CASES if case.says} == set(OF)
    assert {case.alert for case in CASES if not case.says} == set(OF)
    assert len({case.name for case in CASES}) == len(CASES)


def test_promtool_finds_nothing_to_complain_of(promtool: Path) -> None:
    done = attempt(promtool, "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(yaml.safe_load(RULES.read_text())["groups"]) == len(rule_file()["groups"])
