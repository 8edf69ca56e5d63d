"""Sources that stay on the disk say what those in memory say, and train the same."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.trainer.conftest import ROWS, write_rows
from tests.unit.trainer.test_resume import arguments, history

from finetuning.api.dataset import DatasetColumns
from finetuning.api.run_config import DatasetConfig
from finetuning.artifacts.failures import DatasetError
from finetuning.artifacts.files import read_json
from finetuning.base.app import main
from finetuning.base.sources import read
from finetuning.dataset import files, streams
from finetuning.dataset.columns import rename
from finetuning.dataset.encode import Example
from finetuning.dataset.rows import Rows, StoredRows
from finetuning.dataset.shapes import interpret

JSONL = (
    '\ufeff{"prompt": "Wo liegt Köln?", "completion": "Am Rhein, 50° N…"}\r\n\n'
    '{"prompt": 1}\n{"prompt": "", "completion": ""}\n[1]\n{"prompt": "a"\n'
    '{"prompt": "last", "completion": "without an end"}'
)
CSV = 'prompt,completion\na,b\n\n"two\nlines, ""quoted""",c\nd,e,too much\nö,"€\r\n"\nlast,no end'


def in_memory_and_stored(
    path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int = 7
) -> tuple[Rows, Rows]:
    config = DatasetConfig(path=str(path))
    memory = read(config)
    monkeypatch.setattr(files, "IN_MEMORY_BYTES", -1)
    monkeypatch.setattr(streams, "CHUNK", chunk)
    stored = read(config)
    assert not isinstance(memory.rows, StoredRows)
    assert isinstance(stored.rows, StoredRows)
    return memory, stored


def write_parquet(path: Path) -> None:
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pylist(ROWS), path, row_group_size=6)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
@pytest.mark.parametrize(("name", "text"), [("d.jsonl", JSONL), ("d.csv", CSV)])
def test_stored_rows_are_those_in_memory(
    name: str, text: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    same(*in_memory_and_stored(path, monkeypatch, chunk))


def test_a_table_s_rows_have_no_keys_of_other_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyarrow import Table, parquet

    said: list[dict[str, Any]] = [
        {
            "tools": [{"name": "f", "takes": {"a": 1}}, {"name": "g", "takes": {"b": 2}}],
            "note": None,
        },
        {"tools": [{"name": "f", "takes": None}], "note": [{"content": None, "role": "tool"}]},
    ]
    parquet.write_table(Table.from_pylist(said), tmp_path / "d.parquet")
    memory, stored = in_memory_and_stored(tmp_path / "d.parquet", monkeypatch)
    assert list(stored.rows) == memory.rows
    (first, second) = (row.data for row in memory.rows)
    assert first == said[0]
    assert second == {**said[1], "tools": [{"name": "f"}]}


def test_row_groups_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "d.parquet")
    memory, stored = in_memory_and_stored(tmp_path / "d.parquet", monkeypatch)
    same(memory, stored)
    assert stored.rows[17].data == ROWS[17]
    assert stored.rows[3].data == ROWS[3]


