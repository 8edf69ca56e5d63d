"""The process of one tracker: an Order on standard input, then the run's outcome, then the end.

It says at most a line when it fails and one when it works again. Whatever the tracker's library
prints is dropped: it may name addresses and keys.
"""

import logging
import os
import signal
import sys
import threading
from typing import IO

from finetuning.api.hyperparameters import ReportTo
from finetuning.artifacts import LOSS_HISTORY
from finetuning.base.trackers.follower import Follower, Tracker
from finetuning.base.trackers.order import Order, Outcome
from finetuning.base.trackers.redaction import without_secrets
from finetuning.base.trackers.to_mlflow import Mlflow
from finetuning.base.trackers.to_tensorboard import TensorBoard
from finetuning.base.trackers.to_wandb import Wandb

TRACKERS: dict[ReportTo, type[Tracker]] = {
    ReportTo.TENSORBOARD: TensorBoard,
    ReportTo.MLFLOW: Mlflow,
    ReportTo.WANDB: Wandb,
}
PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between two looks at the history; doubled while the tracker fails."""

NICENESS = 5

log = logging.getLogger("finetuning.trackers")


class End:
    """How the run ended, once it did: said by the trainer, or seen from its silence."""

    def __init__(self, orders: IO[str]) -> None:
        self._orders = orders
        self._seen = threading.Event()
        self.outcome: Outcome | None = None

    def watch(self) -> None:
        """From the end of the run on, SIGALRM ends this process, whatever hangs in it."""
        word = self._orders.read().strip()
        self.outcome = Outcome(word) if word in {*Outcome} else Outcome.FAILED
        signal.alarm(self.outcome.seconds)
        self._seen.set()

    def within(self, seconds: float) -> bool:
        """Whether the run has ended; waits so long for it."""
        return self._seen.wait(seconds)


def main() -> int:
    """0 when the tracker has all steps, 1 when it has not, which was said then."""
    os.nice(NICENESS)
    orders, words = _own_streams()
    _set_up_log(words)
    order = Order.model_validate_json(orders.readline())
    end = End(orders)
    threading.Thread(target=end.watch, daemon=True).start()
    follower = Follower(TRACKERS[order.tracker](), order, order.output / LOSS_HISTORY)
    return _follow(follower, order.tracker, end)


def _follow(follower: Follower, name: ReportTo, end: End) -> int:
    pause, trouble = PAUSE, False
    while True:
        outcome = end.outcome
        try:
            follower.deliver() if outcome is None else follower.close(outcome)
        except Exception as error:  # noqa: BLE001 - libraries and servers fail in ways of their own
            if not trouble:
                log.warning("%s %s", name, _complaint(error))
            pause, trouble = min(2 * pause, LONGEST_PAUSE), True
        else:
            if trouble:
                log.info("%s has taken the steps that it missed.", name)
            pause, trouble = PAUSE, False
        if outcome is not None:
            return int(trouble)
        end.within(pause)


def _complaint(error: Exception) -> str:
    first = str(error).strip().split("\n", maxsplit=1)[0]
    words = without_secrets(f"{type(error).__name__}: {first}", os.environ)[:300]
    return f"takes no figures ({words}); training goes on, and what is missing is sent later."


def _own_streams() -> tuple[IO[str], IO[str]]:
    """Standard input and error for this module alone; libraries get the null device."""
    orders = os.fdopen(os.dup(0), encoding="utf-8")
    words = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    return orders, words


def _set_up_log(words: IO[str]) -> None:
    handler = logging.StreamHandler(words)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


if __name__ == "__main__":
    sys.exit(main())
