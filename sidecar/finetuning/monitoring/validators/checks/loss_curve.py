"""What stands out in a series of losses: pure functions of numbers.

Losses are in nats per token, one per optimizer step, in order. That of a step is measured before
its update.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from statistics import mean, median

from finetuning.monitoring.validators.checks.loss_order import RARE, clump_of, log_chance
from finetuning.monitoring.validators.checks.loss_trend import SMALLEST_WINDOW, Trend, window_of

_DIVERGED_RATIO, _DIVERGED_SHARE = 1.5, 0.25

_CLEAR_RATIO = 1.25
"""By which an earlier step has to be below the end: less is a drift."""

_ODD_SHARES = (0.0, 0.1, 0.25)
"""Steps of the end that may be as low as before: a few rows are easy to any model."""

_SPIKE_RATIO, _SPIKE_SIGMAS, _SPIKE_STEPS = 2.0, 6.0, 2
_COLLAPSE_RATIO, _COLLAPSE_STEPS = 100.0, 3


@dataclass(frozen=True)
class Rise:
    """The end of a run that lies above what came before."""

    low: float
    """The lowest median of a stretch before."""
    last: float
    """Median loss of the end."""
    steps: int
    """Of the end."""


@dataclass(frozen=True)
class _Ending:
    """A run cut in two; all but `odd` steps of the end are at `level` or above."""

    earlier: Sequence[float]
    end: Sequence[float]
    odd: int

    @property
    def level(self) -> float:
        return sorted(self.end)[self.odd]

    @cached_property
    def low(self) -> float:
        return lowest_stretch(self.earlier)

    def is_high(self, first: float) -> bool:
        """Whether the end lies far above the best, and has given back a good share of the fall."""
        top, last = max(first, mean(self.earlier)), median(self.end)
        far = last > _DIVERGED_RATIO * self.low
        return far and last - self.low > _DIVERGED_SHARE * (top - self.low)

    def log_chance(self) -> float:
        """The smaller one: against all earlier steps, or against those from the first low one on.

        A run has to learn before it can lose what it has learned.
        """
        limit = self.level / _CLEAR_RATIO
        marks = [loss < limit for loss in self.earlier]
        if not any(marks):
            return 0.0
        return min(self._against(marks), self._against(marks[marks.index(True) + 1 :]))

    def _against(self, marks: Sequence[bool]) -> float:
        """Where the end has low steps as well, they have to be half as many at most."""
        low, steps, others = sum(marks), len(marks), len(self.end)
        if low * others <= 2 * self.odd * steps:
            return 0.0
        clump = clump_of(marks)
        odd = math.ceil(self.odd / clump)
        return log_chance(low / clump, steps / clump, others / clump, odd)


def lowest_stretch(losses: Sequence[float]) -> float:
    """The lowest median of a tenth of the steps."""
    window = window_of(len(losses))
    starts = range(0, len(losses) - window + 1, max(1, window // 5))
    return min(median(losses[start : start + window]) for start in starts)


def divergence(losses: Sequence[float], trend: Trend) -> Rise | None:
    """The end of a run whose weights were better before."""
    for steps in _ends_of(len(losses)):
        for odd in sorted({int(share * steps) for share in _ODD_SHARES}):
            ending = _Ending(losses[:-steps], losses[-steps:], odd)
            if ending.is_high(trend.first) and ending.log_chance() < RARE:
                return Rise(ending.low, median(ending.end), steps)
    return None


def _ends_of(count: int) -> list[int]:
    """Lengths of the ends that are looked at."""
    wished = {window_of(count), count // 5, count // 4, count // 3, count // 2, 2 * count // 3}
    return sorted(steps for steps in wished if steps >= SMALLEST_WINDOW)


def late_spike(losses: Sequence[float]) -> float | None:
    """The height of a spike in which the run ends: two steps or more that are above all others.

    They are far above those of the second half. A single one says nothing of the weights: its rows
    may be hard, and its update came after.
    """
    half = len(losses) // 2
    highest, of_the_half = list(accumulate(losses, max)), list(accumulate(losses[half:], max))
    lowest = list(accumulate(reversed(losses), min))
    for steps in range(_SPIKE_STEPS, len(losses) // 4 + 1):
        before, height = len(losses) - steps, lowest[steps - 1]
        limit = max(highest[before - 1], _SPIKE_RATIO * of_the_half[before - half - 1])
        if height > limit:
            return losses[-1]
    return None


def spikes(losses: Sequence[float], trend: Trend) -> list[int]:
    """Indices of single steps far above their neighbours."""
    half = SMALLEST_WINDOW
    found = []
    for place in range(half, len(losses)):
        level = median([*losses[place - half : place], *losses[place + 1 : place + half + 1]])
        height = losses[place]
        if height > _SPIKE_RATIO * level and height - level > _SPIKE_SIGMAS * trend.noise:
            found.append(place)
    return found


def collapse(losses: Sequence[float]) -> int | None:
    """Index of a step from which on each loss is below a hundredth of each before."""
    count, least = len(losses), _COLLAPSE_STEPS
    lowest = list(accumulate(losses, min))
    highest = list(accumulate(reversed(losses), max))[::-1]
    for place in range(least, count - least + 1):
        apart = lowest[place - 1] > _COLLAPSE_RATIO * highest[place]
        if apart and log_chance(count - place, count - place, place) < RARE:
            return place
    return None
