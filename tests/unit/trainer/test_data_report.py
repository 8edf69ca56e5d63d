"""Rows by other names, rows that are bad, and what is written about the data."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.conftest import ROWS, TEMPLATE, make_tokenizer, write_rows

from finetuning.api.dataset import DatasetColumns, OnBadRows
from finetuning.api.hyperparameters import Objective
from finetuning.api.run_config import DatasetConfig
from finetuning.artifacts.data_report import DataReport
from finetuning.artifacts.failures import DatasetError
from finetuning.base import data_report
from finetuning.base.app import main
from finetuning.base.bad_rows import settle
from finetuning.base.plan import split_rows
from finetuning.base.reading import Part, RunRows
from finetuning.base.sources import read
from finetuning.dataset.columns import rename
from finetuning.dataset.encode import encode
from finetuning.dataset.rows import BadRow, Row, Rows
from finetuning.dataset.shapes import Text, interpret

QUESTIONS = [{"q": row["instruction"], "a": row["output"], "id": n} for n, row in enumerate(ROWS)]
SKIP = ("--on-bad-rows", "Skip", "--max-bad-row-share", "0.5")


def report_in(folder: Path) -> DataReport:
    return DataReport.model_validate_json((folder / "data_report.json").read_text())


def train(*flags: object) -> int:
    return main([str(flag) for flag in flags])


def some(good: int, bad: int) -> Rows:
    rows = [Row(n, {"text": str(n)}) for n in range(good)]
    return Rows("d.jsonl", "line", rows, tuple(BadRow(good + n, "broken") for n in range(bad)))


def test_columns_are_read_under_the_trainers_names_and_the_others_are_not() -> None:
    rows = Rows("d.jsonl", "line", [Row(1, {"text": "x", "q": "Why?", "a": "So.", "id": 7})])
    renamed = rename(rows, DatasetColumns(prompt="q", completion="a"))
    assert renamed.rows == [Row(1, {"prompt": "Why?", "completion": "So."})]


def test_a_row_without_a_named_column_is_bad_and_says_which_it_has() -> None:
    rows = Rows("d.jsonl", "line", [Row(1, {"q": "Why?", "a": "So."}), Row(2, {"q": "Why?"})])
    renamed = rename(rows, DatasetColumns(prompt="q", completion="a"))
    assert renamed.bad == (BadRow(2, "has no column 'a' for `completion`; its columns: q"),)
    assert [row.line for row in renamed.rows] == [1]


def test_a_column_that_may_be_empty_may_be_absent() -> None:
    rows = Rows("d.jsonl", "line", [Row(1, {"q": "Why?", "a": "So."})])
    columns = DatasetColumns(instruction="q", input="context", output="a")
    (row,) = rename(rows, columns).rows
    assert row.data == {"instruction": "Why?", "input": None, "output": "So."}


@pytest.mark.parametrize(
    ("policy", "share", "bad", "words"),
    [
        (OnBadRows.FAIL, 1.0, 1, "d.jsonl: line 9: broken"),
        (OnBadRows.SKIP, 0.1, 1, None),
        (OnBadRows.SKIP, 0.1, 2, "2 of 11 rows are bad, more than maxBadRowShare 0.1 allows"),
        (OnBadRows.SKIP, 1.0, 9, None),
    ],
)
def test_the_policy_decides_whether_a_run_goes_on(
    policy: OnBadRows, share: float, bad: int, words: str | None
) -> None:
    config = DatasetConfig(path="d", on_bad_rows=policy, max_bad_row_share=share)
    if words is None:
        settle(some(9, bad), config)
        return
    with pytest.raises(DatasetError) as caught:
        settle(some(9, bad), config)
    assert words in str(caught.value)


def test_nothing_but_bad_rows_is_never_enough() -> None:
    config = DatasetConfig(path="d", on_bad_rows=OnBadRows.SKIP, max_bad_row_share=1)
    with pytest.raises(DatasetError, match="3 of 3 rows are bad, so there is nothing to train on"):
        settle(some(0, 3), config)


def test_bad_rows_of_every_kind_are_left_out_in_order(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"\n"c"\n{"text": ""}\n\n{"text": "d"}\n')
    rows, samples = interpret(read(DatasetConfig(path=str(path))))
    assert [row.line for row in rows.rows] == [1, 6]
    assert len(samples) == 2
    assert [bad.line for bad in rows.bad] == [2, 3, 4]


def test_a_table_with_too_many_cells_in_a_line_is_bad_in_that_line(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("prompt,completion\na,b\nc,d,e\nf,g\n")
    rows = read(DatasetConfig(path=str(path)))
    assert ([row.line for row in rows.rows], [bad.line for bad in rows.bad]) == ([2, 4], [3])


def test_duplicates_are_those_after_the_first() -> None:
    said = [{"text": "a"}, {"text": "b"}, {"text": "a"}, {"text": "a"}]
    rows = Rows("d", "row", [Row(n, data) for n, data in enumerate(said)])
    assert data_report.of_rows(RunRows(Part(rows, []))).duplicate_rows == 2


def test_empty_rows_are_bad_and_counted_and_no_shape_is_taken_from_them(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{}\n{"text": ""}\n{"text": "a", "note": null}\n{"text": " ", "note": "b"}\n')
    found = Part(*interpret(read(DatasetConfig(path=str(path)))))
    report = data_report.of_rows(RunRows(found))
    assert (report.rows, report.bad_rows, report.empty_rows) == (4, 3, 2)
    assert [row.line for row in found.rows.rows] == [3]
    assert "every column is empty" in report.bad[0].problem


def test_a_row_of_which_no_token_is_trained_is_bad(tokenizer: Any) -> None:
    """The end of sequence is missing here, and nothing predicts the first token."""
    rows = Rows("d", "row", [Row(1, {}), Row(2, {})])
    one = tokenizer.decode(tokenizer("x")["input_ids"])
    end, tokenizer.eos_token = tokenizer.eos_token, None
    try:
        found = encode([Text(one), Text("Peru is")], rows, tokenizer, 100)
    finally:
        tokenizer.eos_token = end
    assert [bad.line for bad in found.bad] == [1]
    assert "no token of it would be trained" in found.bad[0].problem


def test_rows_to_evaluate_on_have_a_report_and_those_that_are_trained_are_counted() -> None:
    said = [{"text": "a"}, {"text": "b"}]
    train = Rows("t", "line", [Row(n, data) for n, data in enumerate(said)])
    there = [Row(1, {"text": "b"}), Row(2, {"text": "c"}), Row(3, {"text": "c"})]
    evaluation = Rows("e", "line", there, (BadRow(4, "broken"),))
    report = data_report.of_rows(RunRows(Part(train, []), Part(evaluation, [])))
    assert report.evaluation is not None
    found = report.evaluation
    assert (found.rows, found.bad_rows, found.duplicate_rows, found.trained_rows) == (4, 1, 1, 1)
    assert [entry.line for entry in found.bad] == [4]
    lines = data_report.findings(report)
    assert "1 rows to evaluate on are trained on as well, so that their loss says little" in lines
    assert "1 rows to evaluate on say the same as an earlier one" in lines


PAIR = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}


@pytest.mark.parametrize(
    ("said", "objective", "shape"),
    [
        ([{"messages": [{"role": "user", "content": "Why?"},
                        {"role": "assistant", "content": "So."}]}], Objective.SFT, "conversations"),
        ([ROWS[0]], Objective.SFT, "conversations"),
        ([{"prompt": "Why?", "completion": "So."}], Objective.SFT, "completions"),
        ([{"text": "So."}], Objective.SFT, "texts"),
        ([PAIR], Objective.DPO, "preferences"),
        ([{"text": ""}], Objective.SFT, None),
    ],
)  # fmt: skip
def test_the_report_says_what_rows_are(
    said: list[dict[str, Any]], objective: Objective, shape: str | None
) -> None:
    rows = Rows("d", "row", [Row(n, data) for n, data in enumerate(said)])
    assert data_report.of_rows(RunRows(Part(*interpret(rows, objective)))).shape == shape


def cut_report(cut: int, **more: Any) -> DataReport:
    known = {"source": "d", "unit": "row", "rows": 20, "bad_rows": 0, "duplicate_rows": 0}
    counts = {"train_examples": 15, "eval_examples": 3, "dropped_examples": 2, "cut_examples": cut}
    lengths = {"median": 50, "p95": 90, "max": 99}
    return DataReport.model_validate(
        {**known, **counts, "max_seq_length": 40, "lengths": lengths, **more}
    )


def test_that_nearly_all_examples_were_cut_is_told_with_what_to_do() -> None:
    assert cut_report(17).ends_cut is None
    assert cut_report(0, train_examples=0, eval_examples=0, dropped_examples=0).ends_cut is None
    report = cut_report(18)
    assert report.ends_cut is not None
    assert report.ends_cut.startswith("18 of 20 examples are longer than 40 tokens and were cut")
    assert "raise maxSeqLength (--max-seq-length) to 90" in report.ends_cut
    assert report.ends_cut in data_report.findings(report)
    table = cut_report(18, max_seq_length=512, model_places=64).ends_cut or ""
    assert "longer than 64 tokens" in table
    assert "divide the rows into ones of at most 64 tokens" in table


def test_that_nearly_no_example_has_an_end_is_told_with_what_to_do() -> None:
    assert cut_report(0, endless_examples=17).ends_missing is None
    assert cut_report(0).ends_missing is None
    report = cut_report(0, endless_examples=18)
    assert report.ends_missing is not None
    assert report.ends_missing.startswith("18 of 20 examples end in plain text")
    assert data_report.findings(report)[-1] == report.ends_missing
    assert data_report.warnings_of(report) == [report.ends_missing]


def test_that_beginnings_are_not_trained_is_told_of_any_number() -> None:
    assert cut_report(0).beginnings_joined is None
    report = cut_report(0, joined_examples=1)
    assert report.beginnings_joined is not None
    assert report.beginnings_joined.startswith("in 1 of 20 examples the answer's first token")
    assert data_report.warnings_of(report) == [report.beginnings_joined]


@pytest.mark.parametrize(
    ("template", "endless"),
    [
        (TEMPLATE, 0),
        ("{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}\n{% endfor %}", 0),
        ("{% for m in messages %}{{ m['role'] + ': ' + m['content'] }} ###\n{% endfor %}", 1),
    ],
    ids=["an end", "none, so that one is added", "an end of plain text"],
)
def test_answers_that_end_in_plain_text_are_counted(
    template: str, endless: int, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = "{% if add_generation_prompt %}assistant: {% endif %}"
    monkeypatch.setattr(
        tokenizer, "chat_template", template + ("" if template == TEMPLATE else asks)
    )
    rows, samples = interpret(Rows("d", "row", [Row(1, ROWS[0])]))
    assert encode(samples, rows, tokenizer, 100).endless == endless


@pytest.mark.long
@pytest.mark.training
def test_a_run_without_ends_says_so(tiny_model: Path, rows_file: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    path = model / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|im_end|>", " ###"))
    done = check_data("--model-id", model, "--dataset-path", rows_file, "--output-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "20 of 20 examples end in plain text, without a token that ends a turn" in done.stdout
    written = json.loads((tmp_path / "data_report.json").read_text())
    assert written["ends_missing"] in done.stdout


@pytest.mark.long
@pytest.mark.training
def test_a_run_whose_examples_are_all_cut_says_so(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    flags = ("--model-id", tiny_model, "--dataset-path", rows_file, "--output-dir", tmp_path)
    short = min(lengths(rows_file)) - 1
    done = check_data(*flags, "--max-seq-length", short)
    assert done.returncode == 0, done.stderr
    assert f"20 of 20 examples are longer than {short} tokens and were cut" in done.stdout
    written = json.loads((tmp_path / "data_report.json").read_text())
    assert written["shape"] == "conversations"
    assert written["ends_cut"] in done.stdout
    assert check_data(*flags).returncode == 0
    assert "ends_cut" not in json.loads((tmp_path / "data_report.json").read_text())


@pytest.mark.training
def test_rows_to_evaluate_on_from_a_file_give_the_losses_of_the_same_rows_held_out(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    trained, held_out = split_rows(len(ROWS), 0.2, 42)
    files = [
        write_rows(tmp_path / name, [ROWS[i] for i in numbers])
        for name, numbers in (("t.jsonl", trained), ("e.jsonl", held_out))
    ]
    common = ("--model-id", tiny_model, "--epochs", "2", "--batch-size", "4", "--eval-steps", "3")
    stop = ("--early-stopping-patience", "9")
    share = ("--dataset-path", rows_file, "--eval-split", "0.2", "--output-dir", tmp_path / "a")
    own = ("--dataset-path", files[0], "--eval-source", files[1], "--output-dir", tmp_path / "b")
    assert train(*common, *stop, *share) == 0
    assert train(*common, *stop, *own) == 0
    curves = [(tmp_path / run / "loss_history.jsonl").read_text() for run in ("a", "b")]
    assert curves[0] == curves[1]
    assert '"eval_loss"' in curves[1]
    results = [
        json.loads((tmp_path / run / "training_info.json").read_text())["results"]
        for run in ("a", "b")
    ]
    assert results[0]["best_global_step"] == results[1]["best_global_step"]
    report = report_in(tmp_path / "b")
    assert (report.train_examples, report.eval_examples) == (len(trained), len(held_out))
    write_rows(files[1], ROWS[:3])
    assert train(*common, *stop, *own) == 2


@pytest.mark.long
@pytest.mark.training
def test_a_bad_row_to_evaluate_on_ends_the_run_and_is_named(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    evaluation = tmp_path / "e.jsonl"
    evaluation.write_text(json.dumps(ROWS[0]) + "\n{\n")
    flags = ("--model-id", tiny_model, "--dataset-path", rows_file, "--eval-source", evaluation)
    refused = check_data(*flags, "--output-dir", tmp_path / "out")
    assert refused.returncode == 2
    assert f"{evaluation}: line 2: not valid JSON" in refused.stderr
    found = report_in(tmp_path / "out").evaluation
    assert found is not None
    assert (found.rows, found.bad_rows) == (2, 1)
    done = check_data(*flags, "--output-dir", tmp_path / "out", *SKIP)
    assert done.returncode == 0
    assert "20 examples to train on, 1 held out." in done.stdout
    missing = check_data(*flags[:-1], "none.jsonl", "--output-dir", tmp_path / "out")
    assert "--eval-source none.jsonl: no such file or folder" in missing.stderr


def test_lengths_are_those_of_examples_that_are_there() -> None:
    lengths = data_report.lengths_of([5, 1, 9, 7])
    assert (lengths.median, lengths.p95, lengths.max) == (5, 9, 9)


def test_what_the_template_refuses_is_a_bad_row(tokenizer: Any) -> None:
    refusing = "{% if 'Peru' in messages[0]['content'] %}{{ raise_exception('no') }}{% endif %}"
    before = tokenizer.chat_template
    tokenizer.chat_template = refusing + before
    try:
        said = enumerate(ROWS[:3], start=1)
        rows, samples = interpret(Rows("d", "row", [Row(n, row) for n, row in said]))
        encoded = encode(samples, rows, tokenizer, 100)
    finally:
        tokenizer.chat_template = before
    assert [bad.line for bad in encoded.bad] == [2]
    assert len(encoded.rows) == 2


@pytest.mark.training
def test_a_run_with_other_names_and_bad_rows_learns_from_the_good_ones(
    tiny_model: Path, tmp_path: Path
) -> None:
    clean, dirty = tmp_path / "clean.jsonl", tmp_path / "dirty.jsonl"
    write_rows(clean, ROWS)
    write_rows(dirty, QUESTIONS)
    lines = dirty.read_text().splitlines()
    lines[3:3] = ['{"q": "cut off', '{"q": "no answer"}']
    dirty.write_text("\n".join([*lines, json.dumps(QUESTIONS[0])]))
    common = ("--model-id", tiny_model, "--max-steps", "3", "--batch-size", "2")
    assert train(*common, "--dataset-path", clean, "--output-dir", tmp_path / "a") == 0
    columns = ("--dataset-columns", "instruction=q", "output=a")
    flags = (*common, "--dataset-path", dirty, "--output-dir", tmp_path / "b", *columns)
    assert train(*flags) == 2
    refused = report_in(tmp_path / "b")
    assert (refused.bad_rows, [bad.line for bad in refused.bad]) == (2, [4, 5])
    assert train(*flags, *SKIP) == 0
    written = report_in(tmp_path / "b")
    assert (written.rows, written.bad_rows, written.duplicate_rows) == (23, 2, 1)
    assert (written.train_examples, written.eval_examples) == (21, 0)
    info = json.loads((tmp_path / "b" / "training_info.json").read_text())
    assert info["dataset"]["rows"] == 21
    assert report_in(tmp_path / "a").lengths == written.lengths
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert "data_report.json" in manifest["files"]


def check_data(*flags: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "finetuning.base.app", "--check-data", *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.training
def test_a_check_reads_every_row_and_trains_nothing(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    flags = ("--model-id", tiny_model, "--dataset-path", rows_file, "--eval-split", "0.2")
    done = check_data(*flags, "--output-dir", tmp_path / "out", "--max-seq-length", "30")
    assert done.returncode == 0, done.stderr
    assert "20 rows, 16 examples to train on, 4 held out." in done.stdout
    written = report_in(tmp_path / "out")
    assert written.cut_examples == 20 - sum(length <= 30 for length in lengths(rows_file))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"data_report.json"}
    rows_file.write_text(rows_file.read_text() + "{")
    refused = check_data(*flags, "--output-dir", tmp_path / "out")
    assert refused.returncode == 2
    assert "line 21" in refused.stderr


def lengths(rows_file: Path) -> list[int]:
    tokenizer = make_tokenizer([text for row in ROWS for text in row.values()])
    tokenizer.chat_template = TEMPLATE
    rows, samples = interpret(read(DatasetConfig(path=str(rows_file))))
    return list(encode(samples, rows, tokenizer, 999).lengths)
