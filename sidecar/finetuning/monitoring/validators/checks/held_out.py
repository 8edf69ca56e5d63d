"""Rows that the run has not seen: reading them, and comparing two models by them."""

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.artifacts.files import UnreadableFileError, read_bounded
from finetuning.monitoring.validators.checks.probe import HeldOutRow, RowLoss, Turn

MAX_BYTES = 64 << 20
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
FEWEST_ROWS = 5
"""Below this the spread over the rows says nothing."""

SIGNIFICANT = 1.96
"""Standard errors: less than one in twenty is by chance."""

_ANSWERS = ("output", "response")
_CONTEXTS = ("input", "context")
_COMPLETIONS = ("completion", "response", "chosen")
"""Of two answers to choose from, the better one."""

_SPEAKERS = {"human": "user", "gpt": "assistant"}


@dataclass(frozen=True)
class Comparison:
    """Tuned against base on the same tokens; losses in nats per token."""

    rows: int
    tokens: int
    loss: float
    base_loss: float | None
    standard_error: float | None
    """Of the difference, from its spread over the rows; None for fewer than five."""

    @property
    def perplexity(self) -> float:
        return _exp(self.loss)

    @property
    def base_perplexity(self) -> float | None:
        return None if self.base_loss is None else _exp(self.base_loss)

    @property
    def increase(self) -> float | None:
        """Of the perplexity, as a share of the base model's."""
        return None if self.base_loss is None else _exp(self.loss - self.base_loss) - 1

    @property
    def verdict(self) -> str:
        """better, same or worse than the base model; empty without one."""
        if self.base_loss is None:
            return ""
        difference = self.loss - self.base_loss
        if self.standard_error is None or abs(difference) <= SIGNIFICANT * self.standard_error:
            return "same"
        return "worse" if difference > 0 else "better"


def compare(tuned: Sequence[RowLoss], base: Sequence[RowLoss] | None) -> Comparison | None:
    """Both models have scored the same rows; None where there are none."""
    if not tuned:
        return None
    tokens = sum(row.tokens for row in tuned)
    loss = sum(row.nats for row in tuned) / tokens
    if base is None:
        return Comparison(len(tuned), tokens, loss, None, None)
    base_loss = sum(row.nats for row in base) / tokens
    differences = [one.nats - other.nats for one, other in zip(tuned, base, strict=True)]
    error = _ratio_error(differences, [row.tokens for row in tuned], loss - base_loss)
    return Comparison(len(tuned), tokens, loss, base_loss, error)


def _ratio_error(sums: Sequence[float], counts: Sequence[int], mean: float) -> float | None:
    """Standard error of sum(sums) / sum(counts) where rows, not tokens, are independent.

    The linearised ratio estimator (Cochran, Sampling Techniques, 6.4).
    """
    rows = len(sums)
    if rows < FEWEST_ROWS:
        return None
    squares = sum((part - mean * count) ** 2 for part, count in zip(sums, counts, strict=True))
    return math.sqrt(rows / (rows - 1) * squares) / sum(counts)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf  # noqa: PLR2004 - where a float ends


