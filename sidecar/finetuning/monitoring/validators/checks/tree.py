"""A folder with a model in it: which files there are, and what is in them, each read once."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from finetuning.artifacts import (
    ADAPTER_CONFIG,
    CHECKPOINT_PREFIX,
    CHECKPOINTS_DIR,
    PUBLISH_DIR,
    STATE_DIR,
    TRACKING_DIR,
    VALIDATION_DIR,
)
from finetuning.artifacts.files import UnreadableFileError, read_bounded
from finetuning.artifacts.manifest import Manifest, read_manifest, sha256_of
from finetuning.artifacts.trainer_state import OPTIMIZER
from finetuning.monitoring.validators.checks.weights import (
    Contents,
    Tensor,
    WeightFile,
    read_contents,
    read_header,
)

JSON_MAX_BYTES = 64 << 20
_MOST_PARTS, _MOST_VALUES = 1 << 21, 1 << 23
"""The largest tokenizers are of 35 MB, with 600 000 pairs of letters and 2 million values."""

_READERS = 4
"""More than a disk gives work to, and few enough for the memory of a small pod."""

_DEEPEST = 32
"""Folders in folders; what is written here has one or two."""

_NOT_SEALED = (
    CHECKPOINTS_DIR,
    PUBLISH_DIR,
    STATE_DIR,
    TRACKING_DIR,
    VALIDATION_DIR,
    "lost+found",
)
"""Folders beside the result: judged apart, still written to, or the file system's own."""


LEFTOVER = re.compile(r"^\.tmp-|^\..*\.tmp$")
"""How what the trainer has not finished is called."""


@dataclass(frozen=True)
class Json:
    """A JSON file: its value, or why there is none."""

    value: Any
    sha256: str
    problem: str = ""

    @property
    def fields(self) -> dict[str, Any]:
        """Empty for anything but an object."""
        return self.value if isinstance(self.value, dict) else {}


_NOTHING = Json(None, "")


@dataclass(frozen=True)
class Tree:
    """A folder with a model, and the files in it by their relative path.

    The properties are read when a rule first asks: nothing is opened before the rules about links
    and pipes have passed.
    """

    root: Path
    files: tuple[str, ...]
    is_checkpoint: bool
    is_base: bool = False
    """A base model is trusted, and may be one of the Hub's cache, which is made of links."""

    @property
    def label(self) -> str:
        return self.root.name if self.is_checkpoint else "result"

    def top_level(self, *suffixes: str) -> list[str]:
        return [name for name in self.files if name.endswith(suffixes) and "/" not in name]

    @cached_property
    def headers(self) -> dict[str, WeightFile]:
        """Headers of all weight files; raises UnreadableFileError at the first bad one."""
        return {name: read_header(self.root / name) for name in self.top_level(".safetensors")}

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The model's tensors by name, without the optimizer's."""
        files = (file for name, file in self.headers.items() if name != OPTIMIZER)
        return {tensor.name: tensor for file in files for tensor in file.tensors}

    @cached_property
    def documents(self) -> dict[str, Json]:
        return {name: self._document(name) for name in self.files if name.endswith(".json")}

    def _document(self, name: str) -> Json:
        path = self.root / name
        return _read_document(path.resolve() if self.is_base else path, name)

    def document(self, name: str) -> Json:
        return self.documents.get(name, _NOTHING)

    @cached_property
    def contents(self) -> dict[str, Contents]:
        """One pass over every weight file; several at once, since hashing needs no interpreter."""
        with ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1)) as readers:
            # Of one file there is nothing to divide.
            each = map if len(self.headers) == 1 else readers.map
            return dict(zip(self.headers, each(read_contents, self.headers.values()), strict=True))

    @cached_property
    def zero(self) -> frozenset[str]:
        """Names of the tensors that hold nothing but zeros."""
        return frozenset(name for seen in self.contents.values() for name in seen.zero)

    @cached_property
    def manifest(self) -> Manifest:
        """Raises UnreadableFileError."""
        return read_manifest(self.root)

    def sha256(self, name: str) -> str:
        """Of any file of the tree; raises OSError."""
        if name in self.contents:
            return self.contents[name].sha256
        return self.document(name).sha256 or sha256_of(self.root / name)

    @property
    def is_adapter(self) -> bool:
        return ADAPTER_CONFIG in self.files


def tree_of(root: Path, *, is_checkpoint: bool) -> Tree:
    skipped = () if is_checkpoint else _NOT_SEALED
    return Tree(root, tuple(sorted(_walk(root, root, skipped))), is_checkpoint)


def model_tree(root: Path) -> Tree:
    """A base model's own folder: only what lies at its top."""
    files = sorted(entry.name for entry in os.scandir(root) if entry.is_file())
    return Tree(root, tuple(files), is_checkpoint=False, is_base=True)


