"""Two trainers in one folder would delete each other's checkpoints: one holds a lock on it."""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from finetuning.artifacts import TERMINATION_LOG_ENV
from finetuning.base.errors import ConfigError, FolderInUseError
from finetuning.base.stop import Stop

PATIENCE = 150.0
"""Seconds that a pod waits for the trainer before it: longer than one has to save after SIGTERM,
and than a file server keeps the lock of a node that is gone."""
POLL_SECONDS = 1.0

log = logging.getLogger("finetuning")


def take(output: Path, environ: Mapping[str, str], *, launched: bool = False) -> int:
    """A handle that holds the lock until it is closed; a pod waits for it, nobody else does.

    Raises:
        ConfigError: another trainer writes there.
        FolderInUseError: the same in a pod, after PATIENCE seconds: worth another try.
        InterruptedRun: SIGTERM or Ctrl-C while it waited; nothing was begun.
    """
    handle = os.open(output, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.ExitStack() as failed:
        failed.callback(os.close, handle)
        if not locked(handle):
            _wait(handle, output, in_pod=TERMINATION_LOG_ENV in environ, launched=launched)
        failed.pop_all()
    return handle


def _wait(handle: int, output: Path, *, in_pod: bool, launched: bool) -> None:
    if not in_pod:
        raise ConfigError(
            f"--output-dir {output}: another trainer is writing there; wait for it, stop it, "
            "or give another folder"
        )
    log.warning("Another trainer is still writing to %s; waiting for its end.", output)
    stop, end = Stop(launched=launched), time.monotonic() + PATIENCE
    with stop.handling(), stop.interrupting():
        while not locked(handle):
            if time.monotonic() >= end:
                raise FolderInUseError(
                    f"--output-dir {output}: another trainer was still writing there after "
                    f"{PATIENCE:.0f} s; end that one, or give this one another folder"
                )
            time.sleep(POLL_SECONDS)


def locked(handle: int) -> bool:
    """Also where the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        log.debug("This file system has no locks: %s", error)
    return True
