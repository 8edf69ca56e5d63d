"""The histories of a run, appended to as it happens: JSON lines.

loss_history.jsonl has one for each optimizer step, performance_history.jsonl one now and then,
samples.jsonl one for each question that the model was asked at an evaluation.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finetuning.artifacts.files import open_bounded, write_atomic
from finetuning.artifacts.models import Amount, Count, WireFloat

HISTORY_MAX_BYTES = 1 << 30
LINE_MAX_BYTES = 1 << 20
"""What is longer than any answer is read in parts, none of which is a line."""


class HistoryLine(BaseModel):
    """One optimizer step, in snake_case; NaN and infinities are the strings of WireFloat."""

    model_config = ConfigDict(extra="ignore")

    step: int = Field(ge=1)
    epoch: float = Field(ge=0)
    loss: WireFloat
    learning_rate: float
    tokens: int = Field(ge=0)
    grad_norm: WireFloat | None = None
    eval_loss: WireFloat | None = None


class PerformanceLine(BaseModel):
    """Means since the line before, and the memory in use; `seconds` of training since its start."""

    model_config = ConfigDict(extra="ignore")

    step: int = Field(ge=1)
    seconds: Amount
    tokens_per_second: Amount
    samples_per_second: Amount
    host_memory_bytes: Count | None = None
    gpu_memory_bytes: Count | None = None


class SampleLine(BaseModel):
    """What the model answered to a held-out prompt, and what the row says there."""

    model_config = ConfigDict(extra="ignore")

    step: int = Field(ge=1)
    number: int = Field(ge=1)
    """Of the question: each evaluation asks the same ones."""
    prompt: str
    expected: str
    answer: str
    cut: bool = False
    """Whether the answer reached the limit of its length."""


Line = TypeVar("Line", HistoryLine, PerformanceLine, SampleLine)


class LineWriter(Generic[Line]):
    """Appends lines; what a crash tore off is cut away when the file is opened again."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @classmethod
    def open(cls, path: Path, after_step: int, kind: type[Line]) -> Self:
        """Keep the lines up to `after_step` and append from there."""
        kept = [line for line in read_lines(path, kind) if line.step <= after_step]
        text = "".join(_to_text(line) for line in kept)
        write_atomic(path, text.encode())
        return cls(path.open("a", encoding="utf-8"))

    def append(self, line: Line) -> None:
        self._file.write(_to_text(line))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def add_eval_loss(path: Path, step: int, loss: float) -> None:
    """Put the loss on the held-out rows into the line of a step, or leave the file as it is.

    Raises:
        OSError: no space left.
    """
    lines = [
        line.model_copy(update={"eval_loss": loss}) if line.step == step else line
        for line in read_history(path)
    ]
    write_atomic(path, "".join(map(_to_text, lines)).encode())


def window_start(step: int, logging_steps: int) -> int:
    """The step after which the window of `logging_steps` steps begins that holds `step`.

    The mean over the window that holds the last step is what is told as a run's loss, wherever it
    is told: by the trainer, in the status, as a metric and in the report of the validation.
    """
    return (step - 1) // logging_steps * logging_steps


def read_history(path: Path) -> Iterator[HistoryLine]:
    """The optimizer steps in order, read as `read_lines` does."""
    return read_lines(path, HistoryLine)


def read_lines(path: Path, kind: type[Line]) -> Iterator[Line]:
    """The lines in order; an absent file has none, and a torn or foreign line is passed over.

    Raises:
        UnreadableFileError: what has that name is no regular file, or too large.
    """
    return (line for line in read_raw_lines(path, kind) if line is not None)


def read_raw_lines(path: Path, kind: type[Line]) -> Iterator[Line | None]:
    """The same with None for a line that cannot be read; one line is in memory at a time."""
    if not path.exists():
        return
    with open_bounded(path, HISTORY_MAX_BYTES) as file:
        while text := file.readline(LINE_MAX_BYTES):
            try:
                yield kind.model_validate_json(text.strip())
            except ValidationError:
                yield None


def _to_text(line: BaseModel) -> str:
    return json.dumps(line.model_dump(mode="json", exclude_none=True)) + "\n"
