import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks import training_loss
from finetuning.monitoring.validators.checks.loss_trend import (
    autocorrelation,
    mann_kendall,
    theil_sen,
    trend_of,
)
from finetuning.monitoring.validators.outcome import CheckOutcome
from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import subject

FALLING = [5.0 - 0.1 * n for n in range(40)]


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., CheckOutcome]:
    """The check on a folder with these losses and this training_info."""

    def run(
        losses: list[Any] | None = None, info: dict[str, Any] | None = None, max_loss: float = 10.0
    ) -> CheckOutcome:
        if losses is not None:
            write_history(tmp_path, losses)
        default = {} if losses else {"train_loss": 0.5234}
        known = {"results": default} if info is None else info
        settings = ValidationSettings(max_loss=max_loss)
        return training_loss.check(subject(known, tmp_path, None, None, settings))

    return run


def write_history(folder: Path, losses: list[Any]) -> None:
    lines = [
        {"step": n, "epoch": 0.1, "loss": loss, "learning_rate": 0.1, "tokens": 100}
        for n, loss in enumerate(losses, start=1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "loss_history.jsonl").write_text(text)


def test_training_info_alone_is_judged_by_its_range(judge: Callable[..., CheckOutcome]) -> None:
    found = judge()
    assert found.passed
    assert found.message == "Training loss: 0.5234"
    assert found.score == 0.5234


def test_the_loss_shown_is_that_of_the_last_step(judge: Callable[..., CheckOutcome]) -> None:
    found = judge(FALLING)
    assert found.passed
    assert found.message == "Training loss: 1.1000"
    assert found.details["trendCertain"] is True


@pytest.mark.parametrize(("steps", "window"), [(1, 1), (5, 5), (7, 5), (16, 8), (100, 40)])
def test_the_last_loss_told_is_the_mean_over_the_last_logging_window(
    judge: Callable[..., CheckOutcome], steps: int, window: int
) -> None:
    mean = sum(FALLING[-window:]) / window
    config = {"logging_steps": steps}
    found = judge(FALLING, {"training_config": config, "results": {"final_loss": mean}})
    assert found.passed, found.message
    assert found.score == pytest.approx(mean)
    told = {"training_config": config, "results": {"final_loss": mean + 0.02}}
    assert f"over its last {window} steps" in judge(FALLING, told).message


@pytest.mark.parametrize("steps", [0, -1, True, "5", 2.5, None])
def test_a_logging_window_that_is_none_is_one_step(
    judge: Callable[..., CheckOutcome], steps: object
) -> None:
    assert judge(FALLING, {"training_config": {"logging_steps": steps}}).score == FALLING[-1]


def test_a_short_run_says_how_little_its_trend_means(judge: Callable[..., CheckOutcome]) -> None:
    found = judge([2.0, 1.9, 1.8, 1.7, 1.6])
    assert found.passed
    assert found.message == "Training loss: 1.6000 (only 5 steps: trend uncertain)"


def test_loss_at_the_top_level_counts_too(judge: Callable[..., CheckOutcome]) -> None:
    assert judge(info={"train_loss": 0.7}).score == 0.7


STEPS = {"results": {"train_loss": 3.0, "global_step": 40, "total_steps": 40}}


@pytest.mark.parametrize(
    ("losses", "info", "reason", "words"),
    [
        ([*FALLING[:20], "NaN", *FALLING[21:]], None, "LossNotFinite", "step 21, 1 of 40"),
        ([*FALLING[:39], "Infinity"], None, "LossNotFinite", "step 40"),
        (None, {"results": {"train_loss": "NaN"}}, "LossNotFinite", "nan"),
        (None, {"results": {"train_loss": 1, "nonfinite_losses": 3}}, "LossNotFinite", "3 steps"),
        (None, {"results": {}}, "LossMissing", "results.train_loss"),
        (None, {}, "LossMissing", "loss_history.jsonl"),
        (None, {"results": {"train_loss": "low"}}, "TrainingInfoUnreadable", "results.train_loss"),
        (None, {"results": {"train_loss": 0.0}}, "LossOutOfRange", "exactly 0"),
        (None, {"results": {"train_loss": 10.0}}, "LossOutOfRange", "between 0 and 10"),
        (None, {"results": {"train_loss": -1}}, "LossOutOfRange", "-1.0000"),
        (FALLING[::-1], None, "LossNotDecreasing", "over the last 5"),
        ([2.0] * 40, None, "LossNotDecreasing", "does not fall"),
        ([1.0 + 0.1 * n for n in range(8)], None, "LossNotDecreasing", "first 2 steps"),
        ([0.1, 9.9], None, "LossNotDecreasing", "first 1 steps"),
        ([*FALLING, *[6.0] * 10], None, "LossDiverged", "6.0000"),
        (FALLING[:30], STEPS, "RunUnfinished", "30 of 40"),
        (None, {"results": {"train_loss": 1, "global_step": 9, "total_steps": 10}},
         "RunUnfinished", "9 of 10"),
    ],
)  # fmt: skip
def test_a_bad_training_fails_for_its_reason(
    judge: Callable[..., CheckOutcome],
    losses: list[Any] | None,
    info: dict[str, Any] | None,
    reason: str,
    words: str,
) -> None:
    found = judge(losses, info)
    assert (found.result, found.reason) == (CheckResult.FAIL, reason)
    assert words in found.message


def test_the_allowed_loss_is_a_setting(judge: Callable[..., CheckOutcome]) -> None:
    assert judge(FALLING, max_loss=1.0).reason == "LossOutOfRange"
    assert judge(FALLING, max_loss=1.2).passed


def test_a_resumed_run_counts_the_last_version_of_each_step(
    judge: Callable[..., CheckOutcome], tmp_path: Path
) -> None:
    write_history(tmp_path, FALLING)
    path = tmp_path / "loss_history.jsonl"
    again = {"step": 40, "epoch": 1, "loss": 1.05, "learning_rate": 0.1, "tokens": 1}
    path.write_text(path.read_text() + json.dumps(again) + "\n" + '{"step": 41, "epo')
    found = judge(info={"results": {}})
    assert found.passed
    assert found.score == 1.05
    assert [warning.reason for warning in found.warnings] == ["HistoryStitched"]
    assert found.details["steps"] == 40


@pytest.mark.parametrize("content", [b"", b"not json\n", bytes(range(256))])
def test_a_history_without_a_readable_line_fails(
    judge: Callable[..., CheckOutcome], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "loss_history.jsonl").write_bytes(content)
    assert judge().reason == "HistoryUnreadable"


def test_no_training_info_at_all_fails() -> None:
    found = training_loss.check(subject(None, None, None, None, ValidationSettings()))
    assert found.reason == "TrainingInfoUnreadable"


@pytest.mark.parametrize(
    ("losses", "fails"),
    [
        ([1.0], None),
        ([1.0, 0.9], False),
        ([0.1, 9.9], True),
        ([1.0, 1.5], False),
        ([1.0, 3.0, 5.0, 7.0], True),
        ([1.0, 1.02, 1.01, 1.03], False),
        ([1.0, 1.2, 1.3, 1.4], False),
        ([1.0, 1.0, 1.0, 1.0, 9.0], True),
        ([9.0, 1.0, 9.0, 9.5, 1.0], False),
        ([1.0 + 0.05 * n for n in range(12)], True),
        ([1.0 + 0.001 * n for n in range(12)], False),
        ([1.0] * 20, True),
        ([1.0] * 19 + [0.9], True),
        ([1.0 + 0.01 * n for n in range(20)], True),
        ([1.0] * 10 + [0.9] * 10, False),
    ],
)
def test_only_what_chance_cannot_do_is_held_against_a_run(
    losses: list[float], fails: object
) -> None:
    trend = trend_of(losses, rows=8)
    assert (trend.fails if trend else None) == fails


def test_the_fewer_rows_a_step_has_the_more_it_may_vary() -> None:
    found = [trend_of([1.0, 3.0, 5.0, 7.0], rows) for rows in (1, 8)]
    assert [trend.fails for trend in found if trend] == [False, True]


def test_mann_kendall_is_that_of_the_definition() -> None:
    # 6 pairs that all rise: (6 - 1) / sqrt(4 * 3 * 13 / 18).
    assert mann_kendall([1.0, 2.0, 3.0, 4.0]) == pytest.approx(5 / (4 * 3 * 13 / 18) ** 0.5)
    assert mann_kendall([4.0, 3.0, 2.0, 1.0]) == pytest.approx(-5 / (4 * 3 * 13 / 18) ** 0.5)
    # 5 pairs rise, one is equal, which takes 2 * 1 * 9 / 18 from the variance.
    assert mann_kendall([1.0, 2.0, 2.0, 3.0]) == pytest.approx(4 / ((156 - 18) / 18) ** 0.5)
    assert mann_kendall([2.0] * 30) == 0


def correlated(seed: int, count: int, link: float) -> list[float]:
    random, value, values = Random(seed), 0.0, []
    for _ in range(count):
        value = link * value + (1 - link**2) ** 0.5 * random.gauss(0, 0.3)
        values.append(2 + value)
    return values


def test_steps_that_are_alike_are_told_and_count_for_less() -> None:
    found = sorted(autocorrelation(correlated(seed, 200, 0.8)) for seed in range(15))
    assert found[7] == pytest.approx(0.8, abs=0.15)
    assert sorted(autocorrelation(correlated(s, 200, 0.0)) for s in range(15))[7] < 0.2


@pytest.mark.parametrize(("steps", "link"), [(20, 0.0), (80, 0.0), (80, 0.7)])
def test_noise_alone_is_no_verdict_by_any_seed(
    judge: Callable[..., CheckOutcome], steps: int, link: float
) -> None:
    """A learning rate of 1e-6 looks like this: the same recipe must not fail for some seeds."""
    warned = 0
    for seed in range(30):
        found = judge(correlated(seed, steps, link))
        assert found.passed, (seed, found.message)
        warned += "TrendWeak" in (found.warned or [])
    assert warned > 15


@pytest.mark.parametrize(
    ("share", "noise", "fewest"), [(0.08, 0.02, 30), (0.4, 0.15, 27), (1.0, 0.15, 30)]
)
def test_a_run_that_rises_beyond_its_noise_fails(
    judge: Callable[..., CheckOutcome], share: float, noise: float, fewest: int
) -> None:
    failed = 0
    for seed in range(30):
        random = Random(seed)
        losses = [2 + 2 * share * n / 79 + random.gauss(0, 2 * noise) for n in range(80)]
        found = judge([max(0.1, loss) for loss in losses])
        failed += found.reason in ("LossNotDecreasing", "LossDiverged")
        assert found.reason or "TrendWeak" in (found.warned or [])
    assert failed >= fewest


def noisy_curve(seed: int, steps: int, floor: float, fall: float, noise: float) -> list[float]:
    """A learning curve as they are: a fast fall, a long tail, and batches of unequal hardness."""
    random = Random(seed)
    return [
        max(0.001, floor + fall * math.exp(-6 * n / steps) + random.gauss(0, noise))
        for n in range(steps)
    ]


@pytest.mark.parametrize("steps", [8, 20, 45, 150, 900])
@pytest.mark.parametrize(
    ("floor", "fall", "noise"), [(0.02, 3.0, 0.005), (0.4, 2.0, 0.1), (1.1, 0.5, 0.1)]
)
def test_curves_of_runs_that_learn_are_not_blamed(
    judge: Callable[..., CheckOutcome], steps: int, floor: float, fall: float, noise: float
) -> None:
    for seed in range(5):
        found = judge(noisy_curve(seed, steps, floor, fall, noise))
        assert found.passed, (seed, found.message)


def test_a_curve_that_falls_at_once_and_then_stays_is_not_blamed(
    judge: Callable[..., CheckOutcome],
) -> None:
    random = Random(3)
    tail = [1 + 0.01 * n / 400 + random.gauss(0, 0.02) for n in range(400)]
    assert judge([4.0, 3.5, 3.0, 2.5, 2.0, 1.7, 1.4, 1.2, *tail]).passed


def test_a_hard_batch_in_the_middle_is_a_warning(judge: Callable[..., CheckOutcome]) -> None:
    found = judge([*FALLING[:20], 9.5, *FALLING[21:]])
    assert found.passed
    (warning,) = found.warnings
    assert warning.reason == "LossSpikes"
    assert "such as 21" in warning.message
    assert warning.remedy


def test_a_hard_batch_in_the_last_step_says_nothing_of_the_weights(
    judge: Callable[..., CheckOutcome],
) -> None:
    """Its loss is measured before its update."""
    found = judge([*FALLING[:39], 9.5])
    assert found.passed
    assert found.warned == ["LossSpikes"]
    assert "such as 40" in found.warnings[0].message


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ([*FALLING[:38], 9.5, 9.4], "LossSpiked"),
        ([*FALLING[:37], 9.5, 9.4, 9.6], "LossSpiked"),
        ([*FALLING[:20], *[0.01] * 20], "LossCollapsed"),
        ([*FALLING[:20], -0.1, *FALLING[21:]], "LossOutOfRange"),
        ([*FALLING[:30], *[3.5] * 10], "LossDiverged"),
    ],
)
def test_a_run_that_ends_badly_fails(
    judge: Callable[..., CheckOutcome], losses: list[float], reason: str
) -> None:
    found = judge(losses)
    assert (found.result, found.reason) == (CheckResult.FAIL, reason)
    assert found.remedy


