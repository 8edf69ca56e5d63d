"""Encoded examples of data sets that do not fit into memory: in one file, read when needed.

In memory stay about 40 bytes an example: where it lies in the file, and how long it is.
"""

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from finetuning.base.storage import space_for
from finetuning.dataset.encode import Example, Pack

Numbers = npt.NDArray[np.int64]

TRAINED = np.int32(np.iinfo(np.int32).min)
"""The sign bit of a token in the file: whether it is trained. Ids are never negative."""

WORD = 4
BUFFER = 1 << 20


class ExampleFile:
    """Examples are appended row by row; then any of them can be read, by any thread.

    The file has no name, so that nothing is left when the process ends, however it ends.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.gettempdir())
        with space_for("the encoded rows (TMPDIR)", self._folder):
            handle, name = tempfile.mkstemp(prefix="finetuning-tokens-")
            Path(name).unlink()
        self._handle = handle
        weakref.finalize(self, os.close, handle)
        self._pending: list[bytes] = []
        self._waiting = 0
        self._starts = array("q", [0])
        self._targets = array("i")
        self._row_ends = array("q", [0])

    def append(self, row: Iterable[Example]) -> None:
        """The examples of one more row; raises StorageFullError."""
        for example in row:
            words = np.where(example.trained, example.ids | TRAINED, example.ids)
            self._pending.append(words.astype(np.int32, copy=False).tobytes())
            self._waiting += len(self._pending[-1])
            self._starts.append(self._starts[-1] + len(example.ids))
            self._targets.append(example.targets)
        self._row_ends.append(len(self._targets))
        if self._waiting >= BUFFER:
            self._flush()

    def finished(self) -> "StoredPacks":
        """All rows; raises StorageFullError."""
        self._flush()
        numbers = np.arange(len(self._targets), dtype=np.int64)
        return StoredPacks(self, numbers, np.array(self._row_ends, dtype=np.int64))

    def example(self, number: int) -> Example:
        start, end = self._starts[number], self._starts[number + 1]
        words = np.frombuffer(_read(self._handle, WORD * start, WORD * end), dtype=np.int32)
        return Example(words & ~TRAINED, words < 0)

    def sizes(self, numbers: Numbers) -> Numbers:
        """Tokens of each."""
        starts = np.frombuffer(self._starts, dtype=np.int64)
        return starts[numbers + 1] - starts[numbers]

    def targets(self, numbers: Numbers) -> int:
        """Trained tokens of all of them together."""
        return int(np.frombuffer(self._targets, dtype=np.int32)[numbers].sum(dtype=np.int64))

    def _flush(self) -> None:
        with space_for("the encoded rows (TMPDIR)", self._folder):
            _write(self._handle, b"".join(self._pending))
        self._pending, self._waiting = [], 0


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _read(handle: int, start: int, end: int) -> bytes:
    data = os.pread(handle, end - start, start)
    while len(data) < end - start:
        more = os.pread(handle, end - start - len(data), start + len(data))
        if not more:
            raise OSError("the file of encoded rows was cut off")
        data += more
    return data


@dataclass(frozen=True)
class StoredPacks(Sequence[Pack]):
    """Groups of examples: pack i has the `members` from `ends[i]` up to `ends[i + 1]`."""

    file: ExampleFile
    members: Numbers
    ends: Numbers

    @override
    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, at: int) -> Pack: ...
    @overload
    def __getitem__(self, at: slice) -> list[Pack]: ...
    @override
    def __getitem__(self, at: int | slice) -> Pack | list[Pack]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        at %= len(self)
        numbers = self.members[self.ends[at] : self.ends[at + 1]]
        return [self.file.example(int(number)) for number in numbers]

    def chosen(self, packs: Sequence[int] | Numbers) -> Self:
        """These packs alone, in this order."""
        numbers = np.asarray(packs, dtype=np.int64)
        counts = np.diff(self.ends)[numbers]
        ends = np.concatenate([[0], counts.cumsum()])
        # Of each member: where its pack begins, and its place within.
        within = np.arange(ends[-1]) - np.repeat(ends[:-1], counts)
        members = self.members[np.repeat(self.ends[numbers], counts) + within]
        return type(self)(self.file, members, ends)

    def singles(self) -> Self:
        """Each example in a pack of its own."""
        return type(self)(self.file, self.members, np.arange(len(self.members) + 1))

    def grouped(self, groups: Iterable[Sequence[int]]) -> Self:
        """The members in other packs, by their places here."""
        members, ends = array("q"), array("q", [0])
        for group in groups:
            members.extend(group)
            ends.append(len(members))
        return type(self)(self.file, self.members[np.array(members)], np.array(ends))

    def sizes(self) -> Numbers:
        """Tokens of each member."""
        return self.file.sizes(self.members)


@dataclass(frozen=True)
class Totals:
    """Of all examples in some packs."""

    examples: int = 0
    tokens: int = 0
    trained: int = 0


def totals_of(packs: Sequence[Pack]) -> Totals:
    if isinstance(packs, StoredPacks):
        numbers = packs.members
        return Totals(len(numbers), int(packs.sizes().sum()), packs.file.targets(numbers))
    examples = [example for pack in packs for example in pack]
    return Totals(
        len(examples), sum(len(e.ids) for e in examples), sum(e.targets for e in examples)
    )
