"""Whether a series of losses falls: robust statistics in plain Python, on numbers alone.

Losses are in nats per token, one per optimizer step, in order. What they leave open is said to be
open: only a rise beyond chance, or no change at all, is held against a run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import median

ENOUGH_POINTS = 20
"""From here on the noise of the steps is told from the steps themselves."""

FEWEST_POINTS = 2

SURE = 3.09
"""Standard errors beyond which chance is told from a rise: one run in 1000 without any trend."""

CLEAR = 2.0
"""Standard errors beyond which a fall is more than noise; less is worth a warning."""

SHORT_RUN_TOLERANCE = 1.05
"""With few steps a rise within a twentieth is not worth a word."""

ROW_NOISE = 0.8
"""Standard deviation of the logarithm of a single row's loss: 0.82 over the demo's rows and its
base model. Of the mean of n rows it is less by the root of n."""

SMALLEST_WINDOW = 5
_MOST_BLOCKS = 200
"""Pairs grow with the square: longer runs are told by the medians of this many stretches."""

_MAD_TO_SIGMA = 1.4826
"""The standard deviation of normal noise by its median absolute deviation: 1 / 0.6745."""

MEDIAN_ERROR = 1.2533
"""The standard error of a median by that of a mean, for normal noise: sqrt(pi / 2)."""

_STRONGEST_LINK = 0.9
"""Autocorrelation that is told at most: a curve is no noise, however smooth it is."""

_SAME = 1e-3
"""Losses that all lie within this share of each other have not changed."""

_ODD_SHARE = 0.05
"""Of the steps at either side, by size, that are left out when it is asked whether any changed."""

_LEAST = 1e-9
"""Nats: logarithms need something."""


@dataclass(frozen=True)
class Trend:
    """Where a run began and ended, and whether that is more than chance."""

    first: float
    last: float
    """Median loss of `window` steps at the beginning and at the end."""
    window: int
    start: float
    """Median of the very first steps: a fast learner is done before a tenth of the run is."""
    noise: float
    """Standard deviation of one step about the curve."""
    link: float
    """Autocorrelation of neighbouring steps about the run's line."""
    is_apart: bool
    """Whether each of the last `window` steps is below each of the first."""
    slope: float
    """Theil-Sen, nats per step."""
    score: float
    """Mann-Kendall: standard errors by which later losses are above earlier ones."""
    is_flat: bool
    """Whether all losses are the same, but for a few odd ones."""
    count: int
    rise: float
    """Of a short run: standard errors, of the noise of its rows, by which it rises beyond a
    twentieth."""

    @property
    def certain(self) -> bool:
        return self.count >= ENOUGH_POINTS

    @property
    def error(self) -> float:
        """Standard error of the difference between both ends."""
        return self._error_of(self.window)

    def _error_of(self, steps: int) -> float:
        """The same where the beginning is of this many steps."""
        return float(MEDIAN_ERROR * self.noise * (1 / steps + 1 / self.window) ** 0.5)

    @property
    def clear(self) -> bool:
        """Whether it falls beyond its noise, by one of four estimates.

        A fast fall ends long before the run does; a smooth curve looks like steps that are alike,
        but its ends are apart.
        """
        alike = CLEAR * (1 + self.link) ** 0.5 / (1 - self.link)
        sudden = self.start - self.last > alike * self._error_of(SMALLEST_WINDOW)
        ends = self.first - self.last > alike * self.error
        return self.is_apart or self.score < -CLEAR or sudden or ends

    @property
    def fails(self) -> bool:
        """Whether the loss certainly does not fall; what chance can do is no proof."""
        if not self.certain:
            grows = self.last > self.first * SHORT_RUN_TOLERANCE
            return grows and (self.rise > SURE or self.score > SURE)
        return not self.clear and (self.is_flat or (self.score > SURE and self.last > self.first))

    @property
    def decrease(self) -> float:
        """The share of the first value by which the loss fell."""
        return (self.first - self.last) / self.first if self.first > 0 else 0.0


