"""Reading what may be hostile, writing so that a crash leaves the old file or the new one."""

import json
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

_POINTERS = (b"version https://git-lfs", b"# xet version")


class UnreadableFileError(ValueError):
    """The file is missing, too large, not a regular file, or not what it should hold."""


def write_atomic(path: Path, data: bytes, mode: int = 0o644, *, durable: bool = True) -> None:
    """Write `data` to a temporary name beside `path`, fsync, rename; readable by other users.

    What need not survive a power cut, since it is written again in a moment, waits for no disk:
    readers see the old file or the new one all the same.

    Raises:
        OSError: no space left, no permission, no such folder.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Make what was appended to a file survive a power cut; one that is not there has nothing."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; raises ValueError on NaN and Infinity, which JSON has not."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def open_bounded(path: Path, max_bytes: int) -> BinaryIO:
    """Open a regular file of at most `max_bytes` without following a symbolic link.

    Raises:
        UnreadableFileError: anything else is found under that name.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnreadableFileError(f"{path}: {error.strerror}") from error
    # Before it becomes a file object: that refuses a folder by another error and leaks the handle.
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        os.close(handle)
        raise UnreadableFileError(f"{path}: not a regular file")
    if about.st_size > max_bytes:
        os.close(handle)
        raise UnreadableFileError(f"{path}: larger than {max_bytes} bytes")
    return os.fdopen(handle, "rb")


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`, as `open_bounded` opens it.

    Raises:
        UnreadableFileError: anything else is found under that name, or it grows beyond.
    """
    with open_bounded(path, max_bytes) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise UnreadableFileError(f"{path}: larger than {max_bytes} bytes")
    return data


def is_pointer(path: Path) -> bool:
    """Whether Git has left a note of where the file is in its place; raises OSError."""
    with path.open("rb") as file:
        return file.read(max(map(len, _POINTERS))).startswith(_POINTERS)


def read_json(path: Path, max_bytes: int = 1 << 20) -> Any:
    """Read bounded JSON in UTF-8; raises UnreadableFileError, also when it is too deep."""
    data = read_bounded(path, max_bytes)
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError(f"{path}: not valid JSON ({error})") from error
