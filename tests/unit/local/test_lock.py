"""Who is named when an output folder is in use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetuning.local.lock import LOCK, hold
from finetuning.local.problems import InputError


def test_a_run_that_is_alive_is_named(tmp_path: Path) -> None:
    held = hold(tmp_path)
    with pytest.raises(InputError, match=rf"process {os.getpid()}\); wait for its end"):
        hold(tmp_path)
    os.close(held)
    os.close(hold(tmp_path))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_of_a_killed_run_the_trainer_may_still_be_saving(tmp_path: Path) -> None:
    held = hold(tmp_path)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / LOCK).write_text(f"{dead.pid}\n")
    with pytest.raises(InputError, match=rf"was killed \(process {dead.pid}\).*same command again"):
        hold(tmp_path)
    os.close(held)