def test_the_wished_decrease_is_a_setting(tmp_path: Path) -> None:
    write_history(tmp_path, FALLING)

    def judged(share: float) -> CheckOutcome:
        settings = ValidationSettings(min_loss_decrease=share)
        return training_loss.check(subject({"results": {}}, tmp_path, None, None, settings))

    assert judged(0.7).passed
    found = judged(0.8)
    assert found.reason == "LossDecreaseTooSmall"
    assert found.numbers["minLossDecrease"] == 0.8
    assert found.numbers["decrease"] == pytest.approx((4.8 - 1.3) / 4.8)


def evaluated(folder: Path, evals: dict[int, float]) -> None:
    write_history(folder, FALLING)
    path = folder / "loss_history.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    told = [line | {"eval_loss": evals.get(line["step"])} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in told))


OVERFIT = {10: 2.0, 20: 1.0, 30: 1.2, 40: 1.5}
BEST = {"eval_loss": 1.0, "best_eval_loss": 1.0, "best_global_step": 20}


@pytest.mark.parametrize(
    ("limit", "results", "reason", "warnings"),
    [
        (None, {}, "", ["EvalLossRises"]),
        (0.4, {}, "Overfit", []),
        (0.5, {}, "", ["EvalLossRises"]),
        (0.0, BEST, "", []),
        (0.4, BEST | {"eval_loss": 1.5}, "Overfit", []),
    ],
)
def test_overfitting_is_told_by_the_evaluations_of_the_weights_that_were_kept(
    tmp_path: Path, limit: float | None, results: dict[str, Any], reason: str, warnings: list[str]
) -> None:
    evaluated(tmp_path, OVERFIT)
    settings = ValidationSettings(max_overfit=limit)
    found = training_loss.check(subject({"results": results}, tmp_path, None, None, settings))
    assert found.reason == reason
    assert [warning.reason for warning in found.warnings] == warnings


