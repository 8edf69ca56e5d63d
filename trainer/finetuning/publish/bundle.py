"""What is published: the sealed files of a run and what is written about it, each by its digest."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from finetuning.api.v1alpha1 import ModelForm
from finetuning.artifacts import (
    ADAPTER_CONFIG,
    AIM_PROFILE,
    DATA_REPORT,
    MANIFEST,
    MERGED_DIR,
    MODEL_CARD,
    PUBLICATION,
    SIGNATURE,
    TRAINING_INFO,
    VALIDATION_DIR,
    VALIDATION_REPORT_JSON,
    VALIDATION_REPORT_TEXT,
)
from finetuning.artifacts.files import UnreadableFileError
from finetuning.artifacts.manifest import FileEntry, read_manifest, sha256_of
from finetuning.publish.errors import ModelChangedError, UsageError

Say = Callable[[str], None]
"""Tells whoever watches what is sent."""

_ABOUT = (TRAINING_INFO, AIM_PROFILE, DATA_REPORT)
_VERDICT = (VALIDATION_REPORT_TEXT, VALIDATION_REPORT_JSON)


@dataclass(frozen=True)
class Item:
    """A file of this machine and what it holds."""

    path: Path
    entry: FileEntry


@dataclass(frozen=True)
class Bundle:
    """Everything that a copy consists of, by the name that it gets there."""

    items: Mapping[str, Item]
    manifest_sha256: str

    @property
    def size(self) -> int:
        return sum(item.entry.size for item in self.items.values())


def is_adapter(run: Path) -> bool:
    """Whether the run's result is an adapter; raises UsageError when it has no result."""
    return ADAPTER_CONFIG in _sealed(run)


def manifest_digest(run: Path, expected: str | None = None) -> str:
    """The sha256 of the run's manifest.

    Raises:
        UsageError: there is no finished run in the folder.
        ModelChangedError: it is not the `expected` one.
    """
    _sealed(run)
    found = sha256_of(run / MANIFEST)
    if expected not in {None, found}:
        raise ModelChangedError(
            f"--model-path {run}: its {MANIFEST} has the sha256 {found}, and {expected} was asked "
            "for: the model changed after it was judged; judge it again"
        )
    return found


def gather(
    run: Path, work: Path, form: ModelForm, digest: str, extra: Mapping[str, Path]
) -> Bundle:
    """Read and check every file; raises ModelChangedError where one is not what was sealed.

    `extra` are files by the name that they get, which nothing seals but the copy.
    """
    names = {**extra, **dict(_names(run, work, form))}
    items = {name: item(path) for name, path in sorted(names.items())}
    folders = [""] if form is not ModelForm.BOTH else ["", f"{MERGED_DIR}/"]
    for folder in folders:
        _check(items, folder)
    if form is ModelForm.MERGED:
        _check_about(items, run)
    return Bundle(items, digest)


def _names(run: Path, work: Path, form: ModelForm) -> Iterator[tuple[str, Path]]:
    merged = work / MERGED_DIR
    if form is ModelForm.MERGED:
        yield from _folder(merged, "")
        yield from ((name, run / name) for name in _ABOUT if name in _sealed(run))
    else:
        yield from _folder(run, "")
    if form is ModelForm.BOTH:
        yield from _folder(merged, f"{MERGED_DIR}/")
    reports = ((name, run / VALIDATION_DIR / name) for name in _VERDICT)
    yield from ((name, path) for name, path in reports if path.is_file())
    yield MODEL_CARD, work / MODEL_CARD


def _folder(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    for name in (*_sealed(folder), MANIFEST):
        yield f"{prefix}{name}", folder / name


def _sealed(folder: Path) -> Mapping[str, FileEntry]:
    try:
        files = read_manifest(folder).files
    except UnreadableFileError as error:
        raise UsageError(
            f"--model-path {folder}: holds no finished run ({error}); give the output folder of "
            "one, with its manifest.json"
        ) from error
    taken = {PUBLICATION, MODEL_CARD, SIGNATURE, *_VERDICT} & set(files)
    if taken:
        raise UsageError(f"{folder / MANIFEST}: names {min(taken)}, which a publication writes")
    return files


def require_sealed(run: Path) -> None:
    """Raises ModelChangedError where a file of the run is not what was sealed, and so judged."""
    for name, sealed in _sealed(run).items():
        _require_same(item(run / name), sealed)


def item(path: Path) -> Item:
    """Its size and digest now; raises ModelChangedError where it is no file."""
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode):
            raise ModelChangedError(f"{path}: not a regular file; it was one when it was sealed")
        return Item(path, FileEntry(size=path.stat().st_size, sha256=sha256_of(path)))
    except OSError as error:
        raise ModelChangedError(f"{path}: {error.strerror}; it was there when sealed") from error


def _check(items: Mapping[str, Item], folder: str) -> None:
    sealed = _sealed(items[f"{folder}{MANIFEST}"].path.parent)
    for name, entry in sealed.items():
        _require_same(items[f"{folder}{name}"], entry)


def _check_about(items: Mapping[str, Item], run: Path) -> None:
    """Beside a merged model stand files of the run, which the run's own manifest seals."""
    for name in _ABOUT:
        if name in items:
            _require_same(items[name], _sealed(run)[name])


def _require_same(item: Item, sealed: FileEntry) -> None:
    if item.entry != sealed:
        raise ModelChangedError(
            f"{item.path}: is not what was sealed ({item.entry.size} bytes instead of "
            f"{sealed.size}, or other contents); restore it, or train and validate again"
        )