def test_a_row_group_as_large_as_the_file_is_not_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is how tables are written by default, up to a million rows."""
    from pyarrow import Table, default_memory_pool, parquet

    rows = [{"text": f"{n} {'Where is Kenya? ' * 60}"} for n in range(24_000)]
    parquet.write_table(Table.from_pylist(rows), tmp_path / "d.parquet")
    assert parquet.ParquetFile(tmp_path / "d.parquet").num_row_groups == 1
    monkeypatch.setattr(files, "IN_MEMORY_BYTES", -1)
    before, most = default_memory_pool().bytes_allocated(), 0
    stored = read(DatasetConfig(path=str(tmp_path / "d.parquet"))).rows
    for row, expected in zip(stored, rows, strict=True):
        assert row.data == expected
        most = max(most, default_memory_pool().bytes_allocated() - before)
    assert most < 8_000_000
    assert [stored[n].data for n in (23_999, 0, 700)] == [rows[n] for n in (23_999, 0, 700)]


def test_a_row_group_that_is_damaged_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d.parquet"
    write_parquet(path)
    data = bytearray(path.read_bytes())
    data[4:60] = bytes(56)
    path.write_bytes(data)
    monkeypatch.setattr(files, "IN_MEMORY_BYTES", -1)
    with pytest.raises(DatasetError, match="not readable as Parquet"):
        interpret(read(DatasetConfig(path=str(path))))


def test_a_folder_of_datasets_stays_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    same(*in_memory_and_stored(tmp_path / "saved", monkeypatch))


def same(memory: Rows, stored: Rows) -> None:
    assert list(stored.rows) == list(memory.rows)
    assert (stored.bad, stored.unit, stored.source) == (memory.bad, memory.unit, memory.source)
    assert stored.digest() == memory.digest()
    (one, said), (other, said_too) = interpret(memory), interpret(stored)
    assert (list(one.rows), one.bad) == (list(other.rows), other.bad)
    assert list(said) == list(said_too)


def test_columns_are_renamed_as_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "d.jsonl", [{"q": "a", "a": "b", "id": 1}, {"q": "c"}])
    columns = DatasetColumns.model_validate({"prompt": "q", "completion": "a"})
    memory, stored = in_memory_and_stored(path, monkeypatch)
    same(rename(memory, columns), rename(stored, columns))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("d.jsonl", b'{"text": "a"}\n\n{"text": "\xff"}\n'),
        ("d.csv", b'text\n"a\n'),
        ("d.csv", b"text\n\xff\n"),
        ("d.csv", b"text,text\na,b\n"),
        ("d.csv", b'"text\na\n'),
    ],
)
def test_what_ends_the_reading_is_told_alike(
    name: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(data)
    config = DatasetConfig(path=str(tmp_path / name))
    with pytest.raises(DatasetError) as memory:
        read(config)
    monkeypatch.setattr(files, "IN_MEMORY_BYTES", -1)
    with pytest.raises(DatasetError) as stored:
        read(config)
    assert str(stored.value) == str(memory.value)


@pytest.mark.parametrize("in_memory", [-1, 1 << 30])
@pytest.mark.parametrize(
    ("names", "kind", "words"),
    [
        (["text", "at"], "timestamp", "holds a time that Python has none for"),
        (["text", "text"], "int64", "the column 'text' is there twice"),
    ],
)
def test_what_no_row_can_hold_of_a_table_is_told(  # noqa: PLR0917 - cases and fixtures
    names: list[str],
    kind: str,
    words: str,
    in_memory: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "d.parquet"
    beyond = pa.array([2**62], pa.timestamp("us") if kind == "timestamp" else pa.int64())
    parquet.write_table(pa.table([pa.array(["a"]), beyond], names=names), path)
    monkeypatch.setattr(files, "IN_MEMORY_BYTES", in_memory)
    with pytest.raises(DatasetError, match=f"d.parquet: {words}"):
        list(read(DatasetConfig(path=str(path))).rows)


def test_a_file_that_changes_meanwhile_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "d.jsonl", [{"text": "a"}, {"text": "b"}])
    _, stored = in_memory_and_stored(path, monkeypatch)
    path.write_text("x" * path.stat().st_size)
    with pytest.raises(DatasetError, match="was changed while it was read"):
        list(stored.rows)


def example(ids: list[int]) -> Example:
    array = np.array(ids, dtype=np.int32)
    return Example(array, array % 3 == 0)


Row = list[list[int]]
ROW = st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5), min_size=1, max_size=3)


@given(st.lists(ROW, min_size=1, max_size=8), st.randoms())
def test_stored_packs_are_those_in_memory(data: list[Row], random: Any) -> None:
    from finetuning.base.store import ExampleFile, totals_of

    memory = [[example(ids) for ids in row] for row in data]
    file = ExampleFile()
    for row in memory:
        file.append(row)
    stored = file.finished()
    chosen = random.sample(range(len(data)), random.randint(0, len(data)))
    members = [each for i in chosen for each in memory[i]]
    order = random.sample(range(len(members)), len(members))
    pairs = [order[i : i + 2] for i in range(0, len(order), 2)]
    there = stored.chosen(chosen)
    assert plain(stored) == plain(memory)
    assert plain(there) == plain([memory[i] for i in chosen])
    assert plain(there.singles()) == plain([[each] for each in members])
    assert plain(there.grouped(pairs)) == plain([[members[i] for i in pair] for pair in pairs])
    assert there.sizes().tolist() == [len(each.ids) for each in members]
    assert totals_of(there) == totals_of([memory[i] for i in chosen])


def plain(packs: Any) -> list[list[tuple[list[int], list[bool]]]]:
    return [[(each.ids.tolist(), each.trained.tolist()) for each in pack] for pack in packs]


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Bytes that Python holds at once."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size


def test_the_time_of_a_row_grows_with_its_length_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joined to what was read before, every piece of it would be copied again and again."""
    monkeypatch.setattr(files, "IN_MEMORY_BYTES", -1)
    path = write_rows(tmp_path / "d.jsonl", [{"text": "a" * (24 << 20)}])
    began = time.process_time()
    assert len(read(DatasetConfig(path=str(path))).rows) == 1
    assert time.process_time() - began < 2.0


def test_the_memory_does_not_grow_with_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "IN_MEMORY_BYTES", -1)
    rows = [{"text": f"{n} {'Where is Kenya? ' * 300}"} for n in range(400)]
    path = write_rows(tmp_path / "d.jsonl", rows)
    assert path.stat().st_size > 1_900_000
    with at_most(400_000):
        good, samples = interpret(read(DatasetConfig(path=str(path))))
        good.digest()
        assert sum(1 for _ in samples) == 400


def test_the_memory_does_not_grow_with_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    from finetuning.base import store

    monkeypatch.setattr(store, "BUFFER", 1 << 16)
    row = [example(list(range(2000)))]
    with at_most(400_000):
        file = store.ExampleFile()
        for _ in range(500):
            file.append(row)
        packs = file.finished()
        assert sum(pack[0].targets for pack in packs) == 500 * 666


VARIANTS: dict[str, list[str]] = {
    "lora": ["--eval-split", "0.2", "--eval-steps", "2"],
    "packed": ["--packing", "--eval-split", "0.2"],
    "dpo": ["--objective", "dpo", "--eval-split", "0.2"],
}


@pytest.mark.training
@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_are_bitwise_the_same(  # noqa: PLR0917 - fixtures
    variant: str,
    tiny_model: Path,
    rows_file: Path,
    pairs_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = pairs_file if variant == "dpo" else rows_file
    text = data.read_text()
    data.write_text(text + "{}\n" + text.split("\n")[0])
    more = ("--max-steps", 5, "--on-bad-rows", "Skip", *VARIANTS[variant])
    memory, stored = tmp_path / "memory", tmp_path / "stored"
    assert main(arguments(tiny_model, data, memory, *more)) == 0
    monkeypatch.setattr(files, "IN_MEMORY_BYTES", -1)
    assert main(arguments(tiny_model, data, stored, *more)) == 0
    assert history(stored) == history(memory)
    assert read_json(stored / "data_report.json") == read_json(memory / "data_report.json")
    assert info(stored)["dataset"] == info(memory)["dataset"]


def info(output: Path) -> Any:
    return read_json(output / "training_info.json")
