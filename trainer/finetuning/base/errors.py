"""The failures of a run that the trainer can explain, each with its reason and its exit code."""

from finetuning.artifacts.exits import ExitCode, TrainFailure
from finetuning.artifacts.failures import TrainerError


class ConfigError(TrainerError):
    """A setting is wrong or does not fit the model, the device or the output folder."""

    reason = TrainFailure.CONFIG_INVALID
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


class FolderInUseError(TrainerError):
    """Another trainer still writes there: in a pod the one before, which may be gone at a retry."""


class WorkerLostError(TrainerError):
    """Another process of the run ended, or did not answer: it knows why, this one does not."""

    reason = TrainFailure.WORKER_LOST


class InterruptedRun(BaseException):
    """SIGTERM or Ctrl-C. No library's `except Exception` may swallow it."""
