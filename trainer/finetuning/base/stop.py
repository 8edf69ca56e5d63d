"""SIGTERM and Ctrl-C: leave at once while nothing is at stake, after a save while training."""

import signal
from types import FrameType

from finetuning.base.errors import InterruptedRun


class Stop:
    """The wish to stop. `raises` is True until there is something to save."""

    def __init__(self) -> None:
        self.requested = False
        self.raises = True

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if number == signal.SIGINT:
            # The second Ctrl-C ends the process at once, whatever it is doing.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self.raises:
            self.raises = False
            raise InterruptedRun
