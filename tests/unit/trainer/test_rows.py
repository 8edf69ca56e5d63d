"""Reading rows: every format, and every way in which a file can be wrong."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import csv
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetuning.api.run_config import DatasetConfig
from finetuning.api.v1alpha1 import DatasetFormat
from finetuning.artifacts.failures import DatasetError
from finetuning.base.bad_rows import settle
from finetuning.base.sources import read
from finetuning.dataset.rows import Rows

TWO = [{"text": "ein Übungssatz"}, {"text": "second, with a comma\nand a line break"}]


def read_file(path: Path, wish: DatasetFormat = DatasetFormat.AUTO) -> Rows:
    return read(DatasetConfig(path=str(path), format=wish))


def refusal(path: Path, content: str | bytes, wish: DatasetFormat = DatasetFormat.AUTO) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError) as caught:
        settle(read_file(path, wish), DatasetConfig(path=str(path)))
    return str(caught.value)


def write_jsonl(path: Path) -> None:
    path.write_text("\n\n".join(map(json.dumps, TWO)), encoding="utf-8")


def write_json(path: Path) -> None:
    path.write_text(json.dumps(TWO, indent=1), encoding="utf-8")


def write_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["text"], delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(TWO)


def write_parquet(path: Path) -> None:
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pylist(TWO), path)


def write_wrapped_json(path: Path) -> None:
    path.write_text(json.dumps({"data": TWO}), encoding="utf-8")


WRITERS = {
    "rows.jsonl": write_jsonl,
    "rows.json": write_json,
    "wrapped.json": write_wrapped_json,
    "lines.json": write_jsonl,
    "rows.csv": write_csv,
    "rows.tsv": write_csv,
    "rows.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows_and_the_same_digest(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    rows = read_file(tmp_path / name)
    assert [row.data for row in rows.rows] == TWO
    reference = tmp_path / "reference.jsonl"
    write_jsonl(reference)
    assert rows.digest() == read_file(reference).digest()


def test_a_folder_saved_by_datasets_is_read(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    Dataset.from_list(TWO).save_to_disk(str(tmp_path / "one"))
    DatasetDict({"train": Dataset.from_list(TWO)}).save_to_disk(str(tmp_path / "splits"))
    for name in ("one", "splits"):
        assert [row.data for row in read_file(tmp_path / name).rows] == TWO


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl")
    assert [row.line for row in read_file(tmp_path / "rows.jsonl").rows] == [1, 3]
    write_csv(tmp_path / "rows.csv")
    assert [row.line for row in read_file(tmp_path / "rows.csv").rows] == [2, 4]


def test_the_digest_changes_with_any_value(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n', encoding="utf-8")
    before = read_file(path).digest()
    path.write_text('{"text": "b"}\n', encoding="utf-8")
    assert read_file(path).digest() != before


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", "", "holds no rows"),
        ("a.jsonl", "\n \n", "holds no rows"),
        ("a.json", "", "holds no rows"),
        ("a.csv", "text\n", "holds no rows"),
        ("a.jsonl", '{"text": "a"}\n{"text" "b"}', "line 2: not valid JSON: Expecting ':'"),
        ("a.jsonl", '{"text": "a"}\n{"text" "b"}', 'column 9, near {"text" "b"}'),
        ("a.jsonl", '["text"]', "line 1: expected a JSON object"),
        ("a.jsonl", '[{"text": "a"}]', "line 1: begins a JSON list, where each line must be a row"),
        ("a.jsonl", '[\n{"text": "a"},\n{"text": "b"}\n]', "row; name the file .json, or"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}', "line 2: not valid UTF-8"),
        ("a.jsonl", "[" * 100_000, "line 1: not valid JSON"),
        ("a.json", '[{"text": "a"},\n {"text": }]', "line 2: not valid JSON: Expecting value"),
        ("a.json", "[1]", "row 1: expected an object, found int"),
        ("a.json", '{"a": 1}', "expected a JSON list of objects"),
        ("a.csv", "a,b\n1,2,3\n", "line 2: more than the 2 columns"),
        ("a.csv", 'a,b\n"1,2\n', "line 2: unexpected end of data"),
        ("a.parquet", "nothing of the kind", "not readable as Parquet"),
        ("a.txt", "text", "cannot tell how the rows are stored"),
    ],
)
def test_a_broken_file_is_refused_by_name_and_line(
    name: str, content: str | bytes, words: str, tmp_path: Path
) -> None:
    message = refusal(tmp_path / name, content)
    assert words in message
    assert str(tmp_path / name) in message
    assert "\n" not in message


def test_an_explicit_format_beats_the_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    write_jsonl(path)
    assert len(read_file(path, DatasetFormat.JSONL).rows) == 2
    assert "cannot tell" in refusal(path, "{}", DatasetFormat.HF)


def test_a_missing_file_is_refused_with_what_to_check(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"--dataset-path .*none.jsonl: no such file"):
        read_file(tmp_path / "none.jsonl")
    with pytest.raises(DatasetError, match=r"or hf://org/rows for the Hub"):
        read(DatasetConfig(path="org/rows"))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.bin").write_bytes(b"\0")
    with pytest.raises(DatasetError, match="not a folder that `datasets` can read"):
        read_file(tmp_path / "folder")


def test_splits_without_train_are_refused_with_what_makes_a_file_of_one(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict, load_from_disk

    folder = str(tmp_path / "splits")
    DatasetDict({name: Dataset.from_list(TWO) for name in ("sft", "test")}).save_to_disk(folder)
    with pytest.raises(DatasetError, match="splits sft, test and no `train` among them") as caught:
        read_file(Path(folder))
    command = f"load_from_disk({folder!r})['sft'].to_json('train.jsonl')"
    assert str(caught.value).endswith(f"in Python: datasets.{command}")
    load_from_disk(folder)["sft"].to_json(tmp_path / "train.jsonl")
    assert len(read_file(tmp_path / "train.jsonl").rows) == len(TWO)


def test_a_data_set_of_several_parts_is_refused_with_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    parts = "".join(f"- config_name: {n}\n  data_files: {n}.jsonl\n" for n in ("easy", "hard"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{parts}---\n")
    for name in ("easy", "hard"):
        write_jsonl(folder / f"{name}.jsonl")
    with pytest.raises(DatasetError, match=r"has several parts \('easy', 'hard'\)") as caught:
        read_file(folder)
    assert f"load_dataset('{folder}', 'easy', split='train')" in str(caught.value)
    assert "network" not in str(caught.value)


def test_a_picture_that_is_somewhere_else_is_not_fetched(tmp_path: Path) -> None:
    from datasets import Dataset, Features, Image, List, Value
    from pyarrow import parquet

    place = {"bytes": None, "path": "http://127.0.0.1:9/latest/meta-data"}
    stored = {"bytes": Value("binary"), "path": Value("string")}
    rows = [{**row, "picture": place, "more": [{"of": place}]} for row in TWO]
    written = {"text": Value("string"), "picture": stored, "more": List({"of": stored})}
    read_as = {**written, "picture": Image(), "more": List({"of": Image()})}
    found = Dataset.from_list(rows, Features(written)).cast(Features(read_as))
    (tmp_path / "folder").mkdir()
    table = found.data.table.cast(found.features.arrow_schema)
    parquet.write_table(table, tmp_path / "folder" / "rows.parquet")
    assert [row.data["text"] for row in read_file(tmp_path / "folder").rows] == [
        row["text"] for row in TWO
    ]


OWN = {"data_files": [{"split": "train", "path": ["data/*.jsonl"]}]}


@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize(
    "place",
    [
        {"data_files": "http://169.254.169.254/latest/meta-data.jsonl"},
        {"data_files": [{"split": "train", "path": ["/proc/self/environ"]}]},
        {"data_files": {"train": "../rows.jsonl"}},
        {"data_dir": "file:///etc"},
        OWN,
    ],
)
def test_a_data_set_takes_its_rows_from_nowhere_else(
    tmp_path: Path, card: str, place: dict[str, Any]
) -> None:
    """Nobody is asked: no address is fetched from inside a cluster because data say so."""
    folder = tmp_path / "folder"
    (folder / "data").mkdir(parents=True)
    write_jsonl(folder / "data" / "rows.jsonl")
    write_jsonl(tmp_path / "rows.jsonl")
    told = yaml.safe_dump({"configs": [{"config_name": "default", **place}]})
    (folder / card).write_text(f"---\n{told}---\n" if card.endswith(".md") else told)
    if place is OWN:
        assert len(read_file(folder).rows) == len(TWO)
        return
    with pytest.raises(DatasetError, match=f"its {card} takes rows from .*not in the data set"):
        read_file(folder)


@pytest.mark.parametrize("leads", ["from the state", "from the splits"])
def test_a_saved_data_set_has_its_rows_with_it(tmp_path: Path, leads: str) -> None:
    import datasets

    own, other = tmp_path / "own", tmp_path / "other"
    whole = datasets.Dataset.from_list(TWO)
    whole.save_to_disk(str(other))
    if leads == "from the state":
        whole.save_to_disk(str(own))
        state = json.loads((own / "state.json").read_text())
        state["_data_files"] = [{"filename": str(other / "data-00000-of-00001.arrow")}]
        (own / "state.json").write_text(json.dumps(state))
    else:
        own.mkdir()
        (own / "dataset_dict.json").write_text(json.dumps({"splits": ["../other"]}))
    with pytest.raises(DatasetError, match=r"takes rows from .*other.*, which is not in the data"):
        read_file(own)


# The library leaves the archive open when it is stopped.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("through", ["a link", "a path"])
def test_an_archive_reads_and_writes_nothing_elsewhere(tmp_path: Path, through: str) -> None:
    """`datasets` unpacks what is one by any name, and takes `s/../x` for `x`, be `s` a link."""
    elsewhere = tmp_path / "elsewhere"
    way = "s/" * 20 + "../" * 20 + str(elsewhere).lstrip("/")
    link = tarfile.TarInfo("secrets.txt" if through == "a link" else "s")
    link.type, link.linkname = tarfile.SYMTYPE, way if through == "a link" else "."
    (tmp_path / "folder").mkdir()
    with tarfile.open(tmp_path / "folder" / "rows.txt", "w") as archive:
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("rows.txt" if through == "a link" else way))
    with pytest.raises(DatasetError, match=f"an archive in it has '{link.name}', which is a link"):
        read_file(tmp_path / "folder")
    assert not elsewhere.exists()


def test_a_card_that_is_a_riddle_is_read_in_no_time(tmp_path: Path) -> None:
    lines = "".join(f"  a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    riddle = f"x:\n  a0: &a0 [http://a]\n{lines}configs:\n- data_files: *a59\n"
    (tmp_path / "README.md").write_text(f"---\n{riddle}---\n")
    with pytest.raises(DatasetError, match="takes rows from 'http://a'"):
        read_file(tmp_path)


def test_the_hub_without_a_network_is_refused_with_a_remedy() -> None:
    with pytest.raises(DatasetError, match=r"hf://org/none: cannot be loaded: .*local file"):
        read(DatasetConfig(path="hf://org/none"))


def test_a_pipe_is_no_data_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DatasetError, match="not a regular file"):
        read_file(tmp_path / "pipe.jsonl")
