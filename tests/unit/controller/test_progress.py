from typing import Any

import pytest

from finetuning.api.v1alpha1 import FineTuningJobStatus
from finetuning.artifacts.models import TrainingState
from finetuning.controller import progress


def state(**fields: Any) -> TrainingState:
    base = {"updatedAt": 1.0, "state": "training", "step": 40, "totalSteps": 100, **fields}
    return TrainingState.model_validate(base)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.6, "1m0s"), (200, "3m20s"), (7500, "2h5m"), (273600, "3d4h"), (-5, "0s")],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


@pytest.mark.parametrize(
    ("step", "total", "text"),
    [(None, 10, ""), (5, None, ""), (5, 0, ""), (0, 10, "0%"), (999, 1000, "99%"), (10, 10, "99%")],
)
def test_a_percentage_needs_a_total_and_leaves_100_to_success(
    step: int | None, total: int | None, text: str
) -> None:
    assert progress.percent(step, total) == text


def test_what_is_not_finite_is_unknown() -> None:
    fields = progress.fields(state(loss="NaN", evalLoss="Infinity", tokensPerSecond=12.345))
    assert (fields["train_loss"], fields["eval_loss"]) == (None, None)
    assert fields["tokens_per_second"] == 12.3


@pytest.mark.parametrize(
    ("loss", "shown"),
    [
        (12.34567, 12.3457),
        (0.52341, 0.5234),
        (0.010442, 0.01044),
        (0.0000123456, 0.00001235),
        (-0.00012345, -0.0001234),
        (0.0, 0.0),
    ],
)
def test_a_small_loss_keeps_its_digits(loss: float, shown: float) -> None:
    assert progress.fields(state(loss=loss, evalLoss=loss))["train_loss"] == shown
    assert progress.fields(state(loss=loss, evalLoss=loss))["eval_loss"] == shown


@pytest.mark.parametrize(("epoch", "begun"), [(None, None), (0.0, 0), (0.1, 1), (1.0, 1), (2.2, 3)])
def test_epochs_are_counted_when_they_begin(epoch: float | None, begun: int | None) -> None:
    assert progress.fields(state(epoch=epoch))["current_epoch"] == begun


def test_only_steps_and_evaluations_are_worth_a_write() -> None:
    shown = FineTuningJobStatus(current_step=40, total_steps=100, eval_loss=1.5)
    assert not progress.worth_showing(shown, state(evalLoss=1.5, tokensPerSecond=99))
    assert progress.worth_showing(shown, state(evalLoss=1.5, step=41))
    assert progress.worth_showing(shown, state(evalLoss=1.4))


@pytest.mark.parametrize("doing", ["starting", "failed"])
def test_a_state_without_figures_shows_nothing(doing: str) -> None:
    shown = FineTuningJobStatus(current_step=40, total_steps=100)
    assert not progress.worth_showing(shown, state(state=doing, step=None, totalSteps=None))
