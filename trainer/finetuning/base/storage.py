"""Writing to the output volume: durable, readable by other users, plain about a full disk."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetuning.artifacts.files import sync_directory
from finetuning.base.errors import ConfigError, StorageFullError, VolumeTooSmallError

FILE_MODE = 0o644
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def space_for(what: str, folder: Path) -> Iterator[None]:
    """Turn the many ways of saying that the disk is full into one."""
    try:
        yield
    except Exception as error:
        if _is_full(error):
            free = shutil.disk_usage(folder).free
            raise StorageFullError(
                f"no space left in {folder} to write {what} ({megabytes(free)} free); checkpoints "
                "that were complete are intact: free some space or enlarge the volume, and start "
                "again"
            ) from error
        raise


def _is_full(error: BaseException) -> bool:
    """Libraries in Rust hand the system's error over as text only."""
    number = error.errno if isinstance(error, OSError) else None
    return number in FULL or any(f"(os error {code})" in str(error) for code in FULL)


def require_space(folder: Path, needed: int) -> None:
    """Refuse to compute what cannot be kept; `needed` in bytes.

    Raises:
        VolumeTooSmallError: the volume has less space than that.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise VolumeTooSmallError(
            f"--output-dir {folder}: no space left for a checkpoint, which takes about "
            f"{megabytes(needed)} where {megabytes(free)} are free; free some space, or give a "
            "folder on a larger volume"
        )


def megabytes(size: int) -> str:
    """Decimal, with digits behind the point where these matter."""
    digits = 3 if size < 1e6 else 1 if size < 1e7 else 0  # noqa: PLR2004
    return f"{size / 1e6:,.{digits}f} MB"


def finish_files(folder: Path) -> list[str]:
    """Make every file under `folder` durable and readable by others; their names in it."""
    names = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        path.chmod(FILE_MODE)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        names.append(path.relative_to(folder).as_posix())
    return names


def replace_folder(temporary: Path, final: Path) -> None:
    """Put a finished folder in place of another, or of none.

    What was there goes last: whenever this is cut short, a whole folder is left under some name.
    """
    old = final.with_name(f".tmp-old-{final.name}")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    temporary.rename(final)
    sync_directory(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def writable_folder(path: Path, flag: str) -> Path:
    """Make the folder if needed; raises TrainerError when nothing can be written there."""
    probe = path / f".writable-{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        if _is_full(error):
            raise StorageFullError(
                f"{flag} {path}: no space left; free some or enlarge the volume, and start again"
            ) from error
        raise ConfigError(
            f"{flag} {path}: {error.strerror}; give a folder that can be written to"
        ) from error
    return path
