"""The folder where card and merged model are made: by one publication at a time.

A second one would delete what the first is writing, or send files that change meanwhile.
"""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from finetuning.artifacts import MERGED_DIR, PUBLISHER_ENV, TERMINATION_LOG_ENV
from finetuning.artifacts.files import UnreadableFileError, read_json, write_json
from finetuning.base.folder_lock import locked
from finetuning.base.storage import space_for
from finetuning.publish.errors import PublishError, UsageError

PATIENCE = 60.0
"""Seconds that a pod waits for the one before it, which has half as many to leave."""
POLL_SECONDS = 0.5
MAKER = ".maker.json"
"""Who made what is there."""


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
        if publisher := environ.get(PUBLISHER_ENV):
            _keep_own(folder, publisher)
        yield
    finally:
        os.close(handle)


def _keep_own(folder: Path, publisher: str) -> None:
    """Forget a merged model that this Job did not make.

    The training could write here as well, after its own fashion: what another try of this Job has
    merged is known by a name that the training could not know.
    """
    made_by = {"publisher": publisher}
    try:
        if read_json(folder / MAKER) == made_by:
            return
    except UnreadableFileError:
        pass
    merged = folder / MERGED_DIR
    if merged.is_dir() and not merged.is_symlink():
        shutil.rmtree(merged)
    else:
        merged.unlink(missing_ok=True)
    with space_for("what is published", folder):
        write_json(folder / MAKER, made_by)


def _wait(handle: int, folder: Path, *, in_pod: bool) -> None:
    text = f"--work-path {folder}: another publication is at work there; wait for its end"
    if not in_pod:
        raise UsageError(f"{text}, or give another folder")
    end = time.monotonic() + PATIENCE
    while not locked(handle):
        if time.monotonic() >= end:
            raise InUseError(text)
        time.sleep(POLL_SECONDS)
