"""How a trainer or a validator ends: numbers and words, without a library."""

from enum import IntEnum, StrEnum


class TrainFailure(StrEnum):
    """Why a trainer gave up; the same words as the API's reasons."""

    DATASET_INVALID = "DatasetInvalid"
    MODEL_UNAVAILABLE = "ModelUnavailable"
    CONFIG_INVALID = "ConfigInvalid"
    LOSS_DIVERGED = "LossDiverged"
    STORAGE_FULL = "StorageFull"
    OUT_OF_MEMORY = "OutOfMemory"
    WORKER_LOST = "WorkerLost"
    TRAINING_FAILED = "TrainingFailed"


class ExitCode(IntEnum):
    """Exit codes of the trainer; the Job's podFailurePolicy goes by them."""

    OK = 0
    FAILED = 1
    """Worth another try: a crash, a full disk, a device error."""
    INVALID = 2
    """Trying again cannot help: wrong configuration, data or model."""
    INTERRUPTED = 143
    """SIGTERM or Ctrl-C: the state is saved, the same command continues."""


class ValidatorExit(IntEnum):
    """Exit codes of the validator; the Job's podFailurePolicy goes by them."""

    PASSED = 0
    NOT_PASSED = 1
    """The verdict stands: a required check failed, or broke off in a way that no try changes."""
    INVALID = 2
    """Nothing could be judged: a wrong path or setting."""
    TRY_AGAIN = 3
    """In a pod alone: no check failed, and what broke one off may be gone at the next try."""
