"""Reading the data set's rows from files, folders and the Hub; no row is interpreted here.

Every row keeps its place, so that an error names the file and the line. No torch is imported.
"""

import csv
import hashlib
import io
import json
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, overload

from typing_extensions import override

from finetuning.api.dataset import DatasetFormat
from finetuning.api.run_config import DatasetConfig
from finetuning.base import s3
from finetuning.base.errors import DatasetError, first_line

CSV_FIELD_LIMIT = 64 * 1024 * 1024
"""Long documents stand in one cell; Python's own limit is 128 KiB."""

IN_MEMORY_BYTES = 256 << 20
"""Larger sources stay on the disk, and their rows are read when they are needed."""

EXCERPT = 40
EMPTY = "every column is empty; fill it or remove the row"
HUB_PREFIX = "hf://"
SUFFIXES = ".jsonl, .json, .csv, .tsv or .parquet"


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


def read(config: DatasetConfig, flag: str = "--dataset-path") -> Rows:
    """Read every row of the configured source; those that are no objects become its bad rows.

    `flag` names the source in what is said of a missing one.

    Raises:
        DatasetError: it is missing, unreadable or empty, or broken in a way that no line ends.
    """
    rows = _read_any(config, flag)
    if not rows.rows and not rows.bad:
        raise DatasetError(f"{rows.source}: holds no rows; add at least one")
    return rows


def _read_any(config: DatasetConfig, flag: str) -> Rows:
    if config.path.startswith(s3.PREFIX):
        path = s3.fetch(config.path, flag)
        return replace(_file_reader(path, config.format)(path), source=config.path)
    path = Path(config.path).expanduser()
    on_hub = config.format is DatasetFormat.HF and not path.exists()
    if config.path.startswith(HUB_PREFIX) or on_hub:
        return _from_hub(config.path.removeprefix(HUB_PREFIX))
    if path.is_dir():
        return _from_folder(path)
    if not path.exists():
        _missing(config.path, flag)
    if not path.is_file():
        raise DatasetError(f"{path}: not a regular file; give a data file or a folder")
    return _file_reader(path, config.format)(path)


def _missing(path: str, flag: str) -> NoReturn:
    hub = f", or {HUB_PREFIX}{path} for the Hub" if path.count("/") == 1 else ""
    raise DatasetError(f"{flag} {path}: no such file or folder; check the path{hub}")


def _file_reader(path: Path, wish: DatasetFormat) -> Callable[[Path], Rows]:
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
        from finetuning.base import streams  # noqa: PLC0415 - it builds on this module

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
        return BadRow(number, _json_problem(error, line))
    if not isinstance(data, dict):
        problem = f'expected a JSON object such as {{"text": "…"}}, found {_excerpt(line, 0)}'
        return BadRow(number, problem)
    return Row(number, data)


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
    return _numbered(str(path), _list_in(path, data))


def _list_in(path: Path, data: Any) -> list[Any]:
    lists = [data] if isinstance(data, list) else []
    if isinstance(data, dict):
        lists = [value for value in data.values() if isinstance(value, list)]
    if len(lists) != 1:
        raise DatasetError(f"{path}: expected a JSON list of objects, one per row")
    return lists[0]


def _numbered(source: str, items: Iterable[Any]) -> Rows:
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
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    if _is_large(path):
        from finetuning.base import streams  # noqa: PLC0415 - it builds on this module

        return streams.delimited(path, delimiter)
    reader = csv.DictReader(
        io.StringIO(_text_of(path), newline=""), delimiter=delimiter, strict=True
    )
    read: list[Row | BadRow] = []
    try:
        header = reader.fieldnames or []
        refuse_twins(path, header)
        read.extend(csv_row(reader.line_num, len(header), data) for data in reader)
    except csv.Error as error:
        start = reader.line_num + 1
        raise DatasetError(
            f"{path}: line {start}: {error}; check the quotes of the row that begins there"
        ) from None
    rows = [each for each in read if isinstance(each, Row)]
    bad = tuple(each for each in read if isinstance(each, BadRow))
    return Rows(str(path), "line", rows, bad)


def csv_row(line: int, columns: int, data: dict[str | Any, Any]) -> Row | BadRow:
    """A record as DictReader gives it."""
    if None not in data:
        return Row(line, dict(data))
    problem = (
        f"more than the {columns} columns of the header; put cells that hold a delimiter in double "
        "quotes"
    )
    return BadRow(line, problem)


def refuse_twins(path: Path, header: Sequence[str]) -> None:
    """Of two columns with one name the first would be lost without a word."""
    twins = sorted({name for name in header if list(header).count(name) > 1})
    if twins:
        raise DatasetError(f"{path}: line 1: the column {twins[0]!r} is there twice; rename one")


def _read_parquet(path: Path) -> Rows:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - only for this format
    except ImportError:
        raise DatasetError(
            f"{path}: reading Parquet needs pyarrow; `pip install pyarrow`, or save it as .jsonl"
        ) from None
    try:
        file = parquet.ParquetFile(path)
        if file.metadata.num_rows and _is_large(path):
            from finetuning.base import streams  # noqa: PLC0415 - it builds on this module

            return streams.parquet(path, file)
        items = file.read().to_pylist()
    except (ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not readable as Parquet: {first_line(error)}") from error
    return _numbered(str(path), items)


def _from_folder(path: Path) -> Rows:
    """A folder written by `save_to_disk` of `datasets`, or one with data files of one kind."""
    import datasets  # noqa: PLC0415 - takes seconds

    datasets.disable_progress_bars()
    saved = any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))
    try:
        data = datasets.load_from_disk(str(path)) if saved else datasets.load_dataset(str(path))
    except Exception as error:  # A damaged folder makes the library raise anything.
        raise DatasetError(
            f"{path}: not a folder that `datasets` can read: {first_line(error)}; "
            f"give one written by save_to_disk, or a {SUFFIXES} file"
        ) from error
    return _from_datasets(str(path), data)


def _from_hub(name: str) -> Rows:
    import datasets  # noqa: PLC0415 - takes seconds

    source = HUB_PREFIX + name
    try:
        data = datasets.load_dataset(name)
    except Exception as error:  # The network's and the Hub's failures are many.
        raise DatasetError(
            f"{source}: cannot be loaded: {first_line(error)}; check the name, the network and "
            "HF_TOKEN for private data, or give a local file"
        ) from error
    return _from_datasets(source, data)


def _from_datasets(source: str, data: Any) -> Rows:
    """The `train` split, or the only one."""
    splits = data if isinstance(data, dict) else {"train": data}
    if "train" not in splits and len(splits) != 1:
        names = ", ".join(map(str, splits))
        raise DatasetError(f"{source}: has the splits {names} and no `train` among them")
    name = "train" if "train" in splits else next(iter(splits))
    chosen = splits[name]
    if chosen.data.nbytes > IN_MEMORY_BYTES:
        from finetuning.base import streams  # noqa: PLC0415 - it builds on this module

        return streams.numbered(source, len(chosen), lambda line, at: Row(line, chosen[at]))
    return _numbered(source, chosen)
