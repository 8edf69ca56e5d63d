"""Reading rows from files; none is interpreted here, and an error names the file and the line."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from finetuning.api.dataset import DatasetFormat
from finetuning.artifacts.failures import DatasetError, first_line
from finetuning.dataset.rows import BadRow, Row, Rows, without_fill

CSV_FIELD_LIMIT = 64 * 1024 * 1024
"""Long documents stand in one cell; Python's own limit is 128 KiB."""

IN_MEMORY_BYTES = 256 << 20
"""Larger sources stay on the disk, and their rows are read when they are needed."""

PIECE = 1 << 20
"""Bytes of a column that are read at once."""

EXCERPT = 40
SUFFIXES = ".jsonl, .json, .csv, .tsv or .parquet"


def read(path: Path, wish: DatasetFormat = DatasetFormat.AUTO) -> Rows:
    """Every row of a file; those that are no objects become its bad rows.

    Raises:
        DatasetError: it is unreadable, or broken in a way that no line ends.
    """
    return _reader(path, wish)(path)


def _reader(path: Path, wish: DatasetFormat) -> Callable[[Path], Rows]:
    readers = {
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
        ".json": _read_json,
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".parquet": _read_parquet,
    }
    suffix = path.suffix.lower() if wish is DatasetFormat.AUTO else f".{wish}"
    if suffix not in readers:
        raise DatasetError(
            f"{path}: cannot tell how the rows are stored; name the file {SUFFIXES}, "
            "or give --dataset-format jsonl, json, csv or parquet"
        )
    return readers[suffix]


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; make the file readable") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DatasetError(f"{path}: line {line}: not valid UTF-8; save it as UTF-8") from None


def _is_large(path: Path) -> bool:
    return path.stat().st_size > IN_MEMORY_BYTES


def _read_jsonl(path: Path) -> Rows:
    if _is_large(path):
        from finetuning.dataset import streams  # noqa: PLC0415 - it builds on this module

        return streams.jsonl(path)
    lines = enumerate(_text_of(path).split("\n"), start=1)
    read = [json_row(number, line) for number, line in lines if line.strip()]
    rows = [each for each in read if isinstance(each, Row)]
    bad = tuple(each for each in read if isinstance(each, BadRow))
    return Rows(str(path), "line", rows, bad)