def test_what_came_after_the_weights_that_were_kept_is_not_held_against_them(
    tmp_path: Path,
) -> None:
    write_history(tmp_path, [*FALLING[:30], *[4.5] * 10])
    for results, reason in (({}, "LossDiverged"), (BEST, "")):
        known = {"results": results}
        found = training_loss.check(subject(known, tmp_path, None, None, ValidationSettings()))
        assert found.reason == reason


def test_a_few_lost_lines_are_a_warning_and_many_a_fault(
    judge: Callable[..., CheckOutcome], tmp_path: Path
) -> None:
    write_history(tmp_path, FALLING)
    path = tmp_path / "loss_history.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    for lost, reason in ((4, ""), (5, "HistoryGap")):
        path.write_text("".join(lines[:10] + lines[10 + lost :]))
        found = judge(info={"results": {}})
        assert found.reason == reason


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ({"global_step": 39}, "step 39"),
        ({"train_loss": 5.5}, "train_loss 5.5000"),
        ({"final_loss": 1.0}, "between 1.1000 and 5.0000"),
    ],
)
def test_a_description_that_the_history_contradicts_fails(
    judge: Callable[..., CheckOutcome], results: dict[str, Any], words: str
) -> None:
    found = judge(FALLING, info={"results": results})
    assert found.reason == "InfoMismatch"
    assert words in found.message


