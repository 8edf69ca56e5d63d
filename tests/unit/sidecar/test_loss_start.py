"""An early blow-up is told from noise, and a run that came back from one that did not."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks import training_loss
from finetuning.monitoring.validators.checks.loss_start import blow_up
from finetuning.monitoring.validators.outcome import CheckOutcome
from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import subject

Curve = Callable[[Random], list[float]]
ROWS = 8
SEEDS = 40


def noise(random: Random, sigma: float) -> float:
    return math.exp(random.gauss(0, sigma))


def thrown_off(good: int, first: float, plateau: float, peak: float, steps: int) -> Curve:
    """A few good steps, then a jump to the peak, and from there down to a plateau."""

    def curve(random: Random) -> list[float]:
        fall = [plateau + (peak - plateau) * math.exp(-n / 12) for n in range(steps - good)]
        return [loss * noise(random, 0.1) for loss in [*[first] * good, *fall]]

    return curve


BLOWN_UP: dict[str, Curve] = {
    "above the untrained model": thrown_off(3, 2.9, 4.4, 10.0, 80),
    "at the end of a long warm-up": thrown_off(10, 1.5, 6.5, 9.0, 300),
    "without a warm-up": thrown_off(1, 2.9, 4.4, 20.0, 60),
    "back to where it was": thrown_off(4, 2.9, 3.2, 10.0, 60),
    "never high, never back": thrown_off(4, 2.0, 4.4, 4.8, 100),
    "after three steps of which one is hard": lambda r: [
        2.5, 5.2, 1.7, *thrown_off(0, 0, 4.4, 9.0, 57)(r)
    ],
    "on easy and hard rows": lambda r: [0.02, 8.0, 0.03, 0.02, *thrown_off(0, 0, 5, 11.0, 56)(r)],
}  # fmt: skip


@pytest.mark.parametrize("curve", BLOWN_UP.values(), ids=BLOWN_UP)
def test_a_run_that_is_thrown_off_early_has_diverged(curve: Curve) -> None:
    for seed in range(SEEDS):
        found = blow_up(curve(Random(seed)), ROWS)
        assert found is not None, seed
        assert not found.came_back, (seed, found)


HEALTHY: dict[str, Curve] = {
    "heavy tails, slow fall": lambda r: [(1.6 - n / 300) * noise(r, 0.8) for n in range(150)],
    "no change": lambda r: [2 * noise(r, 0.5) for _ in range(60)],
    "one step in twenty six times as high": lambda r: [
        (1.6 - n / 400) * noise(r, 0.5) * (6 if r.random() < 0.05 else 1) for n in range(200)
    ],
    "by epochs": lambda r: [(2, 1.2, 0.5, 0.15, 0.05, 0.02)[n // 20] * noise(r, 0.5)
                            for n in range(120)],
    "preferences": lambda r: [max(0.69 - n / 200 + r.gauss(0, 0.15), 1e-4) for n in range(60)],
    "short rows first": lambda r: [
        (1.2 + n / 700 - min(1, n / 60) / 5) * noise(r, 0.15) for n in range(200)
    ],
    "easy and hard rows": lambda r: [
        8 * noise(r, 0.1) if r.random() < 0.3 else 0.02 * noise(r, 0.5) for _ in range(60)
    ],
    "twenty steps": lambda r: [(2 - n / 50) * noise(r, 0.5) for n in range(20)],
}  # fmt: skip


@pytest.mark.parametrize("curve", HEALTHY.values(), ids=HEALTHY)
def test_noise_is_no_blow_up_by_any_seed(curve: Curve) -> None:
    found = {seed: blow_up(curve(Random(seed)), ROWS) for seed in range(SEEDS)}
    assert {seed: each for seed, each in found.items() if each} == {}


def test_a_step_of_one_row_may_be_low_by_chance() -> None:
    first_is_easy = [0.4, *thrown_off(0, 1, 2.2, 2.4, 60)(Random(1))]
    assert blow_up(first_is_easy, 1) is None
    assert blow_up(first_is_easy, 256) is not None


def test_a_run_is_too_short_for_two_halves() -> None:
    assert blow_up([1.0, *[9.0] * 8], ROWS) is None


def judged(folder: Path, losses: list[float]) -> CheckOutcome:
    lines = [
        {"step": n, "epoch": 0.1, "loss": loss, "learning_rate": 0.1, "tokens": 100}
        for n, loss in enumerate(losses, start=1)
    ]
    (folder / "loss_history.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    info = {"results": {}, "training_config": {"batch_size": ROWS}}
    return training_loss.check(subject(info, folder, None, None, ValidationSettings()))


def test_the_check_fails_what_did_not_come_back_and_warns_of_what_did(tmp_path: Path) -> None:
    lost = judged(tmp_path, BLOWN_UP["back to where it was"](Random(1)))
    assert (lost.result, lost.reason) == (CheckResult.FAIL, "LossDiverged")
    assert "not clearly below" in lost.message
    assert lost.numbers["peak"] > 2 * lost.numbers["first"]
    assert "learningRate" in lost.remedy
    saved = judged(tmp_path, thrown_off(5, 2.9, 0.4, 12.0, 90)(Random(1)))
    assert saved.passed
    (warning,) = (each for each in saved.warnings if each.reason == "LossBlewUp")
    assert "from step " in warning.message
