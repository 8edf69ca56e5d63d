"""Large files whose rows stay on the disk: one pass finds where each begins, and what is wrong.

In memory stay 16 bytes a row. What a row holds is read whenever it is asked for.
"""

import csv
import os
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate, count
from pathlib import Path
from typing import Any, NoReturn

from finetuning.artifacts.failures import DatasetError, first_line
from finetuning.dataset import files
from finetuning.dataset.files import beyond_python, broken_csv, csv_row, json_row, refuse_twins
from finetuning.dataset.rows import BadRow, Row, Rows, StoredRows, without_fill

CHUNK = 1 << 16
BATCH = 256
"""Rows of a table in memory at a time."""

_BOM = b"\xef\xbb\xbf"


class _Lines:
    """The lines of a file by their places in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror}; make the file readable") from error
        weakref.finalize(self, os.close, self._handle)
        self.start = len(_BOM) if os.pread(self._handle, len(_BOM), 0) == _BOM else 0

    def bytes_from(self, place: int) -> Iterator[bytes]:
        """Each line that begins at `place` or later, with its end."""
        begun: list[bytes] = []
        while chunk := os.pread(self._handle, CHUNK, place):
            place += len(chunk)
            if b"\n" in chunk:
                *whole, chunk = _cut(b"".join([*begun, chunk]))
                begun = []
                yield from whole
            begun.append(chunk)
        if rest := b"".join(begun):
            yield rest

    def text(self, line: bytes, number: int) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise DatasetError(
                f"{self.path}: line {number}: not valid UTF-8; save it as UTF-8"
            ) from None

    def changed(self) -> NoReturn:
        raise DatasetError(f"{self.path}: was changed while it was read; start again")


def _cut(data: bytes) -> list[bytes]:
    """Lines with their ends, and what follows the last end."""
    *whole, rest = data.split(b"\n")
    return [*(line + b"\n" for line in whole), rest]


def each(path: Path) -> Iterator[Row | BadRow]:
    """The rows of a file as they come; but for .json, no more of it is read than was asked for.

    Raises:
        DatasetError: it is unreadable, or broken in a way that no line ends.
    """
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        yield from (row for _, row in _json_rows(_Lines(path)))
    elif suffix in (".csv", ".tsv"):
        _, found = _records(_Lines(path), files.delimiter_of(path))
        yield from (row for _, row in found)
    elif suffix == ".parquet":
        yield from parquet(path, files.open_parquet(path)).rows
    else:
        rows = files.read(path)
        both: list[Row | BadRow] = [*rows.rows, *rows.bad]
        yield from sorted(both, key=lambda row: row.line)


def jsonl(path: Path) -> Rows:
    lines = _Lines(path)
    found = _Found()
    for place, row in _json_rows(lines):
        found.add(row, place)

    def read(line: int, place: int) -> Row:
        row = json_row(line, lines.text(next(lines.bytes_from(place)), line).removesuffix("\n"))
        return row if isinstance(row, Row) else lines.changed()

    return found.rows(str(path), "line", read)


def _json_rows(lines: _Lines) -> Iterator[tuple[int, Row | BadRow]]:
    """Each row with its place."""
    place = lines.start
    for number, line in enumerate(lines.bytes_from(place), start=1):
        text = lines.text(line, number).removesuffix("\n")
        if text.strip():
            yield place, json_row(number, text)
        place += len(line)


def delimited(path: Path, delimiter: str) -> Rows:
    """A file with a header; a row may be of several lines."""
    lines = _Lines(path)
    found = _Found()
    header, rows = _records(lines, delimiter)
    for place, row in rows:
        found.add(row, place)

    def read(line: int, place: int) -> Row:
        texts = (lines.text(*each) for each in zip(lines.bytes_from(place), count(1), strict=False))
        again = csv.DictReader(texts, header, delimiter=delimiter, strict=True)
        row = csv_row(line, len(header), next(again, {None: None}))
        return row if isinstance(row, Row) else lines.changed()

    return found.rows(str(path), "line", read)


def _records(lines: _Lines, delimiter: str) -> tuple[list[str], Iterator[tuple[int, Row | BadRow]]]:
    """The header, and each row with its place."""
    passed = lines.start

    def texts() -> Iterator[str]:
        nonlocal passed
        for number, line in enumerate(lines.bytes_from(lines.start), start=1):
            passed += len(line)
            yield lines.text(line, number)

    csv.field_size_limit(files.CSV_FIELD_LIMIT)
    reader = csv.DictReader(texts(), delimiter=delimiter, strict=True)
    try:
        header = list(reader.fieldnames or [])
    except csv.Error as error:
        raise broken_csv(lines.path, 0, error) from None
    refuse_twins(f"{lines.path}: line 1", header)

    def rows() -> Iterator[tuple[int, Row | BadRow]]:
        place = passed
        try:
            for data in reader:
                yield place, csv_row(reader.line_num, len(header), data)
                place = passed
        except csv.Error as error:
            raise broken_csv(lines.path, reader.line_num, error) from None

    return header, rows()


def parquet(path: Path, file: Any) -> Rows:
    """`file` is pyarrow's; some of its rows are in memory at a time, however large its groups."""
    table = _Table(path, file)
    return numbered(str(path), table.rows, lambda line, place: Row(line, table.row(place)))


class _Table:
    """A Parquet file, read from its front to its back; who goes back begins the row group anew.

    Most libraries write up to a million rows as one group, which would take several times the
    file's size in memory.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self._path, self._file = path, file
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        self._starts = [0, *accumulate(sizes)]
        self.rows = self._starts[-1]
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = ()
        self._from = self._end = 0

    def row(self, place: int) -> dict[str, Any]:
        """Raises DatasetError where the file is damaged."""
        from pyarrow import ArrowException  # noqa: PLC0415 - only for this format

        try:
            while not self._from <= place < self._from + len(self._batch):
                self._go_on_to(place)
            (data,) = self._batch.slice(place - self._from, 1).to_pylist()
        except (ArrowException, OSError, StopIteration) as error:
            text = f"{self._path}: not readable as Parquet: {first_line(error)}"
            raise DatasetError(text) from error
        except OverflowError as error:
            raise beyond_python(self._path, error) from error
        return without_fill(data)

    def _go_on_to(self, place: int) -> None:
        """The next batch of the group that has the place, which is begun where it has to be."""
        after = self._from + len(self._batch)
        if not after <= place < self._end:
            group = bisect_right(self._starts, place) - 1
            after, self._end = self._starts[group], self._starts[group + 1]
            self._batches = self._file.iter_batches(BATCH, row_groups=[group], use_threads=False)
        self._batch, self._from = next(self._batches), after


def numbered(source: str, total: int, read: Callable[[int, int], Row]) -> Rows:
    """Rows that are found by their number."""
    return Rows(
        source, "row", StoredRows(read, array("q", range(1, total + 1)), array("q", range(total)))
    )


class _Found:
    """What a first pass finds."""

    def __init__(self) -> None:
        self._lines, self._places = array("q"), array("q")
        self._bad: list[BadRow] = []

    def add(self, row: Row | BadRow, place: int) -> None:
        if isinstance(row, BadRow):
            self._bad.append(row)
            return
        self._lines.append(row.line)
        self._places.append(place)

    def rows(self, source: str, unit: str, read: Callable[[int, int], Row]) -> Rows:
        return Rows(source, unit, StoredRows(read, self._lines, self._places), tuple(self._bad))
