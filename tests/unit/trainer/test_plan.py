"""The run's arithmetic, without a model."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.api.hyperparameters import Hyperparameters, LrSchedulerType
from finetuning.base.plan import Plan, split_rows, warmup_for


def plan(rows: int = 10, **settings: Any) -> Plan:
    return Plan.of(Hyperparameters.model_validate(settings), rows)


@pytest.mark.parametrize(
    ("rows", "settings", "per_epoch", "total"),
    [
        (10, {"batch_size": 4, "epochs": 3}, 3, 9),
        (12, {"batch_size": 4, "epochs": 1}, 3, 3),
        (1, {"batch_size": 4, "epochs": 2}, 1, 2),
        (10, {"batch_size": 2, "gradient_accumulation_steps": 2, "epochs": 2}, 3, 6),
        (10, {"batch_size": 4, "epochs": 3, "max_steps": 5}, 3, 5),
        (10, {"batch_size": 4, "epochs": 1, "max_steps": 50}, 3, 50),
    ],
)
def test_steps_are_counted_up_to_the_last_incomplete_batch(
    rows: int, settings: dict[str, int], per_epoch: int, total: int
) -> None:
    found = plan(rows, **settings)
    assert (found.steps_per_epoch, found.total_steps) == (per_epoch, total)


@given(
    rows=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    accumulation=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_every_row_is_seen_once_in_every_epoch(
    rows: int, batch_size: int, accumulation: int, epoch: int
) -> None:
    found = plan(rows, batch_size=batch_size, gradient_accumulation_steps=accumulation)
    steps = range(epoch * found.steps_per_epoch, (epoch + 1) * found.steps_per_epoch)
    batches = list(itertools.chain.from_iterable(found.batches(step) for step in steps))
    assert sorted(itertools.chain.from_iterable(batches)) == list(range(rows))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert all(1 <= len(found.batches(step)) <= accumulation for step in steps)


def test_the_order_changes_with_the_epoch_and_the_seed_only() -> None:
    first = plan(50, batch_size=50)
    assert first.batches(0) == plan(50, batch_size=50).batches(0)
    assert first.batches(0) != first.batches(1)
    assert first.batches(0) != plan(50, batch_size=50, seed=7).batches(0)


@pytest.mark.parametrize("warmup", [0, 4])
@pytest.mark.parametrize("shape", list(LrSchedulerType))
def test_rates_are_those_of_transformers_schedules(shape: LrSchedulerType, warmup: int) -> None:
    import torch
    from transformers import get_scheduler

    lowest = {"min_lr_rate": 0.1} if shape == "cosine_with_min_lr" else {}
    settings: dict[str, Any] = {
        "learning_rate": 0.5,
        "warmup_steps": warmup,
        "max_steps": 20,
        "lr_scheduler_type": shape,
        **lowest,
    }
    found = plan(**settings)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = get_scheduler(
        shape.value, optimizer, warmup, num_training_steps=20, scheduler_specific_kwargs=lowest
    )
    for step in range(20):
        assert found.learning_rate(step) == pytest.approx(schedule.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(
    ("ratio", "total", "expected"), [(0.0, 50, 0), (0.03, 50, 2), (0.1, 5, 1), (0.99, 5, 4)]
)
def test_a_warm_up_by_ratio_wins_and_ends_before_the_run_does(
    ratio: float, total: int, expected: int
) -> None:
    found = plan(warmup_ratio=ratio, warmup_steps=100, max_steps=total)
    assert found.warmup_steps == expected


@pytest.mark.parametrize(
    ("wish", "total", "expected"), [(0, 5, 0), (100, 1000, 100), (100, 100, 10), (100, 3, 1)]
)
def test_a_warm_up_that_would_not_end_becomes_a_tenth_of_the_run(
    wish: int, total: int, expected: int
) -> None:
    assert warmup_for(wish, total) == expected


@pytest.mark.parametrize(
    ("settings", "saves"),
    [
        ({"max_steps": 7, "save_steps": 3}, [3, 6, 7]),
        ({"max_steps": 3}, [1, 2, 3]),
        ({"max_steps": 40}, list(range(4, 41, 4))),
    ],
)
def test_checkpoints_are_due_at_the_interval_and_at_the_end(
    settings: dict[str, int], saves: list[int]
) -> None:
    found = plan(**settings)
    assert [step for step in range(1, found.total_steps + 1) if found.saves_after(step)] == saves


@pytest.mark.parametrize(
    ("settings", "evaluations"),
    [
        ({"epochs": 3, "batch_size": 4}, [3, 6, 9]),
        ({"max_steps": 4, "eval_steps": 2}, [2, 4]),
        ({"max_steps": 4, "batch_size": 4}, [3, 4]),
    ],
)
def test_evaluations_are_due_each_epoch_or_at_the_interval_and_at_the_end(
    settings: dict[str, int], evaluations: list[int]
) -> None:
    found = plan(10, **settings)
    steps = range(1, found.total_steps + 1)
    assert [step for step in steps if found.evaluates_after(step)] == evaluations


@given(st.integers(2, 200), st.floats(0.01, 0.5), st.integers(0, 9))
def test_a_split_holds_out_its_share_and_leaves_rows_on_both_sides(
    count: int, share: float, seed: int
) -> None:
    train, held_out = split_rows(count, share, seed)
    assert sorted(train + held_out) == list(range(count))
    assert train
    assert len(held_out) == min(count - 1, max(1, round(count * share)))
    assert split_rows(count, share, seed) == (train, held_out)


def test_without_a_share_nothing_is_held_out() -> None:
    assert split_rows(3, 0.0, 1) == ([0, 1, 2], [])
