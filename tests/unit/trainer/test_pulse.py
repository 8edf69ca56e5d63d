"""The GPUs' figures while a step stands."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from finetuning.artifacts.models import GpuState, RunState
from finetuning.base.gpu import Beside
from finetuning.base.live import LiveState
from finetuning.base.pulse import beating
from finetuning.monitoring.metrics import FineTuningMetricsExporter

INTERVAL = 0.02


def until(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def test_a_hang_shows_what_the_gpu_does_now_and_no_new_word_of_the_trainer(tmp_path: Path) -> None:
    busy = [97.0]
    live = LiveState(tmp_path)
    live.gpus = lambda: [GpuState(index=0, utilization_percent=busy[0])]
    live.event(RunState.TRAINING, step=5)
    seen = FineTuningMetricsExporter(state_dir=tmp_path).snapshot

    def utilization() -> float | None:
        state = seen().state
        return state.gpus[0].utilization_percent if state else None

    assert utilization() == 97
    told = seen().state
    busy[0] = 0.0
    with beating(live, INTERVAL):
        assert until(lambda: utilization() == 0)
    now = seen()
    assert told is not None
    assert now.state is not None
    assert (now.state.updated_at, now.state.seq, now.state.step) == (told.updated_at, told.seq, 5)
    assert now.gpus_at > told.updated_at


def test_no_step_waits_for_a_driver_that_hangs(tmp_path: Path) -> None:
    """Nor does the end of the run."""
    asked, answer = threading.Event(), threading.Event()

    def hangs() -> list[GpuState]:
        if threading.current_thread().name == "gpu-pulse":
            asked.set()
            answer.wait(60)
        return []

    live = LiveState(tmp_path)
    live.gpus = hangs
    live.event(RunState.TRAINING, step=1)
    with beating(live, INTERVAL):
        assert asked.wait(10)
        live.event(RunState.TRAINING, step=2)
    assert json.loads((tmp_path / "rank-0.json").read_text())["step"] == 2
    assert not answer.is_set()
    answer.set()


def test_no_step_waits_for_a_driver_that_does_not_answer_it(tmp_path: Path) -> None:
    """It hears of the last answer at once, and of the next one when it is there."""
    answer, told = threading.Event(), [5.0]

    def slow() -> list[GpuState]:
        busy = told[-1]
        if busy == 6.0:
            answer.wait(60)
        return [GpuState(index=0, utilization_percent=busy)]

    live = LiveState(tmp_path)
    live.gpus = Beside(slow)

    def written(step: int) -> float | None:
        live.event(RunState.TRAINING, step=step)
        gpus = json.loads((tmp_path / "rank-0.json").read_text())["gpus"]
        return float(gpus[0]["utilizationPercent"]) if gpus else None

    assert until(lambda: written(1) == 5)
    told.append(6.0)
    began = time.monotonic()
    assert [written(step) for step in range(2, 102)] == [5] * 100
    assert time.monotonic() - began < 30
    answer.set()
    assert until(lambda: written(102) == 6)


def test_what_a_driver_raises_is_told_to_who_asks() -> None:
    def broken() -> list[GpuState]:
        raise RuntimeError("the driver is gone")

    asked = Beside(broken)

    def fails() -> bool:
        try:
            return bool(asked())
        except RuntimeError as error:
            return str(error) == "the driver is gone"

    assert until(fails)


def test_a_driver_that_fails_is_told_once_and_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def fails() -> list[GpuState]:
        asked.append(1)
        raise RuntimeError("the driver is gone")

    live = LiveState(tmp_path)
    live.gpus = fails
    with beating(live, INTERVAL):
        assert until(lambda: len(asked) > 2)
    assert caplog.text.count("the driver is gone") == 1


def told_at(folder: Path) -> float:
    path = folder / "gpus.json"
    return float(json.loads(path.read_text())["updatedAt"]) if path.exists() else 0.0


def test_beside_the_first_process_there_is_no_thread(tmp_path: Path) -> None:
    live = LiveState(tmp_path, reports=False)
    live.gpus = lambda: [GpuState(index=0)]
    before = set(threading.enumerate())
    with beating(live, INTERVAL):
        new = set(threading.enumerate()) - before
        assert "gpu-pulse" not in {thread.name for thread in new}


def test_a_run_without_a_gpu_says_that_it_lives(tmp_path: Path) -> None:
    with beating(LiveState(tmp_path), INTERVAL):
        assert until(lambda: told_at(tmp_path) > 0)
        first = told_at(tmp_path)
        assert until(lambda: told_at(tmp_path) > first)
    assert json.loads((tmp_path / "gpus.json").read_text())["gpus"] == []


def test_while_the_trainer_tells_the_thread_is_silent(tmp_path: Path) -> None:
    live = LiveState(tmp_path)
    live.gpus = lambda: [GpuState(index=0)]
    with beating(live, 0.5):
        assert until(lambda: told_at(tmp_path) > 0)  # That there is a pulse.
        first = told_at(tmp_path)
        for _ in range(10):
            live.event(RunState.TRAINING)
            time.sleep(0.1)
    assert told_at(tmp_path) == first
