"""The live state file: when it is written, and that it never gets in the way."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from finetuning.artifacts.models import GpuState, RunState
from finetuning.base.live import LiveState


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def on_disk(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "rank-0.json").read_text(encoding="utf-8"))
    return data


def test_progress_is_written_once_a_second_and_events_at_once(tmp_path: Path) -> None:
    elapsed = Clock()
    live = LiveState(tmp_path, elapsed=elapsed)
    live.event(RunState.TRAINING, total_steps=9)
    for step in range(1, 5):
        elapsed.now += 0.3
        live.progress(step=step)
    assert on_disk(tmp_path)["step"] == 4
    live.progress(step=5)
    assert on_disk(tmp_path)["step"] == 4
    live.event(RunState.SAVING)
    assert (on_disk(tmp_path)["step"], on_disk(tmp_path)["state"]) == (5, "saving")


def test_no_step_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy one takes tenths of a second for a word that is written again a second later."""
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    live = LiveState(tmp_path, elapsed=(elapsed := Clock()))
    live.event(RunState.TRAINING, total_steps=9)
    elapsed.now += 1
    live.progress(step=1)
    assert on_disk(tmp_path)["step"] == 1
    assert not waited


def test_a_clock_that_is_set_back_silences_no_run(tmp_path: Path) -> None:
    clock, elapsed = Clock(), Clock()
    live = LiveState(tmp_path, clock, elapsed=elapsed)
    live.event(RunState.TRAINING, total_steps=9)
    clock.now -= 120
    elapsed.now += 1
    live.progress(step=1)
    assert (on_disk(tmp_path)["step"], on_disk(tmp_path)["updatedAt"]) == (1, 880.0)


def test_sequence_numbers_rise_also_over_a_restart(tmp_path: Path) -> None:
    first = LiveState(tmp_path)
    first.event(RunState.STARTING)
    first.event(RunState.TRAINING)
    second = LiveState(tmp_path)
    second.event(RunState.STARTING)
    assert on_disk(tmp_path)["seq"] == 3


def test_a_loss_that_is_no_number_is_written_as_a_word(tmp_path: Path) -> None:
    live = LiveState(tmp_path)
    live.event(RunState.TRAINING, loss=math.nan)
    assert on_disk(tmp_path)["loss"] == "NaN"


def test_the_end_carries_reason_message_and_time(tmp_path: Path) -> None:
    clock = Clock()
    live = LiveState(tmp_path, clock)
    live.end(RunState.FAILED, "LossDiverged", "x" * 5000)
    written = on_disk(tmp_path)
    assert (written["state"], written["reason"]) == ("failed", "LossDiverged")
    assert (len(written["message"]), written["finishedAt"]) == (1024, 1000.0)


def test_gpu_figures_are_read_at_every_write(tmp_path: Path) -> None:
    live = LiveState(tmp_path)
    live.gpus = lambda: [GpuState(index=0, memory_used_bytes=5)]
    live.event(RunState.TRAINING)
    assert [gpu["memoryUsedBytes"] for gpu in on_disk(tmp_path)["gpus"]] == [5]


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([{0: 1000.0}], 0.0),
        ([{0: 1000.0}, {0: 1500.0}, {0: 1500.0}, {0: 1600.0}], 600.0),
        # A look that does not tell is made up for by the next one.
        ([{0: 1000.0}, {0: None}, {0: 1600.0}], 600.0),
        # The driver began anew.
        ([{0: 1000.0}, {0: 1500.0}, {0: 20.0}, {0: 50.0}], 530.0),
        ([{0: 1000.0, 1: 7.0}, {0: 1010.0, 1: 8.0}], 11.0),
        # The sum of some of them would be wrong.
        ([{0: 1000.0, 1: None}, {0: 1010.0, 1: None}], None),
        ([{0: None}], None),
        ([{}], None),
    ],
)
def test_energy_is_what_the_counters_grew_by(
    tmp_path: Path, looks: list[dict[int, float | None]], expected: float | None
) -> None:
    live = LiveState(tmp_path)
    for look in looks:
        gpus = [GpuState(index=index, energy_joules=joules) for index, joules in look.items()]
        live.gpus = lambda gpus=gpus: gpus  # type: ignore[misc]
        live.event(RunState.TRAINING)
    assert on_disk(tmp_path)["energyJoules"] == expected


def test_failing_telemetry_is_told_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("", encoding="utf-8")
    live = LiveState(in_the_way)
    live.event(RunState.STARTING)
    live.event(RunState.TRAINING)
    assert caplog.text.count("cannot be written") == 1

    def broken() -> list[GpuState]:
        raise RuntimeError("the driver is gone")

    other = LiveState(tmp_path / "ok")
    other.gpus = broken
    other.event(RunState.TRAINING)
    assert "the driver is gone" in caplog.text
