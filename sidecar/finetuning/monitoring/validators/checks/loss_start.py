"""Whether a run blew up early: pure functions of losses in nats per token, one per optimizer step.

A learning rate that is too high throws a model off within a few steps. The first tenth of the run,
by which a trend is told, may lie whole within that, and the loss fall from there on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from finetuning.monitoring.validators.checks.loss_trend import (
    CLEAR,
    MEDIAN_ERROR,
    ROW_NOISE,
    SMALLEST_WINDOW,
    logs_of,
    noise_of,
    spread_about_line,
    window_of,
)

_BEGINNINGS = (1, 3, SMALLEST_WINDOW)
"""First steps that tell where a run began: without a warm-up only the first may be of a good model;
of a single one the noise is that of its rows."""

_PEAK_RATIO, _END_RATIO = 2.0, 1.5
_SURE = 4.5
"""Standard errors: the peak is the highest of many stretches, and losses have heavy tails."""


@dataclass(frozen=True)
class BlowUp:
    """A run that rose far above its first steps."""

    first: float
    """Median loss of the first steps."""
    peak: float
    """The highest median of five steps of the first half."""
    step: int
    """Index of the first of them."""
    came_back: bool
    """Whether the end is clearly below the first steps."""


@dataclass(frozen=True)
class _Course:
    """A run in logarithms, in which the noise of high losses is that of low ones."""

    logs: Sequence[float]
    stretches: Sequence[float]
    """Median of the five steps from each step on."""
    error: float
    """Standard error of such a median."""
    of_a_step: float
    """Standard deviation of a single step, as its rows make it at least."""

    def error_against(self, steps: int, others: int) -> float:
        """Of the difference between the medians of the first `steps` and of `others`."""
        wide = self.error**2 * SMALLEST_WINDOW
        first = self.of_a_step**2 if steps == 1 else wide / steps
        return float((first + wide / others) ** 0.5)


def blow_up(losses: Sequence[float], rows: int) -> BlowUp | None:
    """Of a run of steps of so many rows; where the ways of telling differ, one without a return."""
    if len(losses) < 2 * SMALLEST_WINDOW:
        return None
    course = _course_of(logs_of(losses), rows)
    found = [each for steps in _BEGINNINGS if (each := _blow_up_after(course, steps))]
    return min(found, key=lambda each: each.came_back, default=None)


def _course_of(logs: Sequence[float], rows: int) -> _Course:
    """The second half tells how much stretches differ by themselves, whatever came before."""
    size, half = SMALLEST_WINDOW, len(logs) // 2
    stretches = [median(logs[at : at + size]) for at in range(len(logs) - size + 1)]
    noise = noise_of(logs)
    error = max(MEDIAN_ERROR * noise / size**0.5, spread_about_line(stretches[half:]))
    return _Course(logs, stretches, error, max(noise, ROW_NOISE / rows**0.5))


def _blow_up_after(course: _Course, steps: int) -> BlowUp | None:
    logs, end = course.logs, window_of(len(course.logs))
    first, last = median(logs[:steps]), median(logs[-end:])
    peak = max(course.stretches[: len(logs) // 2])
    at_the_end = course.error_against(steps, end)
    allowed = max(_SURE * course.error_against(steps, SMALLEST_WINDOW), math.log(_PEAK_RATIO))
    allowed_at_the_end = max(_SURE * at_the_end, math.log(_END_RATIO))
    if peak - first <= allowed and last - first <= allowed_at_the_end:
        return None
    place, came_back = course.stretches.index(peak), first - last > CLEAR * at_the_end
    return BlowUp(math.exp(first), math.exp(peak), place, came_back)
