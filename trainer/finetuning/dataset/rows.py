"""Rows as they stand in their source, each with its place there; no torch is imported."""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from typing_extensions import override

SHOWN_LINES = 5
EMPTY = "every column is empty; fill it or remove the row"


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in the source, and its line (or number) there."""

    line: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be trained on, and why."""

    line: int
    problem: str


def without_fill(data: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table (Parquet, Arrow), whose structs all have the keys that any of them has.

    A tool would be shown with every other tool's parameters, each of them null. `content` stays:
    templates ask whether it is none.
    """
    return {name: _filled(value) for name, value in data.items()}


def _filled(value: Any) -> Any:
    if isinstance(value, list):
        return list(map(_filled, value))
    if not isinstance(value, dict):
        return value
    said = {key: each for key, each in value.items() if each is not None or key == "content"}
    return {key: _filled(each) for key, each in said.items()}


class StoredRows(Sequence[Row]):
    """Rows that stay where they are; the one that was asked for last is kept."""

    def __init__(
        self, read: Callable[[int, int], Row], lines: "array[int]", places: "array[int]"
    ) -> None:
        self._read, self._lines, self._places = read, lines, places
        self._last: tuple[int, Row] | None = None

    @override
    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    @override
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        if self._last is None or self._last[0] != at:
            self._last = at, self._read(self._lines[at], self._places[at])
        return self._last[1]

    def mapped(self, change: Callable[[Row], Row]) -> "StoredRows":
        """The same rows, changed whenever they are read."""
        read = self._read
        return StoredRows(lambda *where: change(read(*where)), self._lines, self._places)

    def without(self, lines: set[int]) -> "StoredRows":
        kept = [i for i, line in enumerate(self._lines) if line not in lines] if lines else None
        if kept is None:
            return self
        chosen = (array("q", map(of.__getitem__, kept)) for of in (self._lines, self._places))
        return StoredRows(self._read, *chosen)


@dataclass(frozen=True)
class Rows:
    """All rows of a source."""

    source: str
    unit: str
    """What `Row.line` counts: `line` in text files, `row` elsewhere."""
    rows: Sequence[Row]
    bad: tuple[BadRow, ...] = ()
    """Those that were left out of `rows`."""

    def without(self, bad: Iterable[BadRow]) -> "Rows":
        """The same with more rows found bad, in the order of the source."""
        found = sorted({*self.bad, *bad}, key=lambda each: each.line)
        lines = {each.line for each in found}
        if isinstance(self.rows, StoredRows):
            kept: Sequence[Row] = self.rows.without(lines)
        else:
            kept = [row for row in self.rows if row.line not in lines]
        return Rows(self.source, self.unit, kept, tuple(found))

    def where(self, row: Row) -> str:
        return f"{self.source}: {self.unit} {row.line}"

    def digest(self) -> str:
        """Sha256 of the contents, the same whatever the spelling or the file's format."""
        total = hashlib.sha256()
        for row in self.rows:
            total.update(json.dumps(row.data, sort_keys=True, default=str).encode())
        return total.hexdigest()


def explain(rows: Rows) -> str:
    """The first bad row with its problem, and where the others are."""
    first, *others = rows.bad
    message = f"{rows.source}: {rows.unit} {first.line}: {first.problem}"
    if not others:
        return message
    lines = ", ".join(str(bad.line) for bad in others[:SHOWN_LINES])
    more = "" if len(others) <= SHOWN_LINES else ", …"
    return f"{message} ({len(others)} more bad rows: {rows.unit} {lines}{more})"
