"""One job, or some side by side."""

from finetuning.observability.panels import (
    JOB_NAME,
    Dashboard,
    Look,
    Panel,
    Query,
    Row,
    Variable,
    lines,
    newest,
    number,
    present,
)

_BY_JOB = "max by (cluster, namespace, job_name)"
_STATUS = {
    0: ("Pending", "blue"),
    1: ("Running", "green"),
    2: ("Succeeded", "dark-green"),
    3: ("Failed", "red"),
    4: ("Paused", "orange"),
}


def _last(metric: str) -> str:
    """The newest value of each job, also of one that has ended."""
    return f"{_BY_JOB} ({newest(f'{metric}{{<job>}}', '<job>')})"


def _settings(matchers: str) -> str:
    """Of the trainer's info, whose precision is known once the model is loaded."""
    found = newest(f"finetuning_training_info{{{matchers}}}", "<job>")
    return f"max by (cluster, namespace, job_name, model_id, method, precision) ({found})"


def _now(
    title: str, unit: str, description: str, metrics: dict[str, str], *, width: int = 8
) -> Panel:
    """A line per job and metric; a word after the job's name tells the metrics apart."""
    queries = (
        Query(
            f"{_BY_JOB} ({present(f'{name}{{<job>}}', '<job>')})",
            f"{{{{namespace}}}}/{{{{job_name}}}}{word} {{{{cluster}}}}",
        )
        for name, word in metrics.items()
    )
    return Panel(title, unit, description, tuple(queries), width=width)


_AT_A_GLANCE = Row(
    "At a glance",
    (
        number(
            "Phase",
            "none",
            "What the operator says of the job.",
            "max by (cluster, namespace, job_name, phase)"
            " (finetuning_operator_job_phase{<job>} == 1)",
            "{{phase}}",
        ),
        number(
            "Progress",
            "percent",
            "Share of the planned steps done; 100 once the result is saved.",
            _last("finetuning_training_progress"),
            JOB_NAME,
        ),
        number(
            "Time left",
            "s",
            "At the present speed.",
            f"{_BY_JOB} (finetuning_estimated_completion_timestamp_seconds{{<job>}}) - time()",
            JOB_NAME,
        ),
        number(
            "Final loss",
            "short",
            "Training loss last told of in a training that has ended.",
            f"{_BY_JOB} (finetuning_operator_job_final_train_loss{{<job>}})",
            JOB_NAME,
        ),
        number(
            "Duration",
            "s",
            "From the start of the training to its end, or to now.",
            f"({_BY_JOB} (finetuning_operator_job_completed_timestamp_seconds{{<job>}})"
            f" or {_BY_JOB} (finetuning_operator_job_started_timestamp_seconds{{<job>}}) * 0"
            f" + time()) - {_BY_JOB} (finetuning_operator_job_started_timestamp_seconds{{<job>}})",
            JOB_NAME,
        ),
        number(
            "Validated",
            "none",
            "1 when the model passed its validation, 0 when not.",
            f"{_BY_JOB} (finetuning_operator_validation_passed{{<job>}})",
            JOB_NAME,
        ),
        Panel(
            "Status",
            "none",
            "Status as the sidecar tells it; a gap is a time without a pod.",
            (Query(f"{_BY_JOB} ({present('finetuning_job_status{<job>}', '<job>')})", JOB_NAME),),
            Look.STATES,
            12,
            _STATUS,
        ),
        Panel(
            "What the trainer does",
            "none",
            "Training, evaluating, saving: the loss stands still in the last two.",
            (
                Query(
                    "max by (cluster, namespace, job_name, state)"
                    f" ({present('finetuning_training_state{<job>}', '<job>')})",
                    f"{JOB_NAME} {{{{state}}}}",
                ),
            ),
            Look.STATES,
            12,
            {1: ("yes", "green"), 0: ("no", "transparent")},
        ),
        Panel(
            "Settings",
            "none",
            "What is trained and how.",
            (
                Query(
                    _settings('<job>,precision!=""')
                    + " or on (cluster, namespace, job_name) "
                    + _settings("<job>")
                ),
                Query(
                    "max by (cluster, namespace, job_name, gpus)"
                    " (finetuning_operator_job_info{<job>})"
                ),
            ),
            Look.TABLE,
            24,
            columns={"Value #A": "", "Value #B": ""},
        ),
    ),
)

_LEARNING = Row(
    "Learning",
    (
        _now(
            "Loss",
            "short",
            "Training loss of the last interval, and loss on held-out data.",
            {"finetuning_train_loss": " training", "finetuning_eval_loss": " held-out"},
            width=16,
        ),
        lines(
            "Perplexity on held-out data",
            "short",
            "Exponential of the held-out loss.",
            f"exp({_BY_JOB} (finetuning_eval_loss{{<job>}}))",
            JOB_NAME,
        ),
        _now("Learning rate", "sci", "Of the last step.", {"finetuning_learning_rate": ""}),
        _now(
            "Gradient norm",
            "short",
            "Before clipping; a jump tends to come before a jump of the loss.",
            {"finetuning_grad_norm": ""},
        ),
        lines(
            "Steps without a finite loss",
            "none",
            "Steps whose loss or gradient was NaN or infinite; the weights stay as they were.",
            _last("finetuning_nonfinite_loss_total"),
            JOB_NAME,
        ),
    ),
)