def trend_of(losses: Sequence[float], rows: int = 1) -> Trend | None:
    """The trend of steps of so many rows each; None where there are too few steps for any."""
    count = len(losses)
    if count < FEWEST_POINTS:
        return None
    certain = count >= ENOUGH_POINTS
    link = autocorrelation(losses)
    window = window_of(count) if certain else max(1, count // 3)
    return Trend(
        first=median(losses[:window]),
        last=median(losses[-window:]),
        window=window,
        start=median(losses[:SMALLEST_WINDOW]),
        noise=noise_of(losses),
        link=link,
        is_apart=certain and max(losses[-window:]) < min(losses[:window]),
        slope=theil_sen(losses),
        score=mann_kendall(losses, link),
        is_flat=certain and unchanged(losses),
        count=count,
        rise=0.0 if certain else rise_by_rows(losses, rows),
    )


def window_of(count: int) -> int:
    """A tenth of the steps."""
    return max(count // 10, SMALLEST_WINDOW)


def noise_of(losses: Sequence[float]) -> float:
    """Standard deviation of a step, from the differences of neighbours, which no trend touches."""
    steps = [abs(after - before) for before, after in pairwise(losses)]
    return float(_MAD_TO_SIGMA * median(steps) / 2**0.5) if steps else 0.0


def theil_sen(losses: Sequence[float]) -> float:
    """Median slope over all pairs of points (Sen 1968); up to 29 % of outliers do not move it."""
    pairs = combinations(_blocks(losses), 2)
    return float(median((after - before) / (later - n) for (n, before), (later, after) in pairs))


def mann_kendall(losses: Sequence[float], link: float = 0.0) -> float:
    """Of all pairs, those that rise less those that fall, in standard errors of chance.

    Mann 1945 and Kendall 1975, with their correction for equal values; steps that are alike by an
    autocorrelation `link` count for less (as of Hamed and Rao 1998, by the first lag).
    """
    values = [value for _, value in _blocks(losses)]
    count = len(values)
    balance = sum((after > before) - (after < before) for before, after in combinations(values, 2))
    ties = sum(_chance(values.count(value)) for value in set(values))
    error = math.sqrt((_chance(count) - ties) * (1 + link) / (1 - link))
    return (balance - math.copysign(1, balance)) / error if balance and error else 0.0


def _chance(count: int) -> float:
    """Variance of the balance of so many values in any order."""
    return count * (count - 1) * (2 * count + 5) / 18


def autocorrelation(losses: Sequence[float]) -> float:
    """Of neighbours about the run's line, at least 0: the less they differ, the more alike."""
    values = [value for _, value in _blocks(losses)]
    rest = _rest_of(values)
    spread = _spread(rest)
    link = 1 - (noise_of(rest) / spread) ** 2 if spread else 0.0
    return min(max(link, 0.0), _STRONGEST_LINK)


def _rest_of(values: Sequence[float]) -> list[float]:
    """What is left of them about their line."""
    slope = theil_sen(values)
    return [value - slope * place for place, value in enumerate(values)]


def spread_about_line(values: Sequence[float]) -> float:
    """Standard deviation about their line; 0 for fewer than two."""
    return _spread(_rest_of(values)) if len(values) > 1 else 0.0


def _spread(values: Sequence[float]) -> float:
    """Standard deviation, from the median of the absolute deviations."""
    middle = median(values)
    return float(_MAD_TO_SIGMA * median(abs(value - middle) for value in values))


def unchanged(losses: Sequence[float]) -> bool:
    """Whether all but a few odd steps have the same loss."""
    odd = int(_ODD_SHARE * len(losses))
    ordered = sorted(losses)[odd : len(losses) - odd]
    return ordered[-1] - ordered[0] <= _SAME * median(ordered)


def logs_of(losses: Sequence[float]) -> list[float]:
    """Of losses in nats; 0 is taken for next to nothing."""
    return [math.log(max(loss, _LEAST)) for loss in losses]


def rise_by_rows(losses: Sequence[float], rows: int) -> float:
    """Standard errors by which a run rises beyond a twentieth.

    By the slope, or by the last third against the first, whichever tells more. The noise is that of
    its rows, or of the steps about their line where that is more.
    """
    logs = logs_of(losses)
    count, third = len(logs), max(1, len(logs) // 3)
    step = max(ROW_NOISE / rows**0.5, spread_about_line(logs))
    by_slope = theil_sen(logs) * (count - 1), (12 * (count - 1) / (count * (count + 1))) ** 0.5
    by_ends = median(logs[-third:]) - median(logs[:third]), (2 / third) ** 0.5
    allowed = math.log(SHORT_RUN_TOLERANCE)
    return float(max((rise - allowed) / (step * error) for rise, error in (by_slope, by_ends)))


def _blocks(losses: Sequence[float]) -> list[tuple[float, float]]:
    """Places and values; of a long run the middles and medians of equal stretches."""
    size = -(-len(losses) // _MOST_BLOCKS)
    starts = range(0, len(losses), size)
    stretches = [(start, losses[start : start + size]) for start in starts]
    return [(start + (len(part) - 1) / 2, median(part)) for start, part in stretches]
