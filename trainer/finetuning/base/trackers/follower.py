"""Reads the loss history as it grows and hands the new steps to one tracker."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from finetuning.artifacts.history import HistoryLine
from finetuning.base.trackers.memory import Memory
from finetuning.base.trackers.order import Order, Outcome

BATCH = 100
"""Steps handed over at once: six figures each, and MLflow takes a thousand."""

_PIECE = 1 << 16


class Tracker(Protocol):
    """One maker's library. Each call may raise whatever that library raises."""

    def open(self, order: Order, memory: Memory) -> int:
        """Begin the run or go on with it; the last step that the tracker has already."""

    def log(self, lines: Sequence[HistoryLine]) -> None: ...

    def close(self, outcome: Outcome) -> None: ...


class Tail:
    """The whole lines of a growing file, each once; memory is bounded by a piece of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def batches(self) -> Iterator[list[HistoryLine]]:
        """At most BATCH lines at a time. What is not taken is read again by the next call."""
        while piece := self._piece():
            lines = piece.splitlines(keepends=True)[:BATCH]
            yield [line for line in map(_parsed, lines) if line is not None]
            self._offset += sum(map(len, lines))

    def _piece(self) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            piece = file.read(_PIECE)
        return piece[: piece.rfind(b"\n") + 1]


def _parsed(text: bytes) -> HistoryLine | None:
    try:
        return HistoryLine.model_validate_json(text)
    except ValidationError:
        return None


class Follower:
    """Opens the tracker when it first can, and goes on where it was after every failure."""

    def __init__(self, tracker: Tracker, order: Order, history: Path) -> None:
        self._tracker, self._order = tracker, order
        self._tail = Tail(history)
        self._path = order.folder / f"{order.tracker}.json"
        self._memory = Memory.read(self._path)
        self._is_open = False

    def deliver(self) -> None:
        """Hand over what is new; raises what the tracker raises, and nothing is lost then."""
        if not self._is_open:
            self._memory.write(self._path)
            self._memory.step = self._tracker.open(self._order, self._memory)
            self._is_open = True
        for batch in self._tail.batches():
            if new := [line for line in batch if line.step > self._memory.step]:
                self._tracker.log(new)
                self._memory.step = new[-1].step
                self._memory.write(self._path)

    def close(self, outcome: Outcome) -> None:
        """Hand over the rest and say how the run ended; raises what the tracker raises."""
        self.deliver()
        self._tracker.close(outcome)
