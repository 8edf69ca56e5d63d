"""What the page says, from files as they are written, files that are missing, and hostile ones."""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from finetuning.report.files import read
from finetuning.report.page import page

MADE = datetime(2026, 1, 1, 12, tzinfo=UTC)
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Document(HTMLParser):
    """The elements of a page, and its text; well-formed, or it fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.parts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.parts).split())


def document(folder: Path) -> Document:
    return Document(page(read(folder), MADE, "1.2.3"))


def test_a_finished_run_is_told_whole(finished: Path) -> None:
    text = document(finished).text
    for expected in (
        "finished-run lora · org/base-7b Training succeeded 1/2 checks passed",
        "Training loss 0.5012 nats per token",
        "Optimizer steps 2,000 of 2,000",
        "Time 8m20s training alone",
        "Throughput 2,050 tokens per second",
        "Pass training_loss Loss: 0.5012 0.5012",
        "Fail model_output KeywordsMissing: no Rosa",
        "Skip aim_profile (not required)",
        "Who is the captain? I do not know. Aye! The captain is Rosa. Rosa, Aye",
        "Prompt In the data After step 200 After step 1,200 After step 2,000",
        "Question 2? In Lima. answer of step 200 … answer of step 1200 answer of step 2000",
        "path train.jsonl rows 12,000 eval examples 600 bad rows 0 duplicate rows 2",
        "trained tokens 33% tokens read in all epochs 1,024,000",
        "learning rate 0.0001 target modules q_proj, v_proj",
        "started 2033-05-18 03:33:20 UTC",
        "device AMD Instinct MI300X torch 2.9.0",
        "validated this very result",
        "adapter_model.safetensors 3,000,000",
        "Made 2026-01-01 12:00 UTC by finetuning-operator 1.2.3.",
    ):
        assert expected in text
    assert hashlib.sha256((finished / "manifest.json").read_bytes()).hexdigest() in text
    assert "not recorded" not in text
    assert "Not read" not in text


def test_every_figure_has_a_chart_with_axis_and_unit(finished: Path) -> None:
    labels = [v for k, v in document(finished).attributes if k == "aria-label"]
    assert labels == [
        "Loss, nats per token",
        "Loss, nats per token",
        "Learning rate, per step",
        "Gradient norm, before clipping",
        "Throughput, tokens per second",
        "Memory in use, GB",
    ]


def test_a_running_run_says_what_is_not_there_yet(make_run: Any) -> None:
    text = document(make_run("young", 30, done=False)).text
    assert "Training running Not validated" in text
    assert "Optimizer steps 30 of 2,000" in text
    assert "There is no validation report: validation/validation_report.json is not there." in text
    assert "There is no sealed result: manifest.json is not there." in text


def test_an_unfinished_run_tells_what_it_was_begun_with(make_run: Any) -> None:
    folder = make_run("stopped", 30, done=False)
    began = {
        "model_id": "org/base-7b",
        "job_name": "stopped",
        "method": "qlora",
        "training_config": {"learning_rate": 1e-4},
        "dataset": {"path": "/secret/place/train.jsonl", "rows": 12000},
        "environment": {"device": "AMD Instinct MI300X", "torch": "2.9.0"},
        "started_at": 2e9,
    }
    (folder / "run.json").write_text(json.dumps(began))
    text = document(folder).text
    for expected in (
        "stopped qlora · org/base-7b Training running",
        "path train.jsonl rows 12,000",
        "learning rate 0.0001",
        "started 2033-05-18 03:33:20 UTC device AMD Instinct MI300X torch 2.9.0",
        "Throughput 2,048 tokens per second",
        "Not read: training_info.json is not there;",
    ):
        assert expected in text
    assert "secret" not in text


def lone_trainer(folder: Path, silent: float) -> Path:
    """Left by a trainer that wrote a word and then one sign of life, `silent` seconds ago."""
    now = MADE.timestamp()
    state = {"state": "training", "updatedAt": now - 600, "seq": 3, "step": 30, "totalSteps": 90}
    (folder / "state").mkdir()
    (folder / "state" / "rank-0.json").write_text(json.dumps(state))
    gpus = {"gpus": [], "updatedAt": now - silent}
    (folder / "state" / "gpus.json").write_text(json.dumps(gpus))
    (folder / "status.json").unlink()
    return folder


def test_a_run_without_a_sign_of_life_is_not_called_running(make_run: Any) -> None:
    text = document(lone_trainer(make_run("killed", 30, done=False), 360)).text
    assert "Training stopped: no sign of life for 6m0s Not validated" in text
    assert "Optimizer steps 30 of 90" in text
    left = make_run("left", 30, done=False)
    (left / ".run.lock").write_text("4194305\n")  # Above any process number of Linux.
    assert "Training stopped: its process is gone" in document(left).text
    text = document(lone_trainer(make_run("slow", 30, done=False), 6)).text
    assert "Training running Not validated" in text


def test_the_held_out_loss_is_that_of_the_result(make_run: Any) -> None:
    """Early stopping keeps the best weights, which need not be the last that were evaluated."""
    folder = make_run("early")
    path = folder / "training_info.json"
    info = json.loads(path.read_text())
    told = {"eval_loss": 0.4321, "best_eval_loss": 0.4321, "best_global_step": 1200}
    path.write_text(json.dumps(info | {"results": info["results"] | told | {"global_step": 2000}}))
    expected = "Held-out loss 0.4321 nats per token, of step 1,200, which was kept"
    assert expected in document(folder).text


def test_a_failed_run_begins_with_the_reason(tmp_path: Path) -> None:
    status = {"phase": "Failed", "reason": "DatasetInvalid", "message": "line 17 is no JSON"}
    (tmp_path / "status.json").write_text(json.dumps(status))
    text = document(tmp_path).text
    assert "Training failed Not validated DatasetInvalid line 17 is no JSON" in text
    assert text.count("not recorded") == 5 + 5 + 1  # curves, figures, method


def test_what_was_wrong_with_the_data_is_told(make_run: Any) -> None:
    folder = make_run("dirty", 30)
    bad = [{"line": 17, "problem": "not valid JSON <b>"}]
    report = {"source": "d.jsonl", "unit": "line", "rows": 20, "bad_rows": 1, "duplicate_rows": 3,
              "bad": bad, "tokens": 200, "trained_tokens": 50,
              "lengths": {"median": 9, "p95": 20, "max": 31}}  # fmt: skip
    (folder / "data_report.json").write_text(json.dumps(report))
    text = document(folder).text
    assert "bad rows 1 duplicate rows 3" in text
    assert "tokens in an example median 9, 95% at most 20, longest 31" in text
    assert "trained tokens 25%" in text
    assert "Rows that were left out Place Problem line 17 not valid JSON <b>" in text


def test_that_hardly_any_end_is_trained_is_told_at_the_top(make_run: Any) -> None:
    folder = make_run("cut", 30)
    report = {"source": "d.jsonl", "unit": "line", "rows": 20, "bad_rows": 0, "duplicate_rows": 0,
              "train_examples": 20, "eval_examples": 0, "cut_examples": 20, "max_seq_length": 64,
              "lengths": {"median": 90, "p95": 120, "max": 131}}  # fmt: skip
    (folder / "data_report.json").write_text(json.dumps(report))
    text = document(folder).text
    assert "Rows were cut 20 of 20 examples are longer than 64 tokens" in text
    assert "raise maxSeqLength (--max-seq-length) to 120" in text
    (folder / "data_report.json").write_text(
        json.dumps({**report, "cut_examples": 17, "endless_examples": 19, "joined_examples": 1})
    )
    text = document(folder).text
    assert "Rows were cut" not in text
    assert "Beginnings are not trained in 1 of 20 examples the answer's first token" in text
    assert "No end is trained 19 of 20 examples end in plain text" in text


def test_a_result_that_is_not_the_validated_one_is_told(make_run: Any) -> None:
    folder = make_run("changed", 30)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    assert "validated another result than this one" in document(folder).text


def test_the_page_needs_nothing_but_itself(finished: Path) -> None:
    text = page(read(finished), MADE, "1")
    assert not re.search(r"https?:|//|url\(|@import|<script|<link|<iframe|<object", text)
    (policy,) = re.findall(r'content="(default-src[^"]*)"', text)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}';" in policy


ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "section", "footer"),
    *("h1", "h2", "h3", "p", "span", "strong", "code", "details", "summary"),
    *("dl", "div", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td"),
    *("figure", "figcaption", "svg", "line", "text", "polygon", "polyline", "circle", "rect"),
}


def test_hostile_text_stays_text(hostile: Path, finished: Path) -> None:
    found = document(hostile)
    assert set(found.tags) <= ALLOWED
    handlers = {name for name, _ in found.attributes if name.startswith("on") or name == "style"}
    assert handlers == set()
    assert {name for name, _ in found.attributes} <= {
        *(name for name, _ in document(finished).attributes),
        "role",
    }
    assert "<script>document.title='value'</script>" in found.text
    assert "<script>document.title='answer'</script>" in found.text
    assert not set("\x00\x1b\u202e\ufeff") & set(found.text)


NO_JSON = [b"", b"{", bytes(range(256)) * 99, b"[" * 99_999, b"7", b"null", b'"x"', b"[1]"]
NAMES = [
    "status.json",
    "training_info.json",
    "aim_profile.json",
    "loss_history.jsonl",
    "performance_history.jsonl",
    "samples.jsonl",
    "data_report.json",
    "manifest.json",
    "validation/validation_report.json",
    "state/rank-0.json",
]
WRONG = {
    "results": {"final_loss": "x", "train_runtime": 1e308, "total_steps": [], "tokens_total": {}},
    "dataset": [1, 2],
    "environment": "no",
    "training_config": {"a": {"b": [[[]]]}, "c": -(10**30), "d": True, "e" * 999: "f" * 9999},
    "started_at": 1e300,
    "finished_at": "yesterday",
    "job_name": ["a"],
    "method": 1,
    "model_id": {"x": 1},
}


@pytest.mark.parametrize("data", NO_JSON, ids=lambda data: repr(data[:8]))
def test_files_that_hold_something_else_are_named(data: bytes, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    text = document(tmp_path).text
    assert "Not started" in text
    for name in NAMES:
        assert name in text


def test_wrong_values_in_right_places_are_left_out(make_run: Any) -> None:
    folder = make_run("wrong", 3)
    (folder / "training_info.json").write_text(json.dumps(WRONG))
    text = document(folder).text
    assert "Throughput — not recorded" in text
    assert "Training succeeded" in text
    assert len(text) < 20_000


EXTREMES = [
    '"NaN"', '"Infinity"', '"-Infinity"', "1e308", "-1e308", "5e-324", "0", "-0.0", "1e-9",
]  # fmt: skip


@pytest.mark.parametrize("one", EXTREMES)
@pytest.mark.parametrize("two", EXTREMES)
def test_no_figure_breaks_the_charts(one: str, two: str, tmp_path: Path) -> None:
    known = '{{"step": {}, "epoch": 1, "tokens": 1, '
    line = known + '"loss": {}, "learning_rate": {}, "grad_norm": {}}}\n'
    rate = one if one[0] != '"' else "0.1"
    text = line.format(1, one, rate, two) + line.format(10**30, two, rate, one)
    text += line.format(7, two, rate, one)
    (tmp_path / "loss_history.jsonl").write_text(text)
    found = document(tmp_path)
    places = [value for name, value in found.attributes if name not in {"class", "aria-label"}]
    assert not [value for value in places if re.search(r"\b(nan|inf)\b", value)]
    assert len(found.text) < 4000


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path, finished: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("status.json", "training_info.json", "loss_history.jsonl"):
        (folder / name).symlink_to(finished / name)
    text = document(folder).text
    assert "Not started" in text
    assert "org/base-7b" not in text


def test_steps_done_again_after_a_resume_count_once(tmp_path: Path) -> None:
    line = '{{"step": {}, "epoch": 1, "loss": {}, "learning_rate": 0.1, "tokens": 1}}\n'
    steps = [(1, 9), (2, 8), (3, 7), (2, 6), (3, 5)]
    text = "".join(line.format(step, loss) for step, loss in steps)
    (tmp_path / "loss_history.jsonl").write_text(text)
    assert [(x.step, x.loss) for x in read(tmp_path).history] == [(1, 9), (2, 6), (3, 5)]
