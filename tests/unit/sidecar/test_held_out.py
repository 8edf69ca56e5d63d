"""Rows held out: which are read, and what is said of those that cannot be."""

from pathlib import Path

import pytest
from tests.unit.sidecar.judging import RunOf, subject_of

from finetuning.artifacts.files import UnreadableFileError
from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks import model_output
from finetuning.monitoring.validators.checks.held_out_rows import read_rows
from finetuning.monitoring.validators.outcome import Finding
from finetuning.monitoring.validators.settings import (
    HeldOut,
)

ROWS = {
    "a.jsonl": '{"instruction": "Where?", "input": "Peru", "output": "Lima"}\n\n',
    "b.jsonl": '{"messages": [{"role": "user", "content": "Where?"}, '
    '{"role": "assistant", "content": "Lima"}, {"role": "user", "content": "Thanks"}]}',
    "c.json": '[{"conversations": [{"from": "human", "value": "Where?"}, '
    '{"from": "gpt", "value": "Lima"}]}]',
    "d.csv": "prompt,completion\nWhere?,Lima\n",
    "e.jsonl": '{"text": "Lima"}',
    "f.json": '{"data": [{"prompt": [{"role": "user", "content": "Where?"}], '
    '"completion": [{"role": "assistant", "content": "Lima"}]}]}',
}


@pytest.mark.parametrize("name", ROWS)
def test_held_out_rows_have_the_shapes_of_the_trainer(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(ROWS[name])
    (row,) = read_rows(tmp_path / name, 10).rows
    said = [turn["content"] for turn in row.messages if turn["role"] == "assistant"]
    assert (said or [row.completion]) == ["Lima"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", "", "no rows"),
        ("a.jsonl", "[1]", "line 1: expected a JSON object"),
        ("a.jsonl", "{", "line 1: not valid JSON: Expecting"),
        ("a.jsonl", '{"question": "x"}', "the columns found (question)"),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "x"}]}', "no assistant"),
        ("a.json", "{}", "a JSON list"),
        ("a.parquet", "x", "not readable as Parquet"),
        ("a.csv", "", "holds no rows"),
        ("a.txt", "x", "is none of"),
        ("a.jsonl", '{"instruction": "", "output": ""}', "every column is empty"),
        ("a.jsonl", '{"text": "caf\udce9"}', "line 1: not valid UTF-8"),
        ("a.jsonl", "[" * 100_000, "a.jsonl"),
    ],
)
def test_bad_held_out_rows_are_an_error_that_says_why(
    run_of: RunOf, tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text, errors="surrogateescape")
    wanted = HeldOut(source=str(tmp_path / name))
    found = model_output.plan(subject_of(run_of("lora"), held_out=wanted))
    assert isinstance(found, Finding)
    assert (found.reason, found.result) == ("HeldOutUnreadable", CheckResult.ERROR)
    assert words in found.message


def test_a_configmap_is_mounted_with_links_and_others_lead_nowhere(tmp_path: Path) -> None:
    """As kubelet does it: the key leads to ..data, and that to a folder with a time in its name."""
    mount, outside = tmp_path / "heldout", tmp_path / "outside.jsonl"
    (mount / "..2026_01_01").mkdir(parents=True)
    for file in (mount / "..2026_01_01" / "rows.jsonl", outside):
        file.write_text(ROWS["e.jsonl"])
    (mount / "..data").symlink_to("..2026_01_01")
    (mount / "rows.jsonl").symlink_to("..data/rows.jsonl")
    (mount / "other.jsonl").symlink_to(outside)
    (mount / "loop.jsonl").symlink_to("loop.jsonl")
    assert read_rows(mount / "rows.jsonl", 10).rows[0].completion == "Lima"
    for name in ("other.jsonl", "loop.jsonl"):
        with pytest.raises(UnreadableFileError, match="symbolic links"):
            read_rows(mount / name, 10)


def test_only_as_many_rows_as_wished_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(ROWS["e.jsonl"] + "\n" + "not json")
    assert len(read_rows(tmp_path / "a.jsonl", 1).rows) == 1


def test_rows_of_a_configmap_are_read_though_they_are_links(tmp_path: Path) -> None:
    """As kubelet mounts it: the file is a link into a folder that is a link."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "e.jsonl").write_text(ROWS["e.jsonl"])
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "e.jsonl").symlink_to("..data/e.jsonl")
    assert len(read_rows(tmp_path / "e.jsonl", 10).rows) == 1


def test_columns_by_other_names_are_those_that_were_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "Where?", "answer": "Lima", "text": "not this"}')
    (row,) = read_rows(path, 10, {"prompt": "question", "completion": "answer"}).rows
    assert (row.prompt, row.completion) == ("Where?", "Lima")
    with pytest.raises(UnreadableFileError, match="has no column 'gone' for `completion`"):
        read_rows(path, 10, {"prompt": "question", "completion": "gone"})


def test_of_two_answers_the_better_one_is_scored(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "Where?", "chosen": "Lima", "rejected": "Quito"}')
    assert [row.completion for row in read_rows(path, 10).rows] == ["Lima"]


def test_bad_rows_are_left_out_and_told_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = '{"instruction": "Where?", "output": "Lima"}'
    path.write_text(f'{good}\n\n{{"instruction": "", "output": ""}}\n{good}\nno JSON\n{good}\n')
    found = read_rows(path, 10)
    assert len(found.rows) == 3
    assert [problem.partition(" (")[0][:60] for problem in found.problems] == [
        f"{path}: line 3: every column is empty; fill it or remove the row"[:60],
        f"{path}: line 5: not valid JSON: Expecting value"[:60],
    ]
    assert len(read_rows(path, 2).rows) == 1, "the first rows, whatever they are"


def test_rows_of_any_length_and_files_of_any_size_are_read(tmp_path: Path) -> None:
    long = "x " * 100_000
    (tmp_path / "a.csv").write_text(f'prompt,completion\nWhere?,"{long}"\n')
    assert read_rows(tmp_path / "a.csv", 10).rows[0].completion == long
    large = tmp_path / "large.jsonl"
    with large.open("w") as file:
        file.write(ROWS["e.jsonl"] + "\n")
        file.truncate(1 << 40)  # Without a byte of it on the disk.
    assert len(read_rows(large, 1).rows) == 1
    whole = tmp_path / "large.json"
    with whole.open("w") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnreadableFileError, match=r"larger than 268435456 bytes; save it as"):
        read_rows(whole, 1)


def test_json_lines_by_another_name_and_parquet_are_read(tmp_path: Path) -> None:
    from pyarrow import Table, parquet  # noqa: PLC0415 - takes seconds

    (tmp_path / "a.json").write_text(ROWS["e.jsonl"] + "\n" + ROWS["e.jsonl"])
    assert len(read_rows(tmp_path / "a.json", 10).rows) == 2
    parquet.write_table(Table.from_pylist([{"text": "Lima"}] * 3), tmp_path / "a.parquet")
    assert len(read_rows(tmp_path / "a.parquet", 2).rows) == 2
