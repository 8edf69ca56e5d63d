"""Checkpoints that are written while training goes on."""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from finetuning.artifacts.manifest import problem_with, seal
from finetuning.base import checkpoints, saver
from finetuning.base.app import main

pytestmark = pytest.mark.training

PATIENCE = 20.0


def command(model: Path, data: Path, output: Path, *more: object) -> list[str]:
    where = ("--model-id", model, "--dataset-path", data, "--output-dir", output)
    steps = ("--max-steps", 8, "--save-steps", 3, "--save-total-limit", 9)
    rest = ("--no-fp16", "--batch-size", 2, "--method", "full")
    return [str(arg) for arg in (*where, *steps, *rest, *more)]


def lines(output: Path) -> int:
    path = output / "loss_history.jsonl"
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def digests(output: Path) -> dict[str, str]:
    """Of weights and optimizer in every checkpoint."""
    return {
        f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((output / "checkpoints").rglob("*.safetensors"))
    }


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saver, "free_memory", lambda: 1)


def test_training_goes_on_meanwhile_and_the_copy_keeps_its_own_step(
    tiny_model: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, waiting = tmp_path / "beside", tmp_path / "waiting"

    def slow(folder: Path, names: Iterable[str]) -> Path:
        """A disk so slow that two more steps are done; it never ends if training waits for it."""
        end = time.monotonic() + PATIENCE
        step = int(folder.name.rpartition("-")[2])
        while lines(beside) < min(8, step + 2):
            assert time.monotonic() < end, "training waits for the disk"
            time.sleep(0.01)
        assert threading.current_thread() is not threading.main_thread()
        return seal(folder, names)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "seal", slow)
        assert main(command(tiny_model, rows_file, beside)) == 0
    monkeypatch.setattr(saver, "free_memory", lambda: 1)
    assert main(command(tiny_model, rows_file, waiting)) == 0
    assert len(digests(beside)) == 6
    assert digests(beside) == digests(waiting)


def test_a_power_cut_leaves_no_checkpoint_of_steps_that_the_history_lacks(
    tiny_model: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made to last is what a power cut leaves."""
    lasting, really, sealed = "", os.fsync, []

    def noted(handle: int) -> None:
        nonlocal lasting
        really(handle)
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.name == "loss_history.jsonl":
            lasting = path.read_text(encoding="utf-8")

    def sealing(folder: Path, names: Iterable[str]) -> Path:
        if folder.name.startswith(".tmp-checkpoint-"):
            sealed.append(int(folder.name.rpartition("-")[2]))
            assert len(lasting.splitlines()) >= sealed[-1]
        return seal(folder, names)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(checkpoints, "seal", sealing)
    assert main(command(tiny_model, rows_file, tmp_path / "out")) == 0
    assert sealed == [3, 6, 8]


@pytest.mark.usefixtures("no_room")
def test_without_room_for_a_copy_training_waits_and_says_so_once(
    tiny_model: Path, rows_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(command(tiny_model, rows_file, tmp_path / "out")) == 0
    told = [text for text in caplog.messages if "more than half of the free memory" in text]
    assert len(told) == 1
    assert "training waits while one is written" in told[0]
    kept = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert kept == ["checkpoint-3", "checkpoint-6", "checkpoint-8"]


@pytest.mark.fault("SIGTERM while a checkpoint is being written", "written to its end")
def test_sigterm_waits_for_the_checkpoint_that_is_being_written(
    tiny_model: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path, names: Iterable[str]) -> Path:
        if folder.name.endswith("-3"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
        return seal(folder, names)

    monkeypatch.setattr(checkpoints, "seal", interrupted)
    output = tmp_path / "out"
    assert main(command(tiny_model, rows_file, output, "--max-steps", 100_000)) == 143
    found = list((output / "checkpoints").iterdir())
    assert {path.name for path in found} >= {"checkpoint-3", f"checkpoint-{lines(output)}"}
    assert [problem_with(path) for path in found] == [None] * len(found)


def test_what_goes_wrong_on_the_disk_ends_the_run_within_a_step(
    tiny_model: Path,
    rows_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed = threading.Event()

    def broken(folder: Path, names: Iterable[str]) -> Path:
        if folder.name.endswith("-6"):
            failed.set()
            raise OSError(5, "Input/output error", str(folder))
        return seal(folder, names)

    monkeypatch.setattr(checkpoints, "seal", broken)
    output = tmp_path / "out"
    assert main(command(tiny_model, rows_file, output, "--max-steps", 100_000)) == 1
    assert failed.is_set()
    assert "Input/output error" in caplog.text
    kept = list((output / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["checkpoint-3"]
    assert problem_with(kept[0]) is None


@pytest.mark.parametrize(
    ("limit", "free"),
    [("max\n", 9 << 20), ("5000000\n", 2_300_000), (None, 9 << 20), ("1\n", 0)],
)
def test_the_free_memory_is_the_machines_or_what_the_container_may_take(
    limit: str | None, free: int, tmp_path: Path
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 99999 kB\nMemAvailable:  {9 << 10} kB\n", encoding="ascii")
    if limit is not None:
        (tmp_path / "memory.max").write_text(limit, encoding="ascii")
        (tmp_path / "memory.current").write_text("3000000\n", encoding="ascii")
        (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300000\n", encoding="ascii")
    assert saver.free_memory(meminfo, tmp_path) == free


def test_where_the_kernel_says_nothing_the_free_memory_is_unknown(tmp_path: Path) -> None:
    assert saver.free_memory(tmp_path / "none", tmp_path) is None
