"""The folder for what a run needs only while it lasts: emptyDirs, ConfigMaps, last words.

It lies outside the output folder, whose files are the result and are judged as such. Its name
follows from the output folder, so that the next run clears up after one that was killed.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from finetuning.local.problems import InputError


def folder_for(output: Path) -> Path:
    name = hashlib.sha256(str(output).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"finetuning-{os.getuid()}-{name}"


def make(folder: Path) -> None:
    """An empty folder that nobody else can read; raises InputError on one that is not ours."""
    try:
        if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.getuid()):
            raise InputError(f"{folder}: belongs to somebody else; remove it or set TMPDIR")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise InputError(
            f"{folder}: {error.strerror}; name a folder with room by the variable TMPDIR"
        ) from None


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
