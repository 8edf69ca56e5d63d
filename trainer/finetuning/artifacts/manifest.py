"""manifest.json: size and sha256 of every file of a folder, written last, so that it seals it."""

import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field

from finetuning.artifacts import MANIFEST
from finetuning.artifacts.files import UnreadableFileError, read_json, write_json

MANIFEST_MAX_BYTES = 4 << 20
_CHUNK = 1 << 20


class FileEntry(BaseModel):
    """What one file must be."""

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """The files of a folder by their path in it."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    schema_version: int = Field(default=1, alias="schemaVersion")
    files: dict[str, FileEntry]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        total = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def seal(folder: Path, names: Iterable[str]) -> Path:
    """Write the manifest over these files of `folder`; the caller has written all of them."""
    entries = {
        name: FileEntry(size=(folder / name).stat().st_size, sha256=sha256_of(folder / name))
        for name in sorted(names)
    }
    path = folder / MANIFEST
    write_json(path, Manifest(files=entries).model_dump(by_alias=True))
    return path


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest; raises UnreadableFileError when there is no valid one."""
    data = read_json(folder / MANIFEST, MANIFEST_MAX_BYTES)
    try:
        manifest = Manifest.model_validate(data)
    except ValueError as error:
        raise UnreadableFileError(f"{folder / MANIFEST}: not a manifest") from error
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UnreadableFileError(f"{folder / MANIFEST}: {name!r} leaves the folder")
    return manifest


def problem_with(folder: Path) -> str | None:
    """Why the folder is not what its manifest says, or None when it is complete and intact."""
    try:
        manifest = read_manifest(folder)
        for name, entry in manifest.files.items():
            if problem := _file_problem(folder / name, entry):
                return f"{name}: {problem}"
    except (OSError, UnreadableFileError) as error:
        return str(error)
    return None


def _file_problem(path: Path, entry: FileEntry) -> str | None:
    there = path.is_file() and not path.is_symlink()
    size = path.stat().st_size if there else None
    return size_problem(entry, size) or contents_problem(entry, sha256_of(path))


def size_problem(entry: FileEntry, size: int | None) -> str | None:
    """Why a file of this many bytes is not the one that was sealed; None bytes is no file."""
    if size is None:
        return "missing"
    return None if size == entry.size else f"has {size} bytes instead of {entry.size}"


def contents_problem(entry: FileEntry, sha256: str) -> str | None:
    return None if sha256 == entry.sha256 else "has other contents than were written"
