"""The termination message: small, valid, in place."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.artifacts import TERMINATION_MESSAGE_LIMIT
from finetuning.artifacts.models import GpuState, RunState, TrainFailure, TrainingResult
from finetuning.base.last_words import encode, say
from finetuning.base.live import LiveState


@given(st.text(max_size=1024))
def test_every_message_fits_and_parses(message: str) -> None:
    result = TrainingResult(result=RunState.FAILED, reason="TrainingFailed", message=message)
    data = encode(result)
    assert len(data) <= TERMINATION_MESSAGE_LIMIT
    parsed = TrainingResult.model_validate_json(data)
    assert message.startswith(parsed.message)
    assert parsed.reason == "TrainingFailed"


def test_the_file_is_written_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kubelet mounts the file itself, so it must stay the same inode."""
    path = tmp_path / "termination-log"
    path.write_text("something longer from before" * 50, encoding="utf-8")
    inode = path.stat().st_ino
    monkeypatch.setenv("FINETUNING_TERMINATION_LOG", str(path))
    say(TrainingResult(result=RunState.FINISHED, step=3), None)
    assert path.stat().st_ino == inode
    assert json.loads(path.read_text(encoding="utf-8"))["step"] == 3


def test_a_failure_tells_how_far_the_run_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "words"
    monkeypatch.setenv("FINETUNING_TERMINATION_LOG", str(path))
    live = LiveState(tmp_path)
    live.gpus = lambda: [GpuState(index=0, energy_joules=live.state.step * 100.0)]
    live.event(RunState.STARTING)
    live.progress(step=7)
    live.event(RunState.TRAINING, step=7, total_steps=9, last_checkpoint="checkpoints/checkpoint-6")
    say(TrainingResult(result=RunState.FAILED, reason=TrainFailure.STORAGE_FULL), live)
    words = json.loads(path.read_text(encoding="utf-8"))
    assert (words["step"], words["totalSteps"]) == (7, 9)
    assert (words["checkpoint"], words["energyJoules"]) == ("checkpoints/checkpoint-6", 700)


def test_a_message_that_cannot_be_written_is_only_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FINETUNING_TERMINATION_LOG", str(tmp_path))
    say(TrainingResult(result=RunState.FINISHED), None)
    assert "cannot be written" in caplog.text
