"""Jobs as columns: those of `kubectl get`, since both come from the resource definition."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len, set_cell_size

from finetuning.api.crd import printer_columns
from finetuning.artifacts.plain import plain
from finetuning.controller.progress import duration

_WIDEST, _SENTENCE = 60, 1000
"""Characters of a cell, and of one in the last column, where nothing comes after."""


def table(jobs: Iterable[Mapping[str, Any]], now: datetime, *, wide: bool, namespaces: bool) -> str:
    """One line per job below a headline, columns three spaces apart."""
    columns = [each for each in printer_columns() if wide or not each.get("priority")]
    first = ["NAMESPACE", "NAME"] if namespaces else ["NAME"]
    head = [*first, *(str(each["name"]).upper() for each in columns)]
    rows = [
        [*(_text(job, f".metadata.{name.lower()}") for name in first),
         *(_cell(job, each, now, _SENTENCE if each is columns[-1] else _WIDEST)
           for each in columns)]
        for job in jobs
    ]  # fmt: skip
    return aligned([head, *rows])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """By the cells of a terminal, of which some characters take two."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = ("   ".join(map(set_cell_size, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _cell(job: Mapping[str, Any], column: Mapping[str, Any], now: datetime, widest: int) -> str:
    text = _text(job, column["jsonPath"], widest)
    return _age(text, now) if column["type"] == "date" else text


def _text(job: Mapping[str, Any], path: str, widest: int = _WIDEST) -> str:
    """The value at .a.b.c; empty where there is none."""
    found: Any = job
    for part in path.removeprefix(".").split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return "" if found is None else plain(str(found), widest)


def _age(text: str, now: datetime) -> str:
    try:
        since = datetime.fromisoformat(text)
    except ValueError:
        return ""
    if since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    return duration(max(0.0, (now - since).total_seconds()))
