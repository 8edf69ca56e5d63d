"""How often chance puts losses in an order, whatever their levels are: exact, and without a noise.

A trainer shuffles its rows. Of a model that stays as it is, each order of the losses is therefore
as likely as any other, also where some steps hold hard rows and most hold easy ones, so that there
are two levels and no such thing as the noise of a step.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

RARE = math.log(1.5e-4)
"""The logarithm of a chance that is told from a fault: each rule makes several comparisons."""

_STRONGEST_LINK = 0.9
"""Autocorrelation that is told at most. Of that of a few steps its standard error is taken."""


def log_chance(low: float, steps: float, others: float, odd: int = 0) -> float:
    """Logarithm of the chance that of the `low + odd` lowest losses at most `odd` are `others`.

    There are `steps` losses on the one side and `others` on the other. This is the precedence
    test (Nelson 1963), of which the counts are hypergeometric. Sizes need not be whole: of
    steps that go together several count for one.
    """
    lowest = low + odd
    ways = [_log_ways(others, n) + _log_ways(steps, lowest - n) for n in range(odd + 1)]
    most = max(ways)
    if most == -math.inf:
        return 0.0
    total = most + math.log(sum(math.exp(each - most) for each in ways))
    return min(0.0, total - _log_ways(steps + others, lowest))


def _log_ways(of: float, chosen: float) -> float:
    """Logarithm of the binomial coefficient."""
    if not 0 <= chosen <= of:
        return -math.inf
    return math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)


def clump_of(marks: Sequence[bool]) -> float:
    """How many steps count for one, by the autocorrelation of what is true of them; 1 or more.

    Up to the last of which it is true: what comes after that may be the change that is asked for.
    """
    marks = marks[: len(marks) - (list(reversed(marks)).index(True) if any(marks) else 0)]
    mean = sum(marks) / len(marks) if marks else 0.0
    spread = sum((mark - mean) ** 2 for mark in marks)
    if not spread:
        return 1.0
    link = sum((one - mean) * (other - mean) for one, other in pairwise(marks)) / spread
    link = min(max(link - 1 / math.sqrt(len(marks)), 0.0), _STRONGEST_LINK)
    return (1 + link) / (1 - link)
