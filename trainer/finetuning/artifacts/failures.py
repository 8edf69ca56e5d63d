"""What every failure that can be explained has, and that of the data, which others read too."""

from finetuning.artifacts.models import ExitCode, TrainFailure


class TrainerError(Exception):
    """A failure with a remedy: its text is one line for people, without a traceback."""

    reason = TrainFailure.TRAINING_FAILED
    exit_code = ExitCode.FAILED


class DatasetError(TrainerError):
    """The data cannot be read or cannot be trained on."""

    reason = TrainFailure.DATASET_INVALID
    exit_code = ExitCode.INVALID


def first_line(error: BaseException, limit: int | None = 300) -> str:
    """What a library's error says first, for a sentence of ours; its kind if it says nothing."""
    return (str(error).strip() or type(error).__name__).split("\n", maxsplit=1)[0][:limit]
