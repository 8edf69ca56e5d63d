"""One run at a time in an output folder."""

import fcntl
import os
from pathlib import Path

from finetuning.artifacts.files import UnreadableFileError, read_bounded
from finetuning.local.problems import InputError

LOCK = ".run.lock"


def hold(output: Path) -> int:
    """Lock the folder for as long as the file descriptor is open in any process.

    Raises:
        InputError: another run, or the last save of one that was just stopped, is using it.
    """
    handle = os.open(output / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(handle, 20).decode(errors="replace").strip()
        os.close(handle)
        raise InputError(f"{output}: {_who(owner)}") from None
    os.truncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    return handle


def is_held(output: Path) -> bool:
    """Whether the process that wrote itself into the lock is there.

    The lock itself is not tried: for a moment that would keep a run from starting.
    """
    try:
        owner = int(read_bounded(output / LOCK, 20))
        os.kill(owner, 0)
    except PermissionError:
        return True
    except (UnreadableFileError, ValueError, OverflowError, OSError):
        return False
    return owner > 0


def _who(owner: str) -> str:
    if owner.isdecimal() and not Path("/proc", owner).exists() and Path("/proc/self").exists():
        return (
            f"a `finetuning run` that was killed (process {owner}) left its trainer, which saves "
            "what it has and ends by itself: type the same command again in half a minute"
        )
    return (
        f"in use by another `finetuning run` (process {owner}); wait for its end, stop it with "
        "Ctrl-C, or choose another folder with --output DIR"
    )
