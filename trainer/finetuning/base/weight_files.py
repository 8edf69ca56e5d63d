"""What a broken download leaves of a model's weights, seen by the heads of its files alone."""

from pathlib import Path

from finetuning.artifacts.base_weights import weight_files
from finetuning.artifacts.files import UnreadableFileError, is_pointer
from finetuning.artifacts.tensor_header import read_header
from finetuning.base.errors import ModelError

_AGAIN = "download the model again"


def refuse_damaged(folder: Path) -> None:
    """Raises ModelError where a file that the model is loaded from is not there, or not whole."""
    try:
        files = weight_files(folder)
    except (UnreadableFileError, KeyError, TypeError, AttributeError) as error:
        text = f"{folder}: the index of its weights names no files ({error}); {_AGAIN}"
        raise ModelError(text) from error
    for path in files:
        if problem := _problem_of(path):
            raise ModelError(f"{folder}: {path.name} {problem}")


def _problem_of(path: Path) -> str:
    try:
        if is_pointer(path):
            return "is a Git LFS pointer and not the weights; run `git lfs pull` in the folder"
        size, told = path.stat().st_size, _told_size(path)
    except OSError as error:
        return f"cannot be read ({error.strerror}); {_AGAIN}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"is no safetensors file; {_AGAIN}"
    if size < told:
        return f"ends after {size} of its {told} bytes; {_AGAIN}"
    return ""


def _told_size(path: Path) -> int:
    """Bytes by its own head; raises ValueError, KeyError, TypeError and AttributeError."""
    with path.open("rb") as file:
        header, begin = read_header(file)
    header.pop("__metadata__", None)
    return begin + max((int(each["data_offsets"][1]) for each in header.values()), default=0)
