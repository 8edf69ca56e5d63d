"""Histories of trainings, and what the alerts about what their pods tell say of them."""

from tests.unit.observability.histories import (
    BUSY,
    CHECKPOINT,
    DEADLINE,
    DIVERGING,
    DOWN,
    EVALUATING,
    FULL,
    IDLE,
    JOB,
    NOT_FINITE,
    NOT_TRAINING,
    OVERFIT,
    RUNNING,
    SPIKE,
    STALE,
    STALLED,
    STARTING,
    TRAINING,
    Case,
    checkpoints,
    gpu,
    operator,
    series,
)

TRAININGS = (
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
)  # fmt: skip