def read_rows(path: Path, most: int, columns: Mapping[str, str] | None = None) -> list[HeldOutRow]:
    """The first `most` rows of a data file, in any of the trainer's shapes.

    `columns` has the file's names of columns by the trainer's, where they differ.

    Raises:
        UnreadableFileError: no such file, too large, no rows, or a row of no known shape.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UnreadableFileError(f"{path}: is none of {', '.join(SUFFIXES)}")
    text = read_bounded(_behind_links(path), MAX_BYTES).decode("utf-8-sig", errors="replace")
    try:
        items = _items(path, text, most)
        rows = [_row(_renamed(item, columns)) for item in items[:most]]
    except (ValueError, RecursionError, csv.Error) as error:
        raise UnreadableFileError(f"{path}: {error}") from error
    if not rows:
        raise UnreadableFileError(f"{path}: holds no rows")
    return rows


def _behind_links(path: Path) -> Path:
    """The file itself where links stay in its folder, as those of a mounted ConfigMap do."""
    # Path.resolve raises on links that lead in a circle.
    file = Path(os.path.realpath(path))
    return file if file.is_relative_to(os.path.realpath(path.parent)) else path


def _items(path: Path, text: str, most: int) -> list[Any]:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        table = csv.DictReader(io.StringIO(text), delimiter="\t" if suffix == ".tsv" else ",")
        return list(table)[:most]
    if suffix == ".json":
        data = json.loads(text)
        lists = [data] if isinstance(data, list) else []
        lists += [x for x in data.values() if isinstance(x, list)] if isinstance(data, dict) else []
        if len(lists) != 1:
            raise ValueError("expected a JSON list of objects, one per row")
        return list(lists[0])
    lines = [line for line in text.split("\n") if line.strip()]
    return [json.loads(line) for line in lines[:most]]


def _renamed(data: Any, columns: Mapping[str, str] | None) -> Any:
    """A row with the named columns alone; one that lacks any has its own names in the message."""
    if not columns or not isinstance(data, dict):
        return data
    found = {ours: data[theirs] for ours, theirs in columns.items() if theirs in data}
    return found or data


def _row(data: Any) -> HeldOutRow:
    """Raises ValueError naming what is wrong."""
    if not isinstance(data, dict):
        raise ValueError(f"expected an object per row, found {type(data).__name__}")  # noqa: TRY004
    for column in ("messages", "conversations"):
        if data.get(column):
            return _conversation(data[column])
    if data.get("instruction"):
        return _instruction(data)
    if isinstance(data.get("prompt"), list):
        return _conversation([*data["prompt"], *_list(data, _COMPLETIONS)])
    if data.get("prompt"):
        return HeldOutRow(prompt=str(data["prompt"]), completion=_text(data, _COMPLETIONS))
    return HeldOutRow(completion=_text(data, ("text",)))


def _instruction(data: Mapping[str, Any]) -> HeldOutRow:
    context = next((str(data[name]) for name in _CONTEXTS if data.get(name)), "")
    question = f"{data['instruction']}\n\n{context}" if context else str(data["instruction"])
    turns = [Turn(role="user", content=question)]
    if data.get("system"):
        turns.insert(0, Turn(role="system", content=str(data["system"])))
    return HeldOutRow(messages=[*turns, Turn(role="assistant", content=_text(data, _ANSWERS))])


def _conversation(turns: Any) -> HeldOutRow:
    """Up to the assistant's last turn, which is the one that is scored."""
    if not isinstance(turns, list):
        raise ValueError("a conversation must be a list of {role, content}")  # noqa: TRY004
    messages = [_turn(turn) for turn in turns]
    while messages and messages[-1].role != "assistant":
        messages.pop()
    if not messages:
        raise ValueError("a conversation has no assistant's turn")
    return HeldOutRow(messages=messages)


def _turn(turn: Any) -> Turn:
    if not isinstance(turn, dict):
        raise ValueError(f"a turn must be {{role, content}}, found {type(turn).__name__}")  # noqa: TRY004
    role = turn.get("role", turn.get("from"))
    content = turn.get("content", turn.get("value"))
    return Turn(role=_SPEAKERS.get(str(role), str(role)), content=str(content or ""))


def _text(data: Mapping[str, Any], names: tuple[str, ...]) -> str:
    value = next((data[name] for name in names if data.get(name)), None)
    if not isinstance(value, str):
        raise ValueError(f"a row has no {' or '.join(names)}; its columns: {_columns(data)}")  # noqa: TRY004
    return value


def _list(data: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    value = next((data[name] for name in names if data.get(name)), None)
    return value if isinstance(value, list) else []


def _columns(data: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, data))[:10]) or "none"
