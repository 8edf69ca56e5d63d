"""The data set's names of columns in place of the trainer's."""

from finetuning.api.dataset import DatasetColumns
from finetuning.base.rows import BadRow, Row, Rows

MAY_BE_ABSENT = ("input", "system", "tools")
"""Columns that a row may leave empty, as the shapes have it."""


def rename(rows: Rows, columns: DatasetColumns | None) -> Rows:
    """Every row with the named columns alone, under the trainer's names."""
    if columns is None:
        return rows
    names = columns.named
    found = [_renamed(row, names) for row in rows.rows]
    good = [each for each in found if isinstance(each, Row)]
    renamed = Rows(rows.source, rows.unit, good, rows.bad)
    return renamed.without(each for each in found if isinstance(each, BadRow))


def _renamed(row: Row, names: dict[str, str]) -> Row | BadRow:
    missing = [(ours, theirs) for ours, theirs in names.items() if theirs not in row.data]
    for ours, theirs in missing:
        if ours not in MAY_BE_ABSENT:
            there = ", ".join(sorted(map(str, row.data))) or "none"
            return BadRow(row.line, f"has no column {theirs!r} for `{ours}`; its columns: {there}")
    return Row(row.line, {ours: row.data.get(theirs) for ours, theirs in names.items()})
