"""SIGTERM and Ctrl-C: leave at once while nothing is at stake, after a save while training."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from finetuning.artifacts import leaving
from finetuning.base.errors import InterruptedRun

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PATIENCE = 90
"""Seconds for all processes of a run to leave together, of the 120 that a pod has: there is nothing
to save yet."""


class Stop:
    """The wish to stop. While `raises` holds there is nothing to save, and the wish interrupts."""

    def __init__(
        self,
        *,
        launched: bool = False,
        waits: bool = False,
        in_vain: Callable[[], bool] = lambda: False,
    ) -> None:
        """`in_vain` says that the others will not come, so that nobody waits for them."""
        self.requested = False
        self.raises = False
        self.waits = waits
        """For the others, who ask for the wish now and again; not for longer than PATIENCE."""
        self._in_vain = in_vain
        self._launched = launched
        """By torchrun, which passes on the Ctrl-C that the terminal has sent to all already."""

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let a signal raise InterruptedRun, until something to save is begun or the block ends."""
        self.raises = True
        leaving.hear()
        try:
            yield
        finally:
            self.begun()

    def begun(self) -> None:
        """From now on there is something to save, or nothing to interrupt."""
        self.raises = self.waits = False

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Answer the signals until the block ends."""
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if number == signal.SIGINT and not self._launched:
            # The second Ctrl-C ends the process at once, whatever it is doing.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self.waits and not self._in_vain():
            signal.signal(signal.SIGALRM, self._interrupt)
            signal.alarm(PATIENCE)
        else:
            self._interrupt(number, frame)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self.raises:
            self.raises = False
            raise InterruptedRun
