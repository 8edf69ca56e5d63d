"""Curves in bounded memory, and the order of rows."""

from datetime import UTC, datetime, timedelta

import pytest

from finetuning.api.v1alpha1 import FineTuningJobStatus, Phase
from finetuning.top.rows import CURVE_POINTS, Curve, Order, Row, in_order, percent

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_curve_keeps_its_shape_in_bounded_memory() -> None:
    curve = Curve()
    for step in range(1, 100_001):
        curve.add(step, float(step))
    assert len(curve.values) <= CURVE_POINTS
    assert curve.values == sorted(curve.values)
    assert curve.values[0] == pytest.approx((1 + curve.weight) / 2)
    assert curve.values[-1] > 100_000 - 2 * curve.weight


def test_a_step_that_was_seen_already_and_no_numbers_are_passed_over() -> None:
    curve = Curve()
    for step, value in ((1, 2.0), (1, 9.0), (2, None), (3, float("nan")), (4, 1.0)):
        curve.add(step, value)
    assert curve.values == [2.0, 1.0]


def test_a_run_that_began_anew_has_a_new_curve() -> None:
    curve = Curve()
    for step in (1, 2, 3):
        curve.add(step, 5.0)
    curve.add(1, 7.0)
    assert curve.values == [7.0]


def job(name: str, phase: Phase = Phase.RUNNING, minutes: int = 0, **figures: object) -> Row:
    start = NOON + timedelta(minutes=minutes)
    status = FineTuningJobStatus.model_validate({"phase": phase, "startTime": start, **figures})
    return Row(name=name, status=status)


ROWS = [
    job("done", Phase.SUCCEEDED, 9, progress="100%", trainLoss=0.1),
    job("waiting", Phase.PENDING, 8),
    job("slow", Phase.RUNNING, 1, progress="90%", trainLoss=0.5, tokensPerSecond=10),
    job("fast", Phase.RUNNING, 2, progress="9%", trainLoss=0.9, tokensPerSecond=99),
    job("lost", Phase.FAILED, 3),
]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Order.PHASE, "fast slow waiting lost done"),
        (Order.NAME, "done fast lost slow waiting"),
        (Order.AGE, "done waiting lost fast slow"),
        (Order.PROGRESS, "done slow fast lost waiting"),
        (Order.LOSS, "done slow fast lost waiting"),
        (Order.SPEED, "fast slow done lost waiting"),
    ],
)
def test_orders(order: Order, expected: str) -> None:
    assert " ".join(row.name for row in in_order(ROWS, order)) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("", 0), ("42%", 42), ("x", 0), ("nan%", 0), ("1e9%", 100), ("-5%", 0)]
)
def test_percent_of_whatever_is_there(text: str, expected: float) -> None:
    assert percent(FineTuningJobStatus(progress=text)) == expected
