"""Ticks, scales and the shape of curves."""

import pytest

from finetuning.report.charts import (
    Scale,
    Series,
    Upright,
    buckets,
    figure,
    is_log,
    log_ticks,
    ticks,
)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 0.003, [0, 0.001, 0.002, 0.003]),
        (0, 9999, [0, 2000, 4000, 6000, 8000, 10000]),
        (0, 0, [0, 0.2]),
        (5, 5, [5, 6]),
        (-3, 4, [-4, -2, 0, 2, 4]),
    ],
)
def test_ticks_are_round_and_cover_the_values(
    low: float, high: float, expected: list[float]
) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.015, 2.4, [0.01, 0.1, 1, 10]),
        (0.3, 40, [0.1, 1, 10, 100]),
        (1, 100, [1, 2, 5, 10, 20, 50, 100]),
        (1, 1e20, [1, 1e3, 1e6, 1e9, 1e12, 1e15, 1e18, 1e21]),
    ],
)
def test_ticks_of_a_logarithmic_axis(low: float, high: float, expected: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.003, "0.003"), (2e-5, "2e-5"), (1500, "1,500"), (10_000, "10,000"), (3e9, "3e9")],
)
def test_figures_are_short(value: float, text: str) -> None:
    assert figure(value) == text


def test_a_long_curve_keeps_its_extremes() -> None:
    points = [(float(x), 1.0) for x in range(100_000)]
    points[54_321] = (54_321.0, 99.0)
    found = buckets(points)
    assert len(found) == 240
    assert max(each.high for each in found) == 99.0
    assert min(each.mean for each in found) == 1.0


def test_places_are_between_the_ends() -> None:
    assert Scale(0, 10, 100, 0).at(5) == 50
    assert Scale(0.01, 100, 0, 100, log=True).at(1) == 50


@pytest.mark.parametrize(
    ("values", "expected"), [((0.01, 2.0), True), ((0.1, 2.0), False), ((0.0, 2.0), False)]
)
def test_a_logarithm_is_taken_where_values_lie_far_apart(
    values: tuple[float, ...],
    expected: bool,  # noqa: FBT001 - a table
) -> None:
    series = Series("x", [(float(i), y) for i, y in enumerate(values)], "a")
    assert is_log([series], Upright("x", may_be_log=True)) is expected
    assert not is_log([series], Upright("x"))
