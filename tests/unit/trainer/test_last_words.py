"""The termination message: small, valid, in place."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.artifacts import TERMINATION_MESSAGE_LIMIT
from finetuning.artifacts.exits import TrainFailure
from finetuning.artifacts.files import write_json
from finetuning.artifacts.manifest import seal
from finetuning.artifacts.models import GpuState, RunState, TrainingResult
from finetuning.artifacts.trainer_state import TRAINER_STATE, TrainerState
from finetuning.base import session
from finetuning.base.checkpoints import path_of
from finetuning.base.errors import ModelError
from finetuning.base.last_words import encode, paused_early, say
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
    live.gpus = lambda: [GpuState(index=0, energy_joules=(live.state.step or 0) * 100.0)]
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


def test_a_run_that_is_stopped_while_it_loads_keeps_the_figures_of_its_checkpoint(
    tmp_path: Path,
) -> None:
    assert paused_early(tmp_path) == TrainingResult(result=RunState.PAUSED)
    for step, total in ((8, 340), (12, 340)):
        folder = tmp_path / path_of(step)
        folder.mkdir(parents=True)
        state = TrainerState(global_step=step, max_steps=total, loss=1.5, epoch=0.1)
        write_json(folder / TRAINER_STATE, state.model_dump(mode="json"))
        if step == 8:
            seal(folder, {TRAINER_STATE})
    found = paused_early(tmp_path)
    assert (found.step, found.total_steps, found.loss) == (8, 340, 1.5)
    assert found.checkpoint == path_of(8)


def test_a_token_in_an_error_stands_in_no_words_that_others_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The words are in the Pod's status, which more people may read than its Secrets."""
    path, token = tmp_path / "words", "hf_CanaryCanaryCanary0123456789"
    monkeypatch.setenv("FINETUNING_TERMINATION_LOG", str(path))
    live = LiveState(tmp_path)
    assert session._failed(ModelError(f"401 for {token}"), live) == 2
    told = path.read_text(encoding="utf-8") + live.state.message + caplog.text
    assert told.count("401 for [redacted]") == 3
    assert token not in told
