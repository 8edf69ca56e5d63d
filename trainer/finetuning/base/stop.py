"""SIGTERM and Ctrl-C: leave at once while nothing is at stake, after a save while training."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from finetuning.base.errors import InterruptedRun

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """The wish to stop. While `raises` holds there is nothing to save, and the wish interrupts."""

    def __init__(self, *, launched: bool = False) -> None:
        self.requested = False
        self.raises = False
        self._launched = launched
        """By torchrun, which passes on the Ctrl-C that the terminal has sent to all already."""

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let a signal raise InterruptedRun, until something to save is begun or the block ends."""
        self.raises = True
        try:
            yield
        finally:
            self.raises = False

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Answer the signals until the block ends."""
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if number == signal.SIGINT and not self._launched:
            # The second Ctrl-C ends the process at once, whatever it is doing.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self.raises:
            self.raises = False
            raise InterruptedRun
