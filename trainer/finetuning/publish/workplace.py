"""The folder where card and merged model are made: by one publication at a time.

A second one would delete what the first is writing, or send files that change meanwhile.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from finetuning.artifacts import TERMINATION_LOG_ENV
from finetuning.base.folder_lock import locked
from finetuning.publish.errors import PublishError, UsageError

PATIENCE = 60.0
"""Seconds that a pod waits for the one before it, which has half as many to leave."""
POLL_SECONDS = 0.5


class InUseError(PublishError):
    """Another pod of the same job is still at work: worth another try."""


@contextmanager
def held(folder: Path, environ: Mapping[str, str]) -> Iterator[None]:
    """Make the folder where it is missing, and have it alone; a pod waits for that, nobody else.

    Raises:
        UsageError: it cannot be made, or another publication works there.
        InUseError: the same in a pod, after PATIENCE seconds.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"--work-path {folder}: {error.strerror}") from error
    try:
        if not locked(handle):
            _wait(handle, folder, in_pod=TERMINATION_LOG_ENV in environ)
        yield
    finally:
        os.close(handle)


def _wait(handle: int, folder: Path, *, in_pod: bool) -> None:
    text = f"--work-path {folder}: another publication is at work there; wait for its end"
    if not in_pod:
        raise UsageError(f"{text}, or give another folder")
    end = time.monotonic() + PATIENCE
    while not locked(handle):
        if time.monotonic() >= end:
            raise InUseError(text)
        time.sleep(POLL_SECONDS)
