"""What every failure that can be explained has, and that of the data, which others read too."""

from finetuning.artifacts.exits import ExitCode, TrainFailure


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
    first, *rest = (str(error).strip() or type(error).__name__).splitlines()
    # A line that ends so has what it is about below it.
    text = f"{first} {rest[0].strip()}" if first.endswith(":") and rest else first
    return text[:limit]
