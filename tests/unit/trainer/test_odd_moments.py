"""Runs that are stopped, killed or changed where it is least expected."""

import signal
from pathlib import Path

import pytest
from tests.unit.trainer.test_resume import arguments
from tests.unit.trainer.warm import WarmTrainer

pytestmark = pytest.mark.training


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