def with_fields(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "loss_history.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line | change(line)) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (lambda line: {"grad_norm": "NaN"} if line["step"] > 30 else {}, "GradientNotFinite"),
        (lambda line: {"epoch": 41 - line["step"]}, "HistoryOdd"),
        (lambda line: {"learning_rate": -0.1} if line["step"] == 7 else {}, "HistoryOdd"),
    ],
)
def test_what_no_trainer_writes_is_a_warning(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], warning: str
) -> None:
    write_history(tmp_path, FALLING)
    with_fields(tmp_path, change)
    info = subject({"results": {}}, tmp_path, None, None, ValidationSettings())
    found = training_loss.check(info)
    assert found.passed
    assert found.warned == [warning]


def test_a_loss_that_was_no_number_in_a_step_done_again_is_a_warning(tmp_path: Path) -> None:
    write_history(tmp_path, [*FALLING[:39], "NaN"])
    path = tmp_path / "loss_history.jsonl"
    again = json.loads(path.read_text().splitlines()[-1]) | {"loss": FALLING[-1]}
    path.write_text(path.read_text() + json.dumps(again) + "\n")
    info = subject({"results": {}}, tmp_path, None, None, ValidationSettings())
    found = training_loss.check(info)
    assert found.passed
    assert found.warned == ["LossNotFiniteBefore", "HistoryStitched"]


