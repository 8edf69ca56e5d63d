"""Every metric of a training run, once: exporter, documentation, rules and dashboards follow it.

The first fourteen are the specification's: their names, labels and status codes never change.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Kind(StrEnum):
    """Prometheus metric types in use."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Group(StrEnum):
    """Headings under which the metrics are listed."""

    JOB_STATUS = "Job Status"
    PROGRESS = "Training Progress"
    PERFORMANCE = "Training Performance"
    RESOURCES = "Resource Utilization"
    CHECKPOINTS = "Checkpoint"
    HEALTH = "Health"


class JobStatus(IntEnum):
    """Values of finetuning_job_status; dashboards and alerts rely on the numbers."""

    PENDING = 0
    RUNNING = 1
    SUCCEEDED = 2
    FAILED = 3
    PAUSED = 4


@dataclass(frozen=True)
class Metric:
    """One metric family; `unit` is what a value of one means."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    unit: str
    help: str
    group: StrEnum
    buckets: tuple[float, ...] = ()


_RUN = ("job_name", "model_id")
_JOB = ("job_name", "model_id", "method")
_GPU = ("job_name", "gpu_id")
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_MIB, _GIB, _TIB = 2.0**20, 2.0**30, 2.0**40

JOB_STATUS = Metric(
    "finetuning_job_status",
    Kind.GAUGE,
    _JOB,
    "code",
    "Job status: 0 Pending, 1 Running, 2 Succeeded, 3 Failed, 4 Paused",
    Group.JOB_STATUS,
)
JOB_DURATION = Metric(
    "finetuning_job_duration_seconds",
    Kind.HISTOGRAM,
    _JOB,
    "seconds",
    "Wall clock of the training process from its start, loading included, observed once when it "
    "has succeeded or failed; each attempt of a job observes its own, a pause none",
    Group.JOB_STATUS,
    (
        *(n * _MINUTE for n in (1, 5, 15, 30)),
        *(n * _HOUR for n in (1, 2, 4, 8, 12)),
        *(n * _DAY for n in (1, 2, 3, 7)),
    ),
)
TRAINING_EPOCH = Metric(
    "finetuning_training_epoch",
    Kind.GAUGE,
    _RUN,
    "epochs",
    "Passes over the training data so far; 0.5 is the middle of the first",
    Group.PROGRESS,
)
TRAINING_STEP = Metric(
    "finetuning_training_step",
    Kind.GAUGE,
    _RUN,
    "steps",
    "Optimizer steps done; falls when a run resumes from a checkpoint",
    Group.PROGRESS,
)
TRAINING_PROGRESS = Metric(
    "finetuning_training_progress",
    Kind.GAUGE,
    _RUN,
    "percent",
    "Share of the planned steps done, 0 to 100; 100 only after the result is saved",
    Group.PROGRESS,
)
TRAIN_LOSS = Metric(
    "finetuning_train_loss",
    Kind.GAUGE,
    (*_RUN, "epoch"),
    "nats per token",
    "Training loss, the mean over the last `loggingSteps` steps told of; only the current epoch, "
    "counted from 1, is exposed",
    Group.PERFORMANCE,
)
LEARNING_RATE = Metric(
    "finetuning_learning_rate",
    Kind.GAUGE,
    _RUN,
    "1",
    "Learning rate of the last step reported",
    Group.PERFORMANCE,
)
SAMPLES_PER_SECOND = Metric(
    "finetuning_samples_per_second",
    Kind.GAUGE,
    _RUN,
    "samples per second",
    "Training throughput over the last logging interval",
    Group.PERFORMANCE,
)
TOKENS_PER_SECOND = Metric(
    "finetuning_tokens_per_second",
    Kind.GAUGE,
    _RUN,
    "tokens per second",
    "Token throughput over the last logging interval, padding not counted",
    Group.PERFORMANCE,
)
GPU_UTILIZATION = Metric(
    "finetuning_gpu_utilization_percent",
    Kind.GAUGE,
    _GPU,
    "percent",
    "GPU busy time, 0 to 100; gpu_id is the index inside the container",
    Group.RESOURCES,
)
GPU_MEMORY_USED = Metric(
    "finetuning_gpu_memory_used_bytes",
    Kind.GAUGE,
    _GPU,
    "bytes",
    "GPU memory in use on the device, by every process",
    Group.RESOURCES,
)
GPU_MEMORY_TOTAL = Metric(
    "finetuning_gpu_memory_total_bytes",
    Kind.GAUGE,
    _GPU,
    "bytes",
    "GPU memory of the device",
    Group.RESOURCES,
)
CHECKPOINTS_TOTAL = Metric(
    "finetuning_checkpoints_total",
    Kind.COUNTER,
    _RUN,
    "checkpoints",
    "Checkpoints saved, including those deleted again",
    Group.CHECKPOINTS,
)
CHECKPOINT_SIZE = Metric(
    "finetuning_checkpoint_size_bytes",
    Kind.HISTOGRAM,
    _RUN,
    "bytes",
    "Size of each checkpoint saved",
    Group.CHECKPOINTS,
    (
        *(n * _MIB for n in (1, 4, 16, 64, 256)),
        *(n * _GIB for n in (1, 4, 16, 64, 256)),
        _TIB,
    ),
)

SPECIFIED: tuple[Metric, ...] = (
    JOB_STATUS,
    JOB_DURATION,
    TRAINING_EPOCH,
    TRAINING_STEP,
    TRAINING_PROGRESS,
    TRAIN_LOSS,
    LEARNING_RATE,
    SAMPLES_PER_SECOND,
    TOKENS_PER_SECOND,
    GPU_UTILIZATION,
    GPU_MEMORY_USED,
    GPU_MEMORY_TOTAL,
    CHECKPOINTS_TOTAL,
    CHECKPOINT_SIZE,
)

TRAINING_INFO = Metric(
    "finetuning_training_info",
    Kind.GAUGE,
    (*_JOB, "precision"),
    "1",
    "Always 1; tells how the run computes",
    Group.JOB_STATUS,
)
TRAINING_STATE = Metric(
    "finetuning_training_state",
    Kind.GAUGE,
    (*_RUN, "state"),
    "1",
    "1 for what the trainer is doing, 0 for the other states",
    Group.JOB_STATUS,
)
TRAIN_STEPS_PLANNED = Metric(
    "finetuning_train_steps_planned",
    Kind.GAUGE,
    _RUN,
    "steps",
    "Optimizer steps that the run will do in all",
    Group.PROGRESS,
)
EPOCHS_PLANNED = Metric(
    "finetuning_epochs_planned",
    Kind.GAUGE,
    _RUN,
    "epochs",
    "Passes over the training data that the run will do in all",
    Group.PROGRESS,
)
START_TIMESTAMP = Metric(
    "finetuning_start_timestamp_seconds",
    Kind.GAUGE,
    _RUN,
    "Unix seconds",
    "When the training began; a resumed run counts the time it trained before, not the pause",
    Group.PROGRESS,
)
RESUME_TIMESTAMP = Metric(
    "finetuning_resume_timestamp_seconds",
    Kind.GAUGE,
    _RUN,
    "Unix seconds",
    "When this process took up training; later than the start where it resumed an earlier one's",
    Group.PROGRESS,
)
ESTIMATED_COMPLETION = Metric(
    "finetuning_estimated_completion_timestamp_seconds",
    Kind.GAUGE,
    _RUN,
    "Unix seconds",
    "When the run will be done at its present speed",
    Group.PROGRESS,
)
TOKENS_TOTAL = Metric(
    "finetuning_tokens_total",
    Kind.COUNTER,
    _RUN,
    "tokens",
    "Tokens trained on, padding not counted",
    Group.PERFORMANCE,
)
SAMPLES_TOTAL = Metric(
    "finetuning_samples_total",
    Kind.COUNTER,
    _RUN,
    "samples",
    "Rows of the data set trained on, repeats counted",
    Group.PERFORMANCE,
)
EVAL_LOSS = Metric(
    "finetuning_eval_loss",
    Kind.GAUGE,
    _RUN,
    "nats per token",
    "Loss on the held-out rows at the last evaluation; in the end that of the weights kept",
    Group.PERFORMANCE,
)
GRAD_NORM = Metric(
    "finetuning_grad_norm",
    Kind.GAUGE,
    _RUN,
    "1",
    "Norm of the gradient before clipping at the last step reported",
    Group.PERFORMANCE,
)
MFU = Metric(
    "finetuning_mfu_ratio",
    Kind.GAUGE,
    _RUN,
    "ratio",
    "Model FLOP utilisation: arithmetic of the model over the GPU's peak in this precision, 0 to 1",
    Group.PERFORMANCE,
)
NONFINITE_LOSS_TOTAL = Metric(
    "finetuning_nonfinite_loss_total",
    Kind.COUNTER,
    _RUN,
    "steps",
    "Steps whose loss was NaN or infinite",
    Group.HEALTH,
)
GPU_INFO = Metric(
    "finetuning_gpu_info",
    Kind.GAUGE,
    (*_GPU, "gpu_uuid", "gpu_name", "pci_address"),
    "1",
    "Always 1; tells which device a gpu_id is, to join with the GPU exporter's series",
    Group.RESOURCES,
)
GPU_PEAK_MEMORY = Metric(
    "finetuning_gpu_peak_memory_bytes",
    Kind.GAUGE,
    _GPU,
    "bytes",
    "Most GPU memory that the training process has held",
    Group.RESOURCES,
)
GPU_POWER = Metric(
    "finetuning_gpu_power_watts",
    Kind.GAUGE,
    _GPU,
    "watts",
    "Power drawn by the GPU's socket",
    Group.RESOURCES,
)
GPU_TEMPERATURE = Metric(
    "finetuning_gpu_temperature_celsius",
    Kind.GAUGE,
    _GPU,
    "degrees Celsius",
    "Temperature of the hottest spot of the GPU",
    Group.RESOURCES,
)
GPU_ENERGY_TOTAL = Metric(
    "finetuning_gpu_energy_joules_total",
    Kind.COUNTER,
    _GPU,
    "joules",
    "Energy that the GPU has used since its driver started, by every process",
    Group.RESOURCES,
)
LAST_CHECKPOINT_TIMESTAMP = Metric(
    "finetuning_last_checkpoint_timestamp_seconds",
    Kind.GAUGE,
    _RUN,
    "Unix seconds",
    "When the newest checkpoint was complete",
    Group.CHECKPOINTS,
)
CHECKPOINT_INTERVAL = Metric(
    "finetuning_checkpoint_interval_steps",
    Kind.GAUGE,
    _RUN,
    "steps",
    "Optimizer steps from one checkpoint to the next",
    Group.CHECKPOINTS,
)
LAST_UPDATE_TIMESTAMP = Metric(
    "finetuning_last_update_timestamp_seconds",
    Kind.GAUGE,
    _RUN,
    "Unix seconds",
    "When the trainer last reported; an old value while Running means that it hangs",
    Group.HEALTH,
)
STATE_PARSE_ERRORS_TOTAL = Metric(
    "finetuning_state_parse_errors_total",
    Kind.COUNTER,
    ("job_name",),
    "reads",
    "Reads of the trainer's files that failed; the last good values stay exposed",
    Group.HEALTH,
)
BUILD_INFO = Metric(
    "finetuning_build_info",
    Kind.GAUGE,
    ("version", "python_version"),
    "1",
    "Always 1; tells which version of the exporter runs",
    Group.HEALTH,
)

METRICS: tuple[Metric, ...] = (
    *SPECIFIED,
    TRAINING_INFO,
    TRAINING_STATE,
    TRAIN_STEPS_PLANNED,
    EPOCHS_PLANNED,
    START_TIMESTAMP,
    RESUME_TIMESTAMP,
    ESTIMATED_COMPLETION,
    TOKENS_TOTAL,
    SAMPLES_TOTAL,
    EVAL_LOSS,
    GRAD_NORM,
    MFU,
    NONFINITE_LOSS_TOTAL,
    GPU_INFO,
    GPU_PEAK_MEMORY,
    GPU_POWER,
    GPU_TEMPERATURE,
    GPU_ENERGY_TOTAL,
    LAST_CHECKPOINT_TIMESTAMP,
    CHECKPOINT_INTERVAL,
    LAST_UPDATE_TIMESTAMP,
    STATE_PARSE_ERRORS_TOTAL,
    BUILD_INFO,
)