_SPEED = Row(
    "Speed",
    (
        _now(
            "Tokens per second",
            "short",
            "Over the last logging interval, padding not counted.",
            {"finetuning_tokens_per_second": ""},
        ),
        _now(
            "Samples per second",
            "short",
            "Rows of the data set over the last logging interval.",
            {"finetuning_samples_per_second": ""},
        ),
        _now(
            "Model FLOP utilization",
            "percentunit",
            "Arithmetic of the model over the peak of the GPU in this precision.",
            {"finetuning_mfu_ratio": ""},
        ),
        _now(
            "Steps",
            "none",
            "Optimizer steps done, and planned in all.",
            {"finetuning_training_step": " done", "finetuning_train_steps_planned": " planned"},
        ),
        _now(
            "Epochs",
            "short",
            "Passes over the data, and planned in all.",
            {"finetuning_training_epoch": " done", "finetuning_epochs_planned": " planned"},
        ),
        lines(
            "Seconds per step",
            "s",
            "From the steps counted within an interval, while it trains.",
            f"1 / ({_BY_JOB} (deriv(finetuning_training_step{{<job>}}[$__rate_interval])) > 0)"
            f" and on (cluster, namespace, job_name)"
            f' {_BY_JOB} (finetuning_training_state{{<job>,state="training"}}) == 1',
            JOB_NAME,
        ),
        number(
            "Tokens",
            "short",
            "Tokens trained on, padding not counted.",
            _last("finetuning_tokens_total"),
            JOB_NAME,
        ),
        number(
            "Samples",
            "short",
            "Rows trained on, repeats counted.",
            _last("finetuning_samples_total"),
            JOB_NAME,
        ),
        number(
            "Began",
            "dateTimeAsIso",
            "When the training began; the time that a pause took is left out.",
            f"1000 * {_last('finetuning_start_timestamp_seconds')}",
            JOB_NAME,
        ),
        number(
            "GPU hours",
            "h",
            "GPUs times hours of training.",
            f"{_BY_JOB} (finetuning_operator_job_gpu_seconds_total{{<job>}}) / 3600",
            JOB_NAME,
        ),
        number(
            "Energy used",
            "kwatth",
            "Energy that its GPUs used.",
            f"{_BY_JOB} (finetuning_operator_job_energy_joules_total{{<job>}}) / 3.6e6",
            JOB_NAME,
        ),
        number(
            "Restarts",
            "none",
            "Training pods that failed and were replaced.",
            f"{_BY_JOB} (finetuning_operator_job_restarts{{<job>}})",
            JOB_NAME,
        ),
    ),
)

_CHECKPOINTS = Row(
    "Checkpoints and health",
    (
        number(
            "Checkpoints",
            "none",
            "Saved, including those deleted again.",
            _last("finetuning_checkpoints_total"),
            JOB_NAME,
        ),
        number(
            "Interval",
            "none",
            "Steps from one checkpoint to the next.",
            _last("finetuning_checkpoint_interval_steps"),
            JOB_NAME,
        ),
        lines(
            "Age of the newest checkpoint",
            "s",
            "Work that would be lost by a crash.",
            f"time() - {_BY_JOB} (finetuning_last_checkpoint_timestamp_seconds{{<job>}})",
            JOB_NAME,
        ),
        lines(
            "Mean size of a checkpoint",
            "bytes",
            "Of all checkpoints of the run.",
            f"{_BY_JOB} (finetuning_checkpoint_size_bytes_sum{{<job>}}"
            " / (finetuning_checkpoint_size_bytes_count{<job>} > 0))",
            JOB_NAME,
        ),
        lines(
            "Silence of the trainer",
            "s",
            "Time since the trainer last reported; long while training means that it hangs.",
            f"time() - {_BY_JOB} (finetuning_last_update_timestamp_seconds{{<job>}})",
            JOB_NAME,
        ),
        number(
            "Taken up",
            "dateTimeAsIso",
            "When the present process took up training; later than the start after a resume.",
            f"1000 * {_last('finetuning_resume_timestamp_seconds')}",
            JOB_NAME,
        ),
    ),
)

BOARD = Dashboard(
    "finetuning-job",
    "Fine-tuning / Job",
    "One fine-tuning job from its first minute, also after its pods are gone.",
    (Variable.CLUSTER, Variable.NAMESPACE, Variable.JOB),
    (_AT_A_GLANCE, _LEARNING, _SPEED, _CHECKPOINTS),
    {
        "Phase": Query(
            "max by (cluster, namespace, job_name, phase)"
            " (finetuning_operator_job_phase{<job>}) == 1"
            " unless max by (cluster, namespace, job_name, phase)"
            " (finetuning_operator_job_phase{<job>} offset 1m) == 1"
        )
    },
)
