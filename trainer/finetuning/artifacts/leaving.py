"""The answer to SIGTERM of a process that has nothing to save yet, or nothing at all."""

import signal
from types import FrameType
from typing import NoReturn

from finetuning.artifacts.exits import ExitCode


def when_told(code: ExitCode = ExitCode.INTERRUPTED) -> None:
    """End at SIGTERM: process 1 of a container does not hear what it has no answer to.

    Without one it is killed when its time to end is over, and holds its GPUs until then.
    """

    def leave(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(int(code))

    signal.signal(signal.SIGTERM, leave)


def not_yet() -> None:
    """Keep SIGTERM until `hear`: one of many may have to tell the others, who would wait for it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def hear() -> None:
    """There is an answer now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
