"""Early stopping, and the weights of the lowest held-out loss as the result."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.test_resume import arguments, checkpoints, flip_a_bit, history
from tests.unit.trainer.warm import WarmTrainer

from finetuning.api.hyperparameters import Hyperparameters
from finetuning.artifacts.manifest import problem_with, sha256_of
from finetuning.artifacts.trainer_state import TrainerState
from finetuning.base.app import main
from finetuning.base.best import gives_up, judge
from finetuning.monitoring.validators.checks import training_loss
from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import subject

# Too fast to learn: the held-out loss rises after the first steps.
FLAGS = ("--learning-rate", 1, "--eval-split", 0.2, "--eval-steps", 1, "--epochs", 9)


@pytest.mark.parametrize(
    ("losses", "threshold", "best", "without_gain"),
    [
        ([3.0, 2.0, 1.0], 0.0, 3, 0),
        ([3.0, 3.0, 3.5], 0.0, 1, 2),
        ([3.0, 2.95, 2.9], 0.1, 3, 2),
        ([3.0, float("nan"), 2.0], 0.0, 3, 0),
        ([float("nan"), float("nan")], 0.0, None, 2),
    ],
)
def test_evaluations_are_counted_as_transformers_does(
    losses: list[float], threshold: float, best: int | None, without_gain: int
) -> None:
    state = TrainerState()
    for loss in losses:
        state.global_step += 1
        judge(state, loss, threshold)
    assert (state.best_global_step, state.evaluations_without_gain) == (best, without_gain)


def test_without_patience_nothing_gives_up() -> None:
    state = TrainerState(evaluations_without_gain=999)
    assert not gives_up(state, Hyperparameters())
    assert gives_up(state, Hyperparameters(early_stopping_patience=999))


@pytest.mark.parametrize(
    ("settings", "keeps"),
    [
        ({}, False),
        ({"early_stopping_patience": 1}, True),
        ({"load_best_model_at_end": True}, True),
        ({"early_stopping_patience": 1, "load_best_model_at_end": False}, False),
    ],
)
def test_early_stopping_takes_the_best_weights_unless_told_otherwise(
    settings: dict[str, Any], *, keeps: bool
) -> None:
    assert Hyperparameters.model_validate(settings).keeps_best is keeps


def results(output: Path) -> dict[str, Any]:
    info = json.loads((output / "training_info.json").read_text(encoding="utf-8"))
    return dict(info["results"])


@pytest.mark.training
@pytest.mark.parametrize("method", ["lora", "full"])
def test_an_early_end_is_a_finished_run_with_the_best_weights(
    method: str, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    early = ("--early-stopping-patience", 2, "--save-total-limit", 1, "--method", method)
    assert main(arguments(tiny_model, rows_file, output, *FLAGS, *early)) == 0
    lines = history(output)
    losses = [line["eval_loss"] for line in lines]
    best = losses.index(min(losses)) + 1
    assert best == len(lines) - 2
    assert checkpoints(output) == sorted([f"checkpoint-{best}", f"checkpoint-{len(lines)}"])
    found = results(output)
    assert (found["global_step"], found["total_steps"]) == (len(lines), len(lines))
    assert (found["best_global_step"], found["planned_steps"]) == (best, 72)
    assert found["eval_loss"] == found["best_eval_loss"] == min(losses)
    weights = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    kept = output / "checkpoints" / f"checkpoint-{best}" / weights
    assert sha256_of(output / weights) == sha256_of(kept)
    what = subject(output / "training_info.json", output, None, None, ValidationSettings())
    assert training_loss.check(what).passed


@pytest.mark.long
@pytest.mark.training
def test_best_weights_that_were_damaged_are_not_used(
    tiny_model: Path,
    rows_file: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = tmp_path / "out"
    command = arguments(tiny_model, rows_file, output, *FLAGS, "--load-best-model-at-end")
    assert main(command) == 0
    best = results(output)["best_global_step"]
    (output / "manifest.json").unlink()
    flip_a_bit(output / "checkpoints" / f"checkpoint-{best}" / "adapter_model.safetensors")
    assert main(command) == 0
    assert "The best weights cannot be used, so the last ones are kept" in caplog.text
    assert problem_with(output) is None
    last = output / "checkpoints" / f"checkpoint-{results(output)['global_step']}"
    assert sha256_of(output / "adapter_model.safetensors") == sha256_of(
        last / "adapter_model.safetensors"
    )


@pytest.mark.training
def test_best_weights_wished_for_on_the_way_are_those_of_the_steps_from_there_on(
    tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    """Of the better steps before no checkpoint was kept."""
    output = tmp_path / "out"
    steps = ("--eval-split", 0.2, "--max-steps", 40, "--eval-steps", 10, "--save-steps", 40)
    command = arguments(tiny_model, rows_file, output, *steps)
    slow = ("--learning-rate", 2e-2)
    paused = "finetuning.base.loop.HistoryLine:22:SIGTERM"
    assert warm.run(*command, *slow, kill_in=paused)[0] == 143
    code, said = warm.run(*command, "--learning-rate", 1, "--load-best-model-at-end")
    assert code == 0
    losses = {line["step"]: line["eval_loss"] for line in history(output) if "eval_loss" in line}
    assert min(losses, key=losses.__getitem__) == 20
    assert "No checkpoint is left of step 20" in said
    best = min((30, 40), key=losses.__getitem__)
    found = results(output)
    assert (found["best_global_step"], found["eval_loss"]) == (best, losses[best])
    kept = output / "checkpoints" / f"checkpoint-{best}" / "adapter_model.safetensors"
    assert sha256_of(output / "adapter_model.safetensors") == sha256_of(kept)
