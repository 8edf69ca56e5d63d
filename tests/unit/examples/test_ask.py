from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("line", "text", "expected"),
    [
        ('{"prompt": "Who?"}', "Who?", None),
        ('{"prompt": "Who?", "completion": "Me."}', "Who?", "Me."),
        (
            '{"instruction": "Turn it.", "input": "hot", "output": "cold"}',
            "Turn it.\n\nhot",
            "cold",
        ),
        ('{"instruction": "Turn it.", "input": "", "output": "cold"}', "Turn it.", "cold"),
    ],
)
def test_questions_are_read_in_each_shape(
    ask: ModuleType, tmp_path: Path, line: str, text: str, expected: str | None
) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(f"{line}\n\n")
    assert ask.read_questions(path) == [ask.Question(text, expected)]


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("", "is empty"),
        ('{"prompt": "a"}\n{"prompt": ', "line 2: no JSON object"),
        ('{"question": "a"}', "line 1: needs a column `instruction` or `prompt`"),
        ("[1]", "line 1: needs a column"),
    ],
)
def test_a_bad_prompts_file_is_named_with_its_line(
    ask: ModuleType, tmp_path: Path, contents: str, words: str
) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(contents)
    with pytest.raises(ask.AskError, match=words):
        ask.read_questions(path)


def test_the_table_shows_question_and_both_answers(ask: ModuleType) -> None:
    questions = [ask.Question("Who is it?", "Aye! Rosa."), ask.Question("What?", None)]
    text = io.StringIO()
    Console(file=text, width=100).print(
        ask.table(questions, ["Nobody.", "It."], ["Aye! Rosa.", "[b]That."])
    )
    for cell in ("Who is it?", "Nobody.", "Aye! Rosa.", "[b]That."):
        assert cell in text.getvalue()
    assert ask.right(questions, ["Nobody.", "It."]) == 0
    assert ask.right(questions, ["Aye! Rosa.", "It."]) == 1


def test_a_folder_without_a_model_is_refused_at_once(tmp_path: Path) -> None:
    script = ROOT / "examples" / "ask.py"
    done = subprocess.run(
        [sys.executable, script, "--base", tmp_path, "--model", tmp_path, "--prompts", "x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "argument --base" in done.stderr
    assert "config.json" in done.stderr
