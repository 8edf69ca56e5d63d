"""Every failure that the trainer can explain, each with its reason and its exit code."""

from finetuning.artifacts.models import ExitCode, TrainFailure


class TrainerError(Exception):
    """A failure with a remedy: its text is one line for people, without a traceback."""

    reason = TrainFailure.TRAINING_FAILED
    exit_code = ExitCode.FAILED


class ConfigError(TrainerError):
    """A setting is wrong or does not fit the model, the device or the output folder."""

    reason = TrainFailure.CONFIG_INVALID
    exit_code = ExitCode.INVALID


class DatasetError(TrainerError):
    """The data cannot be read or cannot be trained on."""

    reason = TrainFailure.DATASET_INVALID
    exit_code = ExitCode.INVALID


class ModelError(TrainerError):
    """The base model cannot be found, reached or loaded safely."""

    reason = TrainFailure.MODEL_UNAVAILABLE
    exit_code = ExitCode.INVALID


class DivergedError(TrainerError):
    """The loss left the numbers. The same seed and data do it again, so no retry helps."""

    reason = TrainFailure.LOSS_DIVERGED
    exit_code = ExitCode.INVALID


class StorageFullError(TrainerError):
    """No space left; what was complete before is still complete."""

    reason = TrainFailure.STORAGE_FULL


class VolumeTooSmallError(StorageFullError):
    """Not even the first checkpoint would fit; a retry finds the volume as small."""

    exit_code = ExitCode.INVALID


class DeviceMemoryError(TrainerError):
    """The GPU's memory is full; a restarted process begins with an unfragmented one."""

    reason = TrainFailure.OUT_OF_MEMORY


class WorkerLostError(TrainerError):
    """Another process of the run ended, or did not answer: it knows why, this one does not."""

    reason = TrainFailure.WORKER_LOST


def first_line(error: BaseException, limit: int | None = 300) -> str:
    """What a library's error says first, for a sentence of ours; its kind if it says nothing."""
    return (str(error).strip() or type(error).__name__).split("\n", maxsplit=1)[0][:limit]


class InterruptedRun(BaseException):
    """SIGTERM or Ctrl-C. No library's `except Exception` may swallow it."""
