"""Rows of local runs, by the files of real formats, and by hostile ones."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from finetuning.api.v1alpha1 import Phase
from finetuning.artifacts.files import write_json
from finetuning.artifacts.history import HistoryLine, LineWriter, PerformanceLine
from finetuning.artifacts.models import TrainingState
from finetuning.top.local import Follower, LocalSource
from finetuning.top.rows import Row
from finetuning.top.source import SourceError


def make_run(folder: Path, steps: int = 5, **status: Any) -> Path:
    """A folder as `finetuning run` keeps it, whose process is this one."""
    folder.mkdir(parents=True)
    (folder / ".run.lock").write_text(f"{os.getpid()}\n")
    write_json(folder / "status.json", {"phase": "Running", "currentStep": steps, **status})
    losses = LineWriter.open(folder / "loss_history.jsonl", 0, HistoryLine)
    speeds = LineWriter.open(folder / "performance_history.jsonl", 0, PerformanceLine)
    for step in range(1, steps + 1):
        losses.append(HistoryLine(step=step, epoch=1, loss=1 / step, learning_rate=1, tokens=1))
        speeds.append(
            PerformanceLine(
                step=step, seconds=step, tokens_per_second=step * 100, samples_per_second=1
            )
        )
    losses.close()
    speeds.close()
    return folder


async def rows(folder: Path) -> list[Row]:
    return list(await LocalSource(folder).rows())


async def test_runs_below_a_folder_and_a_run_itself_are_found(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "one")
    make_run(tmp_path / "runs" / "two")
    (tmp_path / "runs" / "claims").mkdir()
    assert [row.name for row in await rows(tmp_path / "runs")] == ["one", "two"]
    assert [row.name for row in await rows(tmp_path / "runs" / "one")] == ["one"]


async def test_curves_grow_by_what_was_appended(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    source = LocalSource(folder)
    (row,) = await source.rows()
    assert list(row.losses) == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    assert list(row.speeds) == [100, 200, 300, 400, 500]
    with (folder / "loss_history.jsonl").open("a") as file:
        file.write('{"step": 6, "loss": 0.1}\n{"step": 7, "lo')
    (row,) = await source.rows()
    assert list(row.losses[5:]) == [0.1]


async def test_method_and_model_are_known_from_the_first_checkpoint_on(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert [row.about for row in await rows(folder)] == [""]
    state = {"run": {"method": "qlora", "model_id": "org/model"}}
    (folder / "checkpoints" / "checkpoint-4").mkdir(parents=True)
    write_json(folder / "checkpoints" / "checkpoint-4" / "trainer_state.json", state)
    assert [row.about for row in await rows(folder)] == ["qlora · org/model"]


async def test_a_run_whose_process_is_gone_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert [row.note for row in await rows(folder)] == [""]
    (folder / ".run.lock").write_text("4194305\n")  # above what a kernel gives
    assert [row.note for row in await rows(folder)] == [
        "its process is gone; the same command continues"
    ]


@pytest.mark.parametrize(
    ("state", "phase", "silent"),
    [("training", Phase.RUNNING, True), ("finished", Phase.SUCCEEDED, False)],
)
async def test_a_trainer_that_runs_alone_is_shown_by_its_state(
    *, state: str, phase: Phase, silent: bool, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    live = TrainingState.model_validate(
        {"updatedAt": time.time() - 600, "state": state, "step": 3, "totalSteps": 9, "loss": 0.5}
    )
    (tmp_path / "state" / "rank-0.json").write_text(live.model_dump_json(by_alias=True))
    (row,) = await rows(tmp_path)
    assert (row.status.phase, row.status.train_loss) == (phase, 0.5)
    assert row.note == ("no sign of life for 10m0s" if silent else "")


@pytest.mark.parametrize(("pulse", "note"), [(5, ""), (90, "no sign of life for 1m30s")])
async def test_a_trainer_that_was_killed_has_no_speed_and_a_long_step_has(
    pulse: float, note: str, tmp_path: Path
) -> None:
    now = time.time()
    state = {"state": "training", "step": 3, "totalSteps": 9, "tokensPerSecond": 900.0}
    (tmp_path / "state").mkdir()
    write_json(tmp_path / "state" / "rank-0.json", state | {"updatedAt": now - 100})
    write_json(tmp_path / "state" / "gpus.json", {"updatedAt": now - pulse, "gpus": []})
    (row,) = await rows(tmp_path)
    assert (row.note, row.status.tokens_per_second) == (note, None if note else 900.0)


HOSTILE = {
    "empty": b"",
    "binary": bytes(range(256)) * 40,
    "deep": b"[" * 100_000,
    "list": b"[1, 2]",
    "null": b"null\n",
    "wrong types": b'{"step": [], "loss": {}, "phase": 3, "run": 7, "method": 1}\n',
    "huge numbers": b'{"step": 1e400, "loss": 1e999, "tokens_per_second": -1e308}\n',
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_files_are_passed_over(name: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "checkpoints" / "x").mkdir(parents=True)
    (folder / "state").mkdir()
    files = [
        "status.json",
        "loss_history.jsonl",
        "performance_history.jsonl",
        ".run.lock",
        "training_info.json",
        "checkpoints/x/trainer_state.json",
        "state/rank-0.json",
    ]
    for file in files:
        (folder / file).write_bytes(HOSTILE[name])
    (row,) = await rows(folder)
    assert (row.losses, row.speeds, row.about) == ((), (), "")
    assert row.note == "its status cannot be read"


async def test_links_and_pipes_in_place_of_files_are_not_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    secret = tmp_path / "secret"
    secret.write_text(json.dumps({"step": 1, "loss": 42.0}) + "\n")
    for name in ("loss_history.jsonl", "performance_history.jsonl"):
        (folder / name).unlink()
    (folder / "loss_history.jsonl").symlink_to(secret)
    os.mkfifo(folder / "performance_history.jsonl")
    (row,) = await rows(folder)
    assert (row.losses, row.speeds) == ((), ())


def test_a_file_put_in_its_place_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("1\n2\n")
    follower = Follower(path)
    assert list(follower.new_lines()) == [1, 2]
    assert list(follower.new_lines()) == []
    (tmp_path / "other").write_text("3\n4\n5\n")
    (tmp_path / "other").replace(path)
    assert list(follower.new_lines()) == [3, 4, 5]


def test_a_long_file_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetuning.top.local.CHUNK", 16)
    path = tmp_path / "lines"
    path.write_text("".join(f"{number}\n" for number in range(1000)) + "1" * 40 + "\n7\n")
    assert list(Follower(path).new_lines()) == list(range(1000))


@pytest.mark.parametrize("missing", [True, False])
async def test_a_folder_without_runs_is_one_line(*, missing: bool, tmp_path: Path) -> None:
    folder = tmp_path / "nothing" if missing else tmp_path
    with pytest.raises(SourceError, match=str(folder)):
        await rows(folder)
