"""Whether an exception is of the machine that checks, and says nothing about what is checked."""

import errno
import re
from collections.abc import Iterator

_NO_MEMORY = re.compile(r"(?i)can('t|not) allocate memory|out of memory")
_OF_A_DEVICE = re.compile(r"(HIP|CUDA) error|miopenStatus|No (HIP|CUDA) GPUs are available")
_OF_A_TOKEN = "device-side assert"  # noqa: S105 - not a password
"""What a kernel says of an index beyond its table: the model was asked for a token it has not."""

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust tell an errno."""

_OF_THE_FILES = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
)


def lacks_memory(error: BaseException) -> bool:
    """Whether memory, of the machine or of a GPU, did not suffice."""
    return any(
        isinstance(each, MemoryError)
        or "OutOfMemory" in type(each).__name__
        or errno.ENOMEM in _errnos(each)
        or _NO_MEMORY.search(str(each)) is not None
        for each in _chain(error)
    )


def is_its_fault(error: BaseException) -> bool:
    """Whether a device or the operating system failed, whatever the model's files hold."""
    return any(_device_failed(each) or _system_failed(each) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Libraries wrap what they catch."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _device_failed(error: BaseException) -> bool:
    told = type(error).__name__ == "AcceleratorError" or _OF_A_DEVICE.search(str(error)) is not None
    return told and _OF_A_TOKEN not in str(error)


def _system_failed(error: BaseException) -> bool:
    """A base model's Hub that does not answer is told as such."""
    if isinstance(error, ConnectionError | TimeoutError):
        return False
    return any(number not in _OF_THE_FILES for number in _errnos(error))


def _errnos(error: BaseException) -> list[int]:
    """Numbers below 0 are of name servers."""
    own = error.errno if isinstance(error, OSError) else None
    return [*([own] if own and own > 0 else []), *map(int, _OS_ERROR.findall(str(error)))]
