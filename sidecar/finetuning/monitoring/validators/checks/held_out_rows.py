"""Rows that the run has not seen, read as the trainer reads those that it trains on."""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from finetuning.api.hyperparameters import Objective
from finetuning.artifacts.failures import DatasetError
from finetuning.artifacts.files import UnreadableFileError
from finetuning.dataset import shapes, streams
from finetuning.dataset.columns import renamed
from finetuning.dataset.rows import BadRow, Row, Rows
from finetuning.dataset.shapes import Chat, Completion, Preference, Sample
from finetuning.monitoring.validators.checks.probe import HeldOutRow

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
WHOLE_BYTES = 256 << 20
"""Of a .json file, which is read as a whole; of the others no more is read than is wanted."""


@dataclass(frozen=True)
class HeldOutRows:
    """The rows to score, and what is wrong with those that were left out."""

    rows: list[HeldOutRow]
    problems: list[str]


def read_rows(path: Path, most: int, columns: Mapping[str, str] | None = None) -> HeldOutRows:
    """What the first `most` rows of a data file say; bad ones are left out.

    `columns` has the file's names of columns by the trainer's, where they differ.

    Raises:
        UnreadableFileError: no such file, too large, of no known shape, or without a good row.
    """
    file = _regular(_behind_links(path))
    try:
        first = list(islice(streams.each(file), most))
        good, samples = _interpreted(path, [_by_own_names(row, columns) for row in first])
    except (DatasetError, OSError) as error:
        raise UnreadableFileError(str(error)) from error
    problems = [f"{path}: {good.unit} {bad.line}: {bad.problem}" for bad in good.bad]
    if not samples:
        raise UnreadableFileError(problems[0] if problems else f"{path}: holds no rows")
    return HeldOutRows([_row(sample) for sample in samples], problems)


def _behind_links(path: Path) -> Path:
    """The file itself where links stay in its folder, as those of a mounted ConfigMap do."""
    # Path.resolve raises on links that lead in a circle.
    file = Path(os.path.realpath(path))
    return file if file.is_relative_to(os.path.realpath(path.parent)) else path


def _regular(path: Path) -> Path:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UnreadableFileError(f"{path}: is none of {', '.join(SUFFIXES)}")
    try:
        about = path.lstat()
    except OSError as error:
        raise UnreadableFileError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(about.st_mode):
        raise UnreadableFileError(f"{path}: not a regular file, or behind symbolic links")
    if suffix == ".json" and about.st_size > WHOLE_BYTES:
        raise UnreadableFileError(
            f"{path}: larger than {WHOLE_BYTES} bytes; save it as .jsonl, which is not read whole"
        )
    return path


def _by_own_names(row: Row | BadRow, columns: Mapping[str, str] | None) -> Row | BadRow:
    """Columns by the trainer's names; a file may have these from the start."""
    if isinstance(row, BadRow) or not columns or not set(columns.values()) & set(row.data):
        return row
    return renamed(row, dict(columns))


def _interpreted(path: Path, rows: Sequence[Row | BadRow]) -> tuple[Rows, Sequence[Sample]]:
    good = [row for row in rows if isinstance(row, Row)]
    bad = tuple(row for row in rows if isinstance(row, BadRow))
    unit = "row" if path.suffix.lower() in (".json", ".parquet") else "line"
    found = Rows(str(path), unit, good, bad)
    pairs = bool(good) and {"chosen", "rejected"} <= set(good[0].data)
    return shapes.interpret(found, Objective.DPO if pairs else Objective.SFT)


def _row(sample: Sample) -> HeldOutRow:
    """Of two answers to choose from, the better one."""
    match sample:
        case Preference(chosen):
            return _row(chosen)
        case Chat(messages, tools):
            return HeldOutRow(messages=messages, tools=tools)
        case Completion(prompt, completion):
            return HeldOutRow(prompt=prompt, completion=completion)
        case _:
            return HeldOutRow(completion=sample.text)
