"""Whether a run blew up early: pure functions of losses in nats per token, one per optimizer step.

A learning rate that is too high throws a model off within a few steps. The first tenth of the run,
by which a trend is told, may lie whole within that, and the loss fall from there on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from statistics import mean, median, pstdev

from finetuning.monitoring.validators.checks.loss_order import RARE, clump_of, log_chance
from finetuning.monitoring.validators.checks.loss_trend import (
    ROW_NOISE,
    SMALLEST_WINDOW,
    logs_of,
    window_of,
)

_BEGINNINGS = (1, 2, 3, 4, 5, 7, 10)
"""First steps that are held against those that follow: as far as the rate had not yet done harm."""

_BEGINNING_SHARE = 4
"""At most one step of so many is of the beginning."""

_PEAK_RATIO, _BACK_RATIO, _SHARE = 2.0, 1.5, 0.1

_UNLIKELY = 0.02
"""A chance that is no proof, for one low step; for several it is shared. Few steps are of a good
model where there was no warm-up, or where the others hold hard rows: the height says the rest."""

_SURE = 4.75
"""Standard errors by which the peak is above: it is the highest of many stretches, and losses have
heavy tails."""


@dataclass(frozen=True)
class BlowUp:
    """A run that rose far above its first steps."""

    first: float
    """Median loss of the first steps, or of the lower half of them."""
    peak: float
    """The highest median of five of the steps that follow."""
    step: int
    """Index of the first of them."""
    came_back: bool
    """Whether the end is clearly below the first steps."""


@dataclass(frozen=True)
class _Start:
    """The first steps, and those after them until one is as low as the `low` lowest of them.

    Or until the next one is, after an `odd` one.
    """

    losses: Sequence[float]
    steps: int
    low: int
    odd: int

    @cached_property
    def lowest(self) -> list[float]:
        return sorted(self.losses[: self.steps])[: self.low]

    @cached_property
    def end(self) -> int:
        """Index of the step that is as low again, or of none."""
        limit, rest = self.lowest[-1], range(self.steps, len(self.losses))
        found = (at for at in rest if self.losses[at] <= limit)
        return next(islice(found, self.odd, None), len(self.losses))

    @property
    def is_far_below(self) -> bool:
        """Whether the steps that follow are not only above the first ones, but far above."""
        rest = sorted(self.losses[self.steps : self.end])
        if len(rest) < SMALLEST_WINDOW:
            return False
        found = self.blow_up
        far = found.peak > _PEAK_RATIO * found.first
        return far and rest[len(rest) // 4] - found.first > _SHARE * mean(rest)

    @cached_property
    def log_chance(self) -> float:
        """Of so long a stretch; where steps go together afterwards, they did so before."""
        limit = self.lowest[-1]
        clump = clump_of([loss <= limit for loss in self.losses[self.end + 1 :]])
        others = (self.end - self.steps) / clump
        return log_chance(self.low / clump, self.steps / clump, others, self.odd)

    def is_high_and_unlikely(self, rows: int) -> bool:
        """Whether no step is as low again by chance, and the peak is higher than noise makes it.

        The second half tells the noise, whatever came before: its levels are part of it. A single
        low step has at least the noise of its rows.
        """
        if self.odd or self.log_chance > math.log(_UNLIKELY / self.low):
            return False
        size, logs = SMALLEST_WINDOW, logs_of(self.losses[len(self.losses) // 2 :])
        stretches = [median(logs[at : at + size]) for at in range(len(logs) - size + 1)]
        noise = max(pstdev(logs), pstdev(stretches) * math.sqrt(size))
        if self.low == 1:
            noise = max(noise, ROW_NOISE / math.sqrt(rows))
        height = logs_of([self.blow_up.peak])[0] - mean(logs_of(self.lowest))
        return height > _SURE * noise * math.sqrt(1 / self.low + 1 / size)

    @cached_property
    def blow_up(self) -> BlowUp:
        losses, size = self.losses, SMALLEST_WINDOW
        starts = range(self.steps, self.end - size + 1)
        place = max(starts, key=lambda at: median(losses[at : at + size]))
        first, last = median(self.lowest), median(losses[-window_of(len(losses)) :])
        peak = median(losses[place : place + size])
        return BlowUp(first, peak, place, came_back=last * _BACK_RATIO < first)


def blow_up(losses: Sequence[float], rows: int) -> BlowUp | None:
    """Of a run of steps of so many rows each: by its order alone, or by order and height."""
    starts = [start for start in _starts_of(losses) if start.is_far_below]
    rarest = min(starts, key=lambda start: start.log_chance, default=None)
    if rarest is None or rarest.log_chance > RARE:
        rarest = next((start for start in starts if start.is_high_and_unlikely(rows)), None)
    return rarest.blow_up if rarest else None


def _starts_of(losses: Sequence[float]) -> list[_Start]:
    """By all of the first steps, or by half of them where the others hold hard rows."""
    most = len(losses) // _BEGINNING_SHARE
    found = (
        _Start(losses, steps, low, odd)
        for steps in _BEGINNINGS
        if steps <= most
        for low, odd in product(sorted({steps, (steps + 1) // 2}), (0, 1))
    )
    return list(found)
