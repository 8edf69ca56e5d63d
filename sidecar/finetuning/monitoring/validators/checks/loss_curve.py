"""What stands out in a series of losses: pure functions of numbers.

Losses are in nats per token, one per optimizer step, in order.
"""

from collections.abc import Sequence
from statistics import median

from finetuning.monitoring.validators.checks.loss_trend import SMALLEST_WINDOW, Trend, window_of

_DIVERGED_RATIO, _DIVERGED_SHARE, _DIVERGED_ERRORS = 1.5, 0.25, 4.0
_SPIKE_RATIO, _SPIKE_SIGMAS = 2.0, 6.0
_COLLAPSE_RATIO, _COLLAPSE_WINDOW = 100.0, 3


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
    size = max(len(losses) // 4, SMALLEST_WINDOW)
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
    half = SMALLEST_WINDOW
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
