"""Runs that are stopped, killed or changed where it is least expected."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer.test_resume import arguments, history
from tests.unit.trainer.warm import WarmTrainer

from finetuning.artifacts import LOSS_HISTORY, SAMPLES

pytestmark = pytest.mark.training

EVALUATES = ("--max-steps", 9, "--eval-split", 0.4, "--eval-steps", 3, "--load-best-model-at-end")
ASKS = ("--sample-generations", 2, "--sample-max-new-tokens", 2)
STOPS_EARLY = ("--early-stopping-patience", 1, "--early-stopping-threshold", 100)
IN_THE_EVALUATION = "finetuning.base.step.shared_out:8"
IN_THE_FIRST_ANSWER = "finetuning.base.samples.autocast:3"


def results(output: Path) -> dict[str, Any]:
    info = json.loads((output / "training_info.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = info["results"]
    return {name: found[name] for name in ("best_global_step", "eval_loss", "total_steps")}


@pytest.mark.parametrize(
    ("where", "more"),
    [
        (IN_THE_EVALUATION, ()),
        (IN_THE_FIRST_ANSWER, ()),
        (IN_THE_EVALUATION, STOPS_EARLY),
    ],
)
def test_a_pause_while_it_evaluates_changes_nothing(  # noqa: PLR0917 - fixtures
    where: str,
    more: tuple[object, ...],
    tiny_model: Path,
    rows_file: Path,
    tmp_path: Path,
    warm: WarmTrainer,
) -> None:
    whole, paused = tmp_path / "whole", tmp_path / "paused"
    options = (*EVALUATES, *ASKS, *more)
    assert warm.run(*arguments(tiny_model, rows_file, whole, *options))[0] == 0
    command = arguments(tiny_model, rows_file, paused, *options)
    code, output = warm.run(*command, kill_in=f"{where}:SIGTERM")
    assert code == 143
    assert "Paused at step 6" in output
    assert "eval_loss" not in history(paused)[-1]
    assert warm.run(*command)[0] == 0
    for name in (LOSS_HISTORY, SAMPLES):
        assert (paused / name).read_bytes() == (whole / name).read_bytes()
    assert results(paused) == results(whole)


def test_a_run_that_is_made_shorter_is_measured_where_it_ends(
    tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    """Between two evaluations of the longer one; it is then the run that was short all along."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = (*EVALUATES, *ASKS, "--lr-scheduler-type", "constant")
    longer = arguments(tiny_model, rows_file, cut, *options)
    code, said = warm.run(*longer, kill_in="finetuning.base.loop.HistoryLine:4:SIGTERM")
    assert code == 143
    assert "Paused at step 4" in said
    for output in (cut, whole):
        shorter = arguments(tiny_model, rows_file, output, *options, "--max-steps", 4)
        assert warm.run(*shorter)[0] == 0
    for name in (LOSS_HISTORY, SAMPLES):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert [line["step"] for line in history(cut) if "eval_loss" in line] == [3, 4]
    assert results(cut) == results(whole)


@pytest.mark.parametrize("where", ["os.rename:1", "os.rename:2"])
def test_death_while_a_checkpoint_takes_the_place_of_one_leaves_either(
    where: str, tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    """The last one is written anew where a run that only lacked its result has another setting."""
    command = arguments(tiny_model, rows_file, tmp_path / "out", "--max-steps", 3)
    command += ["--save-steps", "3", "--save-total-limit", "1"]
    assert warm.run(*command, kill_in="finetuning.base.report.publish:1")[0] == -signal.SIGKILL
    command += ["--logging-steps", "2"]
    assert warm.run(*command, kill_in=where)[0] == -signal.SIGKILL
    code, output = warm.run(*command)
    assert code == 0
    assert "Continuing from checkpoint-3" in output
    names = [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()]
    assert names == ["checkpoint-3"]


@pytest.mark.parametrize("more", [[], ["--method", "full", "--objective", "dpo"]])
def test_other_weights_under_the_name_of_the_base_model_are_noticed(  # noqa: PLR0917 - fixtures
    more: list[str],
    tiny_model: Path,
    rows_file: Path,
    pairs_file: Path,
    tmp_path: Path,
    warm: WarmTrainer,
) -> None:
    base, rows = tmp_path / "base", pairs_file if more else rows_file
    shutil.copytree(tiny_model, base)
    command = arguments(base, rows, tmp_path / "out", "--max-steps", 4, "--save-steps", 2, *more)
    assert warm.run(*command, kill_in="finetuning.base.report.publish:1")[0] == -signal.SIGKILL
    changed(base / "model.safetensors")
    code, output = warm.run(*command)
    assert code == 2
    assert f"checkpoint-4 was trained on other weights than {base} has now" in output
    shutil.copy(tiny_model / "model.safetensors", base)
    assert warm.run(*command)[0] == 0
    changed(base / "model.safetensors")
    code, output = warm.run(*command)
    assert code == 2
    assert "base_weights: those of the base model are others now" in output


def changed(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = {name: tensor + 1 for name, tensor in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