def json_row(number: int, line: str) -> Row | BadRow:
    """A line of JSON Lines."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        goes_on = isinstance(error, json.JSONDecodeError) and _as_a_list(number, line)
        return BadRow(number, goes_on or _json_problem(error, line))
    if not isinstance(data, dict):
        problem = f'expected a JSON object such as {{"text": "…"}}, found {_excerpt(line, 0)}'
        holds_rows = isinstance(data, list) and data and isinstance(data[0], dict)
        return BadRow(number, (holds_rows and _as_a_list(number, line)) or problem)
    return Row(number, data)


def _as_a_list(number: int, line: str) -> str:
    """Of a file that is one list, perhaps over many lines; empty of any other line."""
    if number > 1 or not line.lstrip().startswith("["):
        return ""
    return (
        "begins a JSON list, where each line must be a row; name the file .json, or give "
        "--dataset-format json"
    )


def _json_problem(error: Exception, line: str) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return f"not valid JSON ({error})"
    near = _excerpt(line, error.pos)
    problem = error.msg.removesuffix(" at")
    return f"not valid JSON: {problem} at column {error.colno}, near {near}; mend the line"


def _excerpt(line: str, at: int) -> str:
    start = max(0, at - EXCERPT // 2)
    piece = line[start : start + EXCERPT]
    return ("…" if start else "") + piece.strip() + ("…" if start + EXCERPT < len(line) else "")


def _read_json(path: Path) -> Rows:
    """A list of objects, an object with one such list, or JSON Lines under another name."""
    text = _text_of(path)
    if not text.strip():
        return Rows(str(path), "line", [])
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            return _read_jsonl(path)
        line = getattr(error, "lineno", 1)
        bad = text.split("\n")[line - 1]
        problem = getattr(error, "msg", str(error))
        near = _excerpt(bad, getattr(error, "colno", 1) - 1)
        raise DatasetError(
            f"{path}: line {line}: not valid JSON: {problem}, near {near}; mend the file"
        ) from None
    return numbered(str(path), _list_in(path, data))


def _list_in(path: Path, data: Any) -> list[Any]:
    lists = [data] if isinstance(data, list) else []
    if isinstance(data, dict):
        lists = [value for value in data.values() if isinstance(value, list)]
    if len(lists) != 1:
        raise DatasetError(f"{path}: expected a JSON list of objects, one per row")
    return lists[0]


def numbered(source: str, items: Iterable[Any]) -> Rows:
    rows: list[Row] = []
    bad: list[BadRow] = []
    for number, data in enumerate(items, start=1):
        if isinstance(data, dict):
            rows.append(Row(number, data))
        else:
            bad.append(BadRow(number, f"expected an object, found {type(data).__name__}"))
    return Rows(source, "row", rows, tuple(bad))


def _read_csv(path: Path) -> Rows:
    csv.field_size_limit(CSV_FIELD_LIMIT)
    delimiter = delimiter_of(path)
    if _is_large(path):
        from finetuning.dataset import streams  # noqa: PLC0415 - it builds on this module

        return streams.delimited(path, delimiter)
    reader = csv.DictReader(
        io.StringIO(_text_of(path), newline=""), delimiter=delimiter, strict=True
    )
    read: list[Row | BadRow] = []
    try:
        header = reader.fieldnames or []
        refuse_twins(f"{path}: line 1", header)
        read.extend(csv_row(reader.line_num, len(header), data) for data in reader)
    except csv.Error as error:
        raise broken_csv(path, reader.line_num, error) from None
    rows = [each for each in read if isinstance(each, Row)]
    bad = tuple(each for each in read if isinstance(each, BadRow))
    return Rows(str(path), "line", rows, bad)


def broken_csv(path: Path, passed: int, error: csv.Error) -> DatasetError:
    """`passed` lines were good."""
    return DatasetError(
        f"{path}: line {passed + 1}: {error}; check the quotes of the row that begins there"
    )


def delimiter_of(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def csv_row(line: int, columns: int, data: dict[str | Any, Any]) -> Row | BadRow:
    """A record as DictReader gives it."""
    if None not in data:
        return Row(line, dict(data))
    problem = (
        f"more than the {columns} columns of the header; put cells that hold a delimiter in double "
        "quotes"
    )
    return BadRow(line, problem)


def refuse_twins(where: str, header: Sequence[str]) -> None:
    """Of two columns with one name the first would be lost without a word."""
    twins = sorted({name for name in header if list(header).count(name) > 1})
    if twins:
        raise DatasetError(f"{where}: the column {twins[0]!r} is there twice; rename one")


def _read_parquet(path: Path) -> Rows:
    file = open_parquet(path)
    if file.metadata.num_rows and _is_large(path):
        from finetuning.dataset import streams  # noqa: PLC0415 - it builds on this module

        return streams.parquet(path, file)
    return numbered(str(path), _items(path, file))


def open_parquet(path: Path) -> Any:
    """As pyarrow's ParquetFile; raises DatasetError."""
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - only for this format
    except ImportError:
        raise DatasetError(
            f"{path}: reading Parquet needs pyarrow; `pip install pyarrow`, or save it as .jsonl"
        ) from None
    try:
        # Else all of a row group is read before its first row is there.
        file = parquet.ParquetFile(path, buffer_size=PIECE, pre_buffer=False)
        names = file.schema_arrow.names
    except (ArrowException, OSError) as error:
        raise _no_parquet(path, error) from error
    refuse_twins(str(path), names)
    return file


def _items(path: Path, file: Any) -> list[Any]:
    from pyarrow import ArrowException  # noqa: PLC0415 - only for this format

    try:
        return list(map(without_fill, file.read().to_pylist()))
    except (ArrowException, OSError) as error:
        raise _no_parquet(path, error) from error
    except OverflowError as error:
        raise beyond_python(path, error) from error


def beyond_python(path: Path, error: OverflowError) -> DatasetError:
    """Of a time such as those that stand for none in some data bases."""
    return DatasetError(
        f"{path}: holds a time that Python has none for ({error}); leave its column out, or save "
        "it as text"
    )


def _no_parquet(path: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{path}: not readable as Parquet: {first_line(error)}")
