"""The data set's names of columns in place of the trainer's."""

from finetuning.api.dataset import DatasetColumns
from finetuning.dataset.rows import BadRow, Row, Rows, StoredRows

MAY_BE_ABSENT = ("input", "system", "tools")
"""Columns that a row may leave empty, as the shapes have it."""


def rename(rows: Rows, columns: DatasetColumns | None) -> Rows:
    """Every row with the named columns alone, under the trainer's names."""
    if columns is None:
        return rows
    names = columns.named
    if isinstance(rows.rows, StoredRows):
        return _renamed_later(rows, rows.rows, names)
    found = [renamed(row, names) for row in rows.rows]
    good = [each for each in found if isinstance(each, Row)]
    kept = Rows(rows.source, rows.unit, good, rows.bad)
    return kept.without(each for each in found if isinstance(each, BadRow))


def _renamed_later(rows: Rows, stored: StoredRows, names: dict[str, str]) -> Rows:
    """The same of rows that stay on the disk: only what is bad is known now."""
    bad = [each for row in stored if isinstance(each := renamed(row, names), BadRow)]
    changed = stored.mapped(lambda row: _only(row, names))
    return Rows(rows.source, rows.unit, changed, rows.bad).without(bad)


def renamed(row: Row, names: dict[str, str]) -> Row | BadRow:
    """One row; bad where it lacks a column that it must have."""
    missing = [(ours, theirs) for ours, theirs in names.items() if theirs not in row.data]
    for ours, theirs in missing:
        if ours not in MAY_BE_ABSENT:
            there = ", ".join(sorted(map(str, row.data))) or "none"
            return BadRow(row.line, f"has no column {theirs!r} for `{ours}`; its columns: {there}")
    return _only(row, names)


def _only(row: Row, names: dict[str, str]) -> Row:
    return Row(row.line, {ours: row.data.get(theirs) for ours, theirs in names.items()})
