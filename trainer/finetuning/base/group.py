"""What the processes of a run tell each other; one process alone tells nobody and waits for none.

Only numbers travel, so nothing is ever unpickled.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from finetuning.artifacts.failures import first_line
from finetuning.base.errors import InterruptedRun, WorkerLostError
from finetuning.base.rank import Rank
from finetuning.base.stop import Stop

STEP_TIMEOUT = timedelta(minutes=30)
"""For the others at a step. Rank 0 may be late by a checkpoint for which no copy had room."""

END_TIMEOUT = timedelta(hours=6)
"""For rank 0 to write the result. A lost process is noticed at once: its connections close."""


HEARING_SECONDS = 0.5
"""Between two looks for signals while the others are waited for."""


class Group:
    """The processes that take the same steps."""

    def __init__(self, rank: Rank, device: torch.device) -> None:
        self.rank = rank
        self._device = device
        self._waiting: Any = None

    @property
    def size(self) -> int:
        return self.rank.of

    @property
    def leads(self) -> bool:
        return self.rank.leads

    def totals(self, *numbers: float) -> list[float]:
        """The sum of each number over all processes."""
        if self.rank.alone:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64, device=self._device)
        distributed.all_reduce(tensor)
        return [float(total) for total in tensor.tolist()]

    def first(self, number: int) -> int:
        """The number of rank 0."""
        if self.rank.alone:
            return number
        tensor = torch.tensor([number], dtype=torch.int64, device=self._device)
        distributed.broadcast(tensor, 0)
        return int(tensor.item())

    def share(self, tensor: torch.Tensor) -> None:
        """Give all processes the values that rank 0 has, in place."""
        if not self.rank.alone:
            distributed.broadcast(tensor, 0)

    def leave_if_told(self, stop: Stop) -> None:
        """All leave where any was told to, before there is anything to save.

        Alone, it would look to the others like one that was lost.

        Raises:
            InterruptedRun: on all of them.
        """
        if not self.rank.alone and self.totals(float(stop.requested))[0]:
            self.wait()
            raise InterruptedRun

    def wait(self) -> None:
        """Until all are here: who left early would look like one that was lost."""
        if not self.rank.alone:
            distributed.barrier(group=self._waiting)

    def begin(self) -> None:
        """Meet the others; RCCL, torch's `nccl` on AMD, between GPUs and gloo between CPUs."""
        if not self.rank.alone:
            _while_signals_are_heard(self._meet)

    def _meet(self) -> None:
        on_gpu = self._device.type == "cuda"
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=STEP_TIMEOUT)
        self._waiting = distributed.new_group(backend="gloo", timeout=END_TIMEOUT)

    def end(self) -> None:
        if not self.rank.alone:
            distributed.destroy_process_group()


def _while_signals_are_heard(wait: Callable[[], None]) -> None:
    """Python answers a signal between two of its own steps, and torch waits inside one of them.

    The thread is left to itself when a signal ends the wait: the process ends as well.
    """
    raised: list[Exception] = []

    def run() -> None:
        try:
            wait()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            raised.append(error)

    thread = threading.Thread(target=run, name="meeting", daemon=True)
    thread.start()
    while thread.is_alive():
        # A signal just before a wait without end would be answered after it.
        thread.join(HEARING_SECONDS)
    if raised:
        raise raised[0]


@contextmanager
def joined(rank: Rank, device: torch.device) -> Iterator[Group]:
    """All processes begin and end the block together.

    Raises:
        WorkerLostError: another one is gone, or did not answer in time.
    """
    group = Group(rank, device)
    try:
        group.begin()
        yield group
        group.wait()
    except RuntimeError as error:
        if rank.alone or not _is_of_the_others(error):
            raise
        raise WorkerLostError(
            f"another process of the run was lost ({_in_short(error)}); all of them start "
            "again, from the newest checkpoint"
        ) from error
    group.end()


def _in_short(error: RuntimeError) -> str:
    """Gloo puts a file of its own build before what happened, and advice for its makers behind."""
    words = re.sub(r"^\[/\S+:\d+\]\s*", "", first_line(error))
    return words.partition(" This is typically caused by")[0].rstrip(". ")


def _is_of_the_others(error: RuntimeError) -> bool:
    """What gloo raises is known by its text alone."""
    words = str(error)
    return isinstance(error, distributed.DistError) or any(
        sign in words for sign in ("gloo", "Connection closed by peer")
    )


class SharedStop:
    """The wish of any process to stop, as all have heard of it at the same step."""

    def __init__(self, stop: Stop, group: Group) -> None:
        self._stop, self._alone = stop, group.rank.alone
        self._heard = False

    @property
    def requested(self) -> bool:
        return self._stop.requested if self._alone else self._heard

    @property
    def vote(self) -> float:
        """Above zero if this process wants to stop; the sum of all is what `hear` takes."""
        return float(self._stop.requested)

    def hear(self, votes: float) -> None:
        self._heard = self._heard or votes > 0