def no_file(tree: Tree) -> str | None:
    """What is wrong with the first name that is no regular file; reading a pipe would never end.

    Beside the result this looks into every folder that is not sealed as well.
    """
    beside = () if tree.is_checkpoint else _beside(tree.root)
    for name in (*tree.files, *beside):
        mode = (tree.root / name).lstat().st_mode
        if stat.S_ISDIR(mode):
            return f"{name} lies more than {_DEEPEST} folders deep"
        if not stat.S_ISREG(mode) and not _stays_beside(tree.root, name):
            return f"{name} is a link or a device; the file itself is needed"
    return None


def _beside(root: Path) -> Iterator[str]:
    for name in _NOT_SEALED:
        folder = root / name
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            yield name
        elif folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            yield from _walk(root, folder, ())


def _stays_beside(root: Path, name: str) -> bool:
    """A link beside the result that stays there, as to the newest run or checkpoint.

    Nothing is read by it: a checkpoint that is a link is judged where they are looked for.
    """
    path, first = root / name, Path(name).parts[0]
    folder = root / first
    if first not in _NOT_SEALED or path == folder or folder.is_symlink() or not path.is_symlink():
        return False
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # It leads to itself.
        return False


def step_of(folder: Path) -> int | None:
    """The step in a checkpoint's name; None for any other file."""
    digits = folder.name.removeprefix(CHECKPOINT_PREFIX)
    named = folder.name.startswith(CHECKPOINT_PREFIX) and digits.isdecimal()
    return int(digits) if named else None


def _walk(root: Path, folder: Path, skipped: tuple[str, ...]) -> Iterator[str]:
    """Files and links below `folder`, no link followed; a folder that lies too deep as a name.

    Without what is hidden, which systems and editors leave everywhere and no library reads.
    """
    waiting = [(folder, 0)]
    while waiting:
        here, depth = waiting.pop()
        for entry in os.scandir(here):
            hidden = entry.name.startswith(".") and not LEFTOVER.search(entry.name)
            if hidden or (depth == 0 and entry.name in skipped):
                continue
            if entry.is_dir(follow_symlinks=False) and depth < _DEEPEST:
                waiting.append((Path(entry.path), depth + 1))
            else:
                yield str(Path(entry.path).relative_to(root))


def _read_document(path: Path, name: str) -> Json:
    try:
        data = read_bounded(path, JSON_MAX_BYTES)
    except UnreadableFileError as error:
        return Json(None, "", str(error).replace(str(path), name))
    digest = hashlib.sha256(data).hexdigest()
    # A list takes 56 bytes of memory and two of the file: counted before any is made.
    if data.count(b"[") + data.count(b"{") > _MOST_PARTS or data.count(b",") > _MOST_VALUES:
        return Json(None, digest, f"{name}: holds more values than any real file of the kind")
    try:
        # Told bytes, Python would guess UTF-16 and 32, which no library reads.
        return Json(json.loads(data.decode()), digest)
    except (ValueError, RecursionError) as error:
        return Json(None, digest, f"{name}: not valid JSON ({error})")
