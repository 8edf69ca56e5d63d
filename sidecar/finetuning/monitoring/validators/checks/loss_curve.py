"""What a series of losses says: robust statistics in plain Python, on numbers alone.

Losses are in nats per token, one per optimizer step, in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

ENOUGH_POINTS = 20
"""From here on a slope is told from all steps."""

FEWEST_POINTS = 4
"""Below this a single odd batch decides, so nothing is said about the trend."""

SHORT_RUN_TOLERANCE = 1.05
"""With few steps the noise of the batches is as large as what a run can learn."""

_SMALLEST_WINDOW = 5
_MOST_BLOCKS = 200
"""Pairs grow with the square: longer runs are told by the medians of this many stretches."""

_MAD_TO_SIGMA = 1.4826
"""The standard deviation of normal noise by its median absolute deviation: 1 / 0.6745."""

_MEDIAN_ERROR = 1.2533
"""The standard error of a median by that of a mean, for normal noise: sqrt(pi / 2)."""

_CLEAR = 2.0
"""Standard errors beyond which a difference is more than noise."""

_DIVERGED_RATIO, _DIVERGED_SHARE, _DIVERGED_ERRORS = 1.5, 0.25, 4.0
_SPIKE_RATIO, _SPIKE_SIGMAS = 2.0, 6.0
_COLLAPSE_RATIO, _COLLAPSE_WINDOW = 100.0, 3


@dataclass(frozen=True)
class Trend:
    """Where a run began and ended."""

    first: float
    last: float
    """Median loss of `window` steps at the beginning and at the end."""
    window: int
    start: float
    """Median of the very first steps: a fast learner is done before a tenth of the run is."""
    noise: float
    """Standard deviation of one step about the curve."""
    slope: float | None
    """Theil-Sen, nats per step; None where there are too few steps."""

    @property
    def certain(self) -> bool:
        return self.slope is not None

    @property
    def error(self) -> float:
        """Standard error of the difference between both ends."""
        return self._error_of(self.window)

    def _error_of(self, steps: int) -> float:
        """The same where the beginning is of this many steps."""
        return float(_MEDIAN_ERROR * self.noise * (1 / steps + 1 / self.window) ** 0.5)

    @property
    def falls(self) -> bool:
        """One of three estimates is enough: a fast fall ends long before the run does."""
        if self.slope is not None:
            error = self._error_of(_SMALLEST_WINDOW)
            sudden = self.start - self.last > _CLEAR * error and self.start > self.last
            return self.last < self.first or self.slope < 0 or sudden
        allowed = max(self.first * (SHORT_RUN_TOLERANCE - 1), _CLEAR * self.error)
        return self.last - self.first < allowed

    @property
    def clear(self) -> bool:
        return self.first - self.last > _CLEAR * self.error

    @property
    def decrease(self) -> float:
        """The share of the first value by which the loss fell."""
        return (self.first - self.last) / self.first if self.first > 0 else 0.0


def trend_of(losses: Sequence[float]) -> Trend | None:
    """None where there are too few steps to say anything."""
    count = len(losses)
    if count < FEWEST_POINTS:
        return None
    certain = count >= ENOUGH_POINTS
    window = window_of(count) if certain else max(1, count // 3)
    slope = theil_sen(losses) if certain else None
    start = median(losses[:_SMALLEST_WINDOW])
    first, last = median(losses[:window]), median(losses[-window:])
    return Trend(first, last, window, start, noise_of(losses), slope)


def window_of(count: int) -> int:
    """A tenth of the steps."""
    return max(count // 10, _SMALLEST_WINDOW)


def noise_of(losses: Sequence[float]) -> float:
    """Standard deviation of a step, from the differences of neighbours, which no trend touches."""
    steps = [abs(after - before) for before, after in pairwise(losses)]
    return float(_MAD_TO_SIGMA * median(steps) / 2**0.5) if steps else 0.0


def theil_sen(losses: Sequence[float]) -> float:
    """Median slope over all pairs of points (Sen 1968); up to 29 % of outliers do not move it."""
    points = _blocks(losses)
    slopes = [
        (after - before) / (later - earlier)
        for number, (earlier, before) in enumerate(points)
        for later, after in points[number + 1 :]
    ]
    return float(median(slopes))


def _blocks(losses: Sequence[float]) -> list[tuple[float, float]]:
    """Places and values; of a long run the middles and medians of equal stretches."""
    size = -(-len(losses) // _MOST_BLOCKS)
    starts = range(0, len(losses), size)
    stretches = [(start, losses[start : start + size]) for start in starts]
    return [(start + (len(part) - 1) / 2, median(part)) for start, part in stretches]


def lowest_stretch(losses: Sequence[float]) -> float:
    """The lowest median of a tenth of the steps."""
    window = window_of(len(losses))
    starts = range(0, len(losses) - window + 1, max(1, window // 5))
    return min(median(losses[start : start + window]) for start in starts)


def diverged(losses: Sequence[float], trend: Trend) -> bool:
    """Whether the end lies far above the best: by ratio, by share of the fall, beyond the noise."""
    lowest = lowest_stretch(losses)
    rise = trend.last - lowest
    return (
        trend.last > _DIVERGED_RATIO * lowest
        and rise > _DIVERGED_SHARE * (trend.first - lowest)
        and rise > _DIVERGED_ERRORS * trend.error
    )


def late_spike(losses: Sequence[float], tokens: Sequence[int], trend: Trend) -> float | None:
    """The height of a spike in which the run ends, from which it did not come back.

    What stands out by fewer tokens than usual stands out less: an epoch ends in what is left over,
    which may be a single row.
    """
    size = max(len(losses) // 4, _SMALLEST_WINDOW)
    level, usual = median(losses[-size:]), median(tokens[-size:])
    quarter = [
        level + (loss - level) * min(1.0, count / usual) ** 0.5 if usual else loss
        for loss, count in zip(losses[-size:], tokens[-size:], strict=True)
    ]
    calm = list(quarter)
    while calm and calm[-1] > _SPIKE_RATIO * level:
        calm.pop()
    if not calm or len(calm) == len(quarter):
        return None
    height = quarter[-1]
    beyond = height > trend.first and height > _SPIKE_RATIO * max(calm)
    found = beyond and height - level > _SPIKE_SIGMAS * trend.noise
    return losses[-1] if found else None


def spikes(losses: Sequence[float], trend: Trend) -> list[int]:
    """Indices of single steps far above their neighbours."""
    half = _SMALLEST_WINDOW
    found = []
    for place in range(half, len(losses) - half):
        level = median([*losses[place - half : place], *losses[place + 1 : place + half + 1]])
        height = losses[place]
        if height > _SPIKE_RATIO * level and height - level > _SPIKE_SIGMAS * trend.noise:
            found.append(place)
    return found


def collapse(losses: Sequence[float]) -> int | None:
    """Index of a step at which the loss falls to a hundredth and stays there."""
    size = _COLLAPSE_WINDOW
    for place in range(size, len(losses) - size + 1):
        before, after = losses[place - size : place], losses[place : place + size]
        if min(before) > _COLLAPSE_RATIO * max(after):
            return place
    return None
