"""One trainer in a folder: by hand the second is refused, in a pod it waits for the first."""

import os
import signal
import threading
from pathlib import Path

import pytest

from finetuning.artifacts import TERMINATION_LOG_ENV
from finetuning.artifacts.exits import ExitCode
from finetuning.base import folder_lock
from finetuning.base.errors import ConfigError, FolderInUseError, InterruptedRun

POD = {TERMINATION_LOG_ENV: "/dev/termination-log"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "POLL_SECONDS", 0.01)


def test_by_hand_the_second_is_refused_at_once(tmp_path: Path) -> None:
    held = folder_lock.take(tmp_path, {})
    with pytest.raises(ConfigError, match="another trainer is writing there; wait for it") as found:
        folder_lock.take(tmp_path, {})
    assert found.value.exit_code is ExitCode.INVALID
    os.close(held)
    os.close(folder_lock.take(tmp_path, {}))


@pytest.mark.fault(
    "The pod before still holds the folder (node lost, pod deleted by force)",
    "the next one waits for its end, and goes on",
)
def test_in_a_pod_the_next_waits_for_the_one_before(tmp_path: Path) -> None:
    held = folder_lock.take(tmp_path, POD)
    timer = threading.Timer(0.3, os.close, [held])
    timer.start()
    os.close(folder_lock.take(tmp_path, POD))
    assert timer.finished.is_set()


def test_a_pod_that_waited_in_vain_may_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_lock, "PATIENCE", 0.05)
    held = folder_lock.take(tmp_path, POD)
    with pytest.raises(FolderInUseError, match="still writing there after 0 s") as found:
        folder_lock.take(tmp_path, POD)
    assert found.value.exit_code is ExitCode.FAILED
    os.close(held)


def test_a_pause_ends_the_wait(tmp_path: Path) -> None:
    held = folder_lock.take(tmp_path, POD)
    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGTERM]).start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedRun):
        folder_lock.take(tmp_path, POD)
    assert signal.getsignal(signal.SIGTERM) is before
    os.close(held)
    os.close(folder_lock.take(tmp_path, {}))