@pytest.mark.parametrize(
    ("results", "config", "planned"),
    [
        ({"total_steps": 40}, {}, 40),
        ({"total_steps": 40, "planned_steps": 60}, {}, 60),
        ({"total_steps": 40, "planned_steps": 60}, {"early_stopping_patience": 2}, 40),
        ({}, {"max_steps": 50}, 50),
        ({"planned_steps": 45}, {"max_steps": None}, 45),
        ({}, {"max_steps": True}, None),
        ({"total_steps": 40}, {"max_steps": "many"}, 40),
    ],
)
def test_the_plan_is_told_in_more_than_one_place(
    judge: Callable[..., CheckOutcome],
    results: dict[str, Any],
    config: dict[str, Any],
    planned: int | None,
) -> None:
    found = judge(FALLING, {"results": results, "training_config": config})
    assert found.details["plannedSteps"] == planned
    assert found.reason == ("RunUnfinished" if planned and planned > 40 else "")


STATE = {"global_step": 40, "max_steps": 40, "run": {"model_id": "a", "learning_rate": 0.1}}


@pytest.mark.parametrize(
    ("state", "config", "words"),
    [
        (STATE, {"model_id": "a", "learning_rate": 0.1, "more": 1}, ""),
        (STATE, {}, ""),
        ({"global_step": 40, "max_steps": "many", "run": [1]}, {"model_id": "a"}, ""),
        (STATE, {"model_id": "a", "learning_rate": 0.2}, "learning_rate 0.2, its checkpoint 0.1"),
        (STATE | {"global_step": 30}, {"model_id": "a", "learning_rate": 0.2}, ""),
        (STATE | {"global_step": 30}, {"model_id": "b"}, "model_id b, its checkpoint a"),
        (STATE | {"global_step": 48}, {"model_id": "a"}, "newest checkpoint is of step 48"),
    ],
)
def test_the_description_is_held_against_the_newest_checkpoint(
    judge: Callable[..., CheckOutcome],
    tmp_path: Path,
    state: dict[str, Any],
    config: dict[str, Any],
    words: str,
) -> None:
    folder = tmp_path / "checkpoints" / f"checkpoint-{state['global_step']}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps(state))
    found = judge(FALLING, {"results": {"global_step": 40}, "training_config": config})
    assert found.reason == ("InfoMismatch" if words else "")
    assert words in found.message


def test_the_theil_sen_slope_is_that_of_the_definition() -> None:
    assert theil_sen([3.0, 1.0, 2.0]) == -0.5  # Of -2, -0.5 and 1.
    line = [10 - 0.01 * n for n in range(1000)]
    assert theil_sen(line) == pytest.approx(-0.01)
    line[100:300] = [50.0] * 200
    assert theil_sen(line) == pytest.approx(-0.01, rel=0.3)
