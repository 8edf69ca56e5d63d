"""loss_history.jsonl: one line per optimizer step, appended as it happens."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finetuning.artifacts.files import read_bounded, write_atomic
from finetuning.artifacts.models import WireFloat

HISTORY_MAX_BYTES = 1 << 30


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


class HistoryWriter:
    """Appends lines; what a crash tore off is cut away when the file is opened again."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @classmethod
    def open(cls, path: Path, after_step: int) -> Self:
        """Keep the lines up to `after_step` and append from there."""
        kept = [line for line in read_history(path) if line.step <= after_step]
        text = "".join(_to_text(line) for line in kept)
        write_atomic(path, text.encode())
        return cls(path.open("a", encoding="utf-8"))

    def append(self, line: HistoryLine) -> None:
        self._file.write(_to_text(line))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_history(path: Path) -> Iterator[HistoryLine]:
    """The lines in order; an absent file has none, and a torn or foreign line is passed over."""
    if not path.exists():
        return
    for text in read_bounded(path, HISTORY_MAX_BYTES).decode(errors="replace").splitlines():
        try:
            yield HistoryLine.model_validate_json(text)
        except ValidationError:
            continue


def _to_text(line: HistoryLine) -> str:
    return json.dumps(line.model_dump(mode="json", exclude_none=True)) + "\n"
