"""What rows are taken for, and which are refused."""

import json
from typing import Any

import pytest

from finetuning.api.hyperparameters import Objective
from finetuning.api.run_config import DatasetConfig
from finetuning.artifacts.failures import DatasetError
from finetuning.base.bad_rows import settle
from finetuning.dataset.rows import Row, Rows, explain
from finetuning.dataset.shapes import Chat, Completion, Sample, Text, interpret

ASK = {"role": "user", "content": "Why?"}
ANSWER = {"role": "assistant", "content": "Because."}
SYSTEM = {"role": "system", "content": "Be brief."}
CHAT = Chat([ASK, ANSWER])
CALLING = Chat([ASK, ANSWER], [{"name": "f"}])


def rows(*data: dict[str, Any]) -> Rows:
    return Rows("data.jsonl", "line", [Row(n, row) for n, row in enumerate(data, start=1)])


def accepted(data: Rows, objective: Objective = Objective.SFT) -> list[Sample]:
    """All samples; raises DatasetError where a row is bad, as a run does unless told otherwise."""
    found, samples = interpret(data, objective)
    settle(found, DatasetConfig(path=data.source))
    return list(samples)


@pytest.mark.parametrize(
    ("row", "sample"),
    [
        ({"messages": [ASK, ANSWER]}, CHAT),
        (
            {"messages": [ASK, ANSWER], "tools": [{"name": "f"}]},
            Chat([ASK, ANSWER], [{"name": "f"}]),
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "Why?"},
                    {"from": "gpt", "value": "Because."},
                ]
            },
            CHAT,
        ),
        ({"conversations": [ASK, ANSWER]}, CHAT),
        (
            {
                "messages": [
                    {"from": "human", "value": "Why?"},
                    {"from": "gpt", "value": "Because."},
                ]
            },
            CHAT,
        ),
        ({"conversations": json.dumps([ASK, ANSWER]), "tools": ""}, CHAT),
        ({"messages": json.dumps([ASK, ANSWER]), "tools": '[{"name": "f"}]'}, CALLING),
        (
            {"system": "Be brief.", "conversations": [ASK, ANSWER]},
            Chat([SYSTEM, ASK, ANSWER]),
        ),
        ({"messages": [ASK, ANSWER], "tools": '[{"name": "f"}]'}, CALLING),
        ({"messages": [ASK, ANSWER], "tools": ['{"name": "f"}']}, CALLING),
        ({"messages": [ASK, ANSWER], "tools": " "}, CHAT),
        ({"messages": [ASK, ANSWER], "tools": "[]", "system": ""}, CHAT),
        ({"conversations": [ASK, ANSWER], "tools": [{"name": "f"}]}, CALLING),
        ({"system": "Be brief.", "messages": [ASK, ANSWER]}, Chat([SYSTEM, ASK, ANSWER])),
        ({"system": "Be brief.", "messages": [SYSTEM, ASK, ANSWER]}, Chat([SYSTEM, ASK, ANSWER])),
        (
            {"system": "Be brief.", "prompt": [ASK], "completion": [ANSWER]},
            Chat([SYSTEM, ASK, ANSWER]),
        ),
        ({"instruction": "Why?", "output": "Because."}, CHAT),
        ({"instruction": "Why?", "input": "", "output": "Because."}, CHAT),
        ({"instruction": "Why?", "response": "Because.", "context": None}, CHAT),
        (
            {"instruction": "Sum", "input": "1 2", "output": "3"},
            Chat(
                [{"role": "user", "content": "Sum\n\n1 2"}, {"role": "assistant", "content": "3"}]
            ),
        ),
        (
            {"system": "Be brief.", "instruction": "Why?", "output": "Because."},
            Chat([SYSTEM, ASK, ANSWER]),
        ),
        (
            {"messages": [{"role": "user", "content": [{"text": "Wh"}, {"text": "y?"}]}, ANSWER]},
            CHAT,
        ),
        ({"prompt": "Why? ", "completion": "Because."}, Completion("Why? ", "Because.")),
        ({"prompt": [ASK], "completion": [ANSWER]}, CHAT),
        ({"prompt": json.dumps([ASK]), "completion": json.dumps([ANSWER])}, CHAT),
        ({"prompt": "[1, 2]", "completion": '["x"]'}, Completion("[1, 2]", '["x"]')),
        ({"text": "Once."}, Text("Once.")),
        ({"id": 1, "text": "Once.", "messages": None}, Text("Once.")),
        ({"instruction": "only a note", "text": "Once."}, Text("Once.")),
    ],
)
def test_the_columns_tell_the_shape(row: dict[str, Any], sample: Sample) -> None:
    assert accepted(rows(row)) == [sample]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "Why?", "answer": "Because."}, "columns found (answer, question)"),
        ({}, "columns found (none)"),
        ({"prompt;completion": "a;b"}, "columns are divided by ';' must be saved with commas"),
        ({"question": "Why?", "answer": "Because."}, "--dataset-columns (prompt=question"),
        ({"prompt": "a", "completion": "b", "label": False}, "`label` is false: an answer that"),
        ({"prompt": "a", "completion": "b", "label": "False"}, "`label` is false: an answer that"),
        ({"instruction": "Why?"}, "cannot train on the columns found (instruction)"),
        ({"messages": [], "tools": [1]}, "with a turn at least"),
        ({"messages": [ASK, ANSWER], "tools": "find(x)"}, "as JSON in a text, found 'find(x)'"),
        ({"messages": [ASK, ANSWER], "tools": {"name": "f"}}, "must be a list of descriptions"),
        ({"messages": [ASK, ANSWER], "tools": ["find"]}, "must be a list of descriptions"),
        ({"messages": [SYSTEM, ASK, ANSWER], "system": "Be long."}, "keep one of them"),
        ({"messages": [ASK, {**ANSWER, "weight": 0}]}, "every assistant's turn has `weight` 0"),
        ({"messages": [ASK, {**ANSWER, "weight": 0.5}]}, "`weight` must be 1, or 0"),
        ({"messages": "Why?"}, "must be a list"),
        ({"messages": [ASK]}, "no assistant's turn"),
        ({"messages": [ANSWER]}, "a user's turn must come before"),
        (
            {"messages": [ASK, {"role": "assistant", "content": " "}]},
            "message 2: the assistant says",
        ),
        ({"messages": [ASK, {"role": "bot", "content": "x"}]}, "unknown role 'bot'; known: system"),
        (
            {"messages": [{"role": "user", "content": 3}, ANSWER]},
            "message 1: `content` must be text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]},
            "message 1: `content` must be text, or a list of parts with text alone, found list",
        ),
        ({"messages": [{"role": "user", "content": None}, ANSWER]}, "message 1: no `content`"),
        ({"conversations": [{"from": "human"}, ANSWER]}, "message 1: no `content`"),
        (
            {"messages": [ASK, {**ANSWER, "tool_calls": 5}]},
            "message 2: `tool_calls` must be a list of calls, found int",
        ),
        ({"messages": ["Why?", ANSWER]}, "message 1: expected {role, content}, found str"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "unknown speaker 'robot'"),
        ({"prompt": [ASK], "completion": "Because."}, "must be a list of messages"),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_refused(row: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        accepted(rows(row))
    assert words in str(caught.value)
    assert str(caught.value).startswith("data.jsonl: line 1: ")


HALF = "Yes \ud83d"
"""As JSON gives it that was cut within an emoji."""


@pytest.mark.parametrize(
    "row",
    [
        {"text": HALF},
        {"prompt": HALF, "completion": "x"},
        {"instruction": "Why?", "output": HALF},
        {"messages": [ASK, {"role": "assistant", "content": HALF}]},
        {"messages": [ASK, ANSWER], "tools": [{"name": "f", "description": HALF}]},
    ],
)
def test_half_a_character_is_refused_wherever_it_would_be_trained(row: dict[str, Any]) -> None:
    with pytest.raises(DatasetError) as caught:
        accepted(rows(row))
    said = "holds half a character, the last in 'Yes \\ud83d'"
    assert str(caught.value).startswith(f"data.jsonl: line 1: {said}")
    assert str(caught.value).isascii()


def test_half_a_character_in_a_column_that_is_not_read_is_no_fault() -> None:
    assert accepted(rows({"text": "Once.", "note": HALF})) == [Text("Once.")]


def test_a_label_that_is_no_verdict_is_not_read() -> None:
    for label in (True, "b", 0):
        row = {"prompt": "a", "completion": "b", "label": label}
        assert accepted(rows(row)) == [Completion("a", "b")]


def test_half_a_character_in_a_pair_is_refused() -> None:
    with pytest.raises(DatasetError, match="half a character"):
        accepted(rows({"prompt": "a", "chosen": HALF, "rejected": "b"}), Objective.DPO)


def test_pairs_with_the_prompt_inside_of_the_texts_are_refused_with_what_to_do() -> None:
    row = {"chosen": "Human: a\n\nAssistant: b", "rejected": "Human: a\n\nAssistant: c"}
    with pytest.raises(DatasetError, match=r"as in hh-rlhf.* divide each row into `prompt`"):
        accepted(rows(row), Objective.DPO)


def test_known_shapes_are_listed_for_unknown_columns() -> None:
    with pytest.raises(DatasetError, match=r"messages .* instruction.* prompt, completion \| text"):
        accepted(rows({"a": "b"}))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"instruction": "Why?", "output": ""}, "line 2: `output` is missing or empty"),
        ({"instruction": "Why?", "output": None}, "line 2: `output` is missing or empty"),
        ({"instruction": "Why?", "output": 4}, "line 2: `output` must be text, found int"),
        ({"instruction": " ", "output": "x"}, "line 2: `instruction` is missing or empty"),
        ({"text": "of another shape"}, "line 2: `instruction` is missing or empty"),
    ],
)
def test_every_row_must_have_what_the_first_one_has(row: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        accepted(rows({"instruction": "Why?", "output": "Because."}, row))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ({"prompt": "Why?", "completion": None}, "line 1: `completion` is missing or empty"),
        ({"id": 1}, "line 1: `prompt` is missing or empty"),
    ],
)
def test_a_first_row_that_is_bad_is_a_bad_row(first: dict[str, Any], words: str) -> None:
    good = {"prompt": "Why?", "completion": "Because."}
    kept, samples = interpret(rows(first, good))
    assert len(kept.rows) == len(samples) == 1
    assert words in explain(kept)


def test_all_bad_rows_are_counted_and_some_are_named() -> None:
    bad = [{"text": ""} for _ in range(9)]
    with pytest.raises(DatasetError) as caught:
        accepted(rows({"text": "good"}, *bad))
    assert "line 2: every column is empty" in str(caught.value)
    assert "(8 more bad rows: line 3, 4, 5, 6, 7, …)" in str(caught.value)
