"""The chance of an order is exact, and runs on rows of two kinds are judged by it alone."""

import math
from collections.abc import Callable
from itertools import combinations
from random import Random

import pytest

from finetuning.monitoring.validators.checks.loss_curve import collapse, divergence, late_spike
from finetuning.monitoring.validators.checks.loss_order import clump_of, log_chance
from finetuning.monitoring.validators.checks.loss_start import blow_up
from finetuning.monitoring.validators.checks.loss_trend import trend_of


@pytest.mark.parametrize(("steps", "others"), [(3, 4), (5, 5), (6, 2)])
@pytest.mark.parametrize("odd", [0, 1, 2])
def test_the_chance_is_that_of_all_orders(steps: int, others: int, odd: int) -> None:
    places = list(combinations(range(steps + others), others))
    for low in range(1, steps + 1):
        few = [sum(place < low + odd for place in chosen) <= odd for chosen in places]
        found = math.exp(log_chance(low, steps, others, odd))
        assert found == pytest.approx(sum(few) / len(places))


def test_what_cannot_be_is_no_proof() -> None:
    assert log_chance(5, 3, 4) == 0.0


@pytest.mark.parametrize(
    ("marks", "least", "most"),
    [
        ([], 1.0, 1.0),
        ([True] * 20, 1.0, 1.0),
        ([True, False] * 20, 1.0, 1.0),
        ([True] * 20 + [False] * 20, 1.0, 1.0),
        (([True] * 10 + [False] * 10) * 4 + [True], 3.0, 6.0),
    ],
)
def test_steps_that_go_together_count_for_less(
    marks: list[bool], least: float, most: float
) -> None:
    assert least <= clump_of(marks) <= most


def mixed(random: Random, steps: int, share: float, easy: float, hard: float) -> list[float]:
    """Rows that are known already, and some that nobody can know; both are learned a little."""
    return [
        (hard * math.exp(random.gauss(0, 0.2)) if random.random() < share
         else easy * math.exp(random.gauss(0, 0.5))) * (1 + math.exp(-6 * n / steps))
        for n in range(steps)
    ]  # fmt: skip


def faults_of(losses: list[float]) -> set[str]:
    trend = trend_of(losses, 8)
    assert trend is not None
    blown = blow_up(losses, 8)
    found = {
        "falls": trend.fails,
        "diverged": divergence(losses, trend) is not None,
        "blew up": blown is not None and not blown.came_back,
        "spiked": late_spike(losses) is not None,
        "collapsed": collapse(losses) is not None,
    }
    return {name for name, is_found in found.items() if is_found}


@pytest.mark.parametrize("steps", [20, 60, 150])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
@pytest.mark.parametrize(("easy", "hard"), [(0.02, 0.5), (0.02, 8.0), (0.3, 1.5)])
def test_two_levels_from_beginning_to_end_are_no_fault(
    steps: int, share: float, easy: float, hard: float
) -> None:
    blamed = [faults_of(mixed(Random(seed), steps, share, easy, hard)) for seed in range(12)]
    assert sum(map(bool, blamed)) <= 1, blamed


Change = Callable[[Random, list[float]], list[float]]


def thrown_off(share: float) -> Change:
    def change(random: Random, losses: list[float]) -> list[float]:
        end = round(share * len(losses))
        return [*losses[:-end], *(7 * math.exp(random.gauss(0, 0.2)) for _ in range(end))]

    return change


@pytest.mark.parametrize(
    ("steps", "share", "change", "fault"),
    [
        (60, 0.2, thrown_off(1 / 3), "diverged"),
        (150, 0.4, thrown_off(1 / 3), "diverged"),
        (150, 0.1, thrown_off(0.1), "diverged"),
        (60, 0.2, thrown_off(0.9), "blew up"),
        (60, 0.3, lambda _random, x: [*x[:30], *[1e-6] * 30], "collapsed"),
        (60, 0.2, lambda _random, x: [*x[:-2], 60.0, 55.0], "spiked"),
    ],
)
def test_a_fault_is_seen_on_two_levels(
    steps: int, share: float, change: Change, fault: str
) -> None:
    seeds = [Random(seed) for seed in range(20)]
    found = [faults_of(change(seed, mixed(seed, steps, share, 0.02, 8.0))) for seed in seeds]
    assert sum(fault in each for each in found) >= 17, found
