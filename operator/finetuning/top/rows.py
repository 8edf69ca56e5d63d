"""What is shown of a job, wherever it runs, and in which order."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from math import isfinite

from finetuning.api.v1alpha1 import FineTuningJobStatus, Phase

CURVE_POINTS = 1024
"""More than a terminal has columns; a longer curve is halved by taking means of neighbours."""

_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Row:
    """A job at one moment."""

    name: str
    status: FineTuningJobStatus
    namespace: str = ""
    """Empty for a local run, and where all jobs are of one namespace."""
    about: str = ""
    """Method and model, as far as they are known."""
    losses: tuple[float, ...] = ()
    speeds: tuple[float, ...] = ()
    note: str = ""
    """What is wrong with what is shown, such as a run whose process is gone."""
    created: datetime | None = None

    @property
    def title(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def active(self) -> bool:
        return self.status.phase not in {Phase.SUCCEEDED, Phase.FAILED}


@dataclass(slots=True)
class Curve:
    """The values of one figure over the steps, in bounded memory."""

    values: list[float] = field(default_factory=list)
    weight: int = 1
    """Values that one of `values` stands for."""
    _step: int = 0
    _waiting: list[float] = field(default_factory=list)

    def add(self, step: int, value: float | None) -> None:
        """Take a value of a later step; one of an earlier step means that the run began anew."""
        if step < self._step:
            self.values, self.weight, self._waiting = [], 1, []
        if step == self._step or value is None or not isfinite(value):
            return
        self._step = step
        self._waiting.append(value)
        if len(self._waiting) == self.weight:
            self.values.append(sum(self._waiting) / self.weight)
            self._waiting = []
        if len(self.values) > CURVE_POINTS:
            self.values = [(a + b) / 2 for a, b in pairwise(self.values)][::2]
            self.weight *= 2


class Order(StrEnum):
    """By what the rows are sorted."""

    PHASE = "phase"
    NAME = "name"
    AGE = "age"
    PROGRESS = "progress"
    LOSS = "loss"
    SPEED = "speed"


_PHASES = (Phase.RUNNING, Phase.PENDING, Phase.PAUSED, Phase.FAILED, Phase.SUCCEEDED)


def _newest_first(row: Row) -> float:
    moment = row.status.completion_time or row.status.start_time or row.created or _EARLIEST
    return -moment.timestamp() if moment is not _EARLIEST else 0.0


def _largest_first(value: float | None) -> float:
    return 1.0 if value is None else -value


def _smallest_first(value: float | None) -> float:
    return float("inf") if value is None else value


_KEYS: Mapping[Order, Callable[[Row], object]] = {
    Order.PHASE: lambda row: (_PHASES.index(row.status.phase), _newest_first(row)),
    Order.NAME: lambda _: 0,
    Order.AGE: _newest_first,
    Order.PROGRESS: lambda row: -percent(row.status),
    Order.LOSS: lambda row: _smallest_first(row.status.train_loss),
    Order.SPEED: lambda row: _largest_first(row.status.tokens_per_second),
}


def in_order(rows: Iterable[Row], order: Order) -> list[Row]:
    """Running first and the newest of those, or the best figure first; names decide ties."""
    by_name = sorted(rows, key=lambda row: (row.namespace, row.name))
    return sorted(by_name, key=_KEYS[order])  # type: ignore[arg-type]


def percent(status: FineTuningJobStatus) -> float:
    """Share of the steps done, 0 to 100; 0 for what cannot be read."""
    try:
        found = float(status.progress.removesuffix("%"))
    except ValueError:
        return 0.0
    return min(100.0, max(0.0, found)) if isfinite(found) else 0.0
