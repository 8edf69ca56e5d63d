"""Sides that take turns step by step: what makes the machine slow for a while, slows all of them.

Only one of them computes at a time. A side that has loaded its model waits for its first turn.
"""

import select
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import IO, Any

_WORD = b"."


class Turns:
    """A side's own view: wait, take some steps, tell that they are done."""

    def __init__(self, address: str, steps: int) -> None:
        """`address` is one of `listening`; without it there is nothing to wait for."""
        self._steps, self._begun = steps, 0
        self._line: socket.socket | None = None
        if address:
            self._line = socket.socket(socket.AF_UNIX)
            self._line.connect(address)

    def wait(self) -> None:
        """Raises EOFError where nobody gives turns any more."""
        if self._line is not None and self._begun % self._steps == 0:
            self._line.sendall(_WORD)
            if not self._line.recv(1):
                raise EOFError("the bench has ended")
        self._begun += 1


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """A place for sides to come to; it needs no file, and there is one by its name."""
    with socket.socket(socket.AF_UNIX) as place:
        place.bind(address)
        place.listen()
        yield place


def take(place: socket.socket, starts: Mapping[str, Callable[[], IO[str]]]) -> None:
    """Start one side after the other, then give turns until all have ended.

    `starts` begins a side and returns where it answers when it has ended; one that ends before its
    first step has none.
    """
    with ExitStack() as stack:
        lines = [
            stack.enter_context(line)
            for start in starts.values()
            if (line := _arrived(place, start())) is not None
        ]
        while lines:
            lines = [line for line in lines if _took_a_turn(line)]


def _arrived(place: socket.socket, answers: IO[str]) -> socket.socket | None:
    """The line to a side that is ready for its first step; None when it has ended before."""
    both: list[Any] = [place, answers]
    while place in select.select(both, [], [])[0]:
        line = place.accept()[0]
        if line.recv(1):
            return line
        line.close()
    return None


def _took_a_turn(line: socket.socket) -> bool:
    """Whether it wants another one."""
    try:
        line.sendall(_WORD)
        return bool(line.recv(1))
    except ConnectionError:
        return False
