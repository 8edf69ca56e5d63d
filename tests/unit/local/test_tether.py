"""No process outlives the one who started it, whatever happens to whom."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.local.processes import alive, until

from finetuning.local import tether

TETHER = Path(tether.__file__)

SAVES = """
    import os, pathlib, signal, sys
    def leave(*_):
        pathlib.Path("saved").write_text("x")
        sys.exit(143)
    signal.signal(signal.SIGTERM, leave)
    pathlib.Path("pid").write_text(str(os.getpid()))
    while True: signal.pause()
"""
DEAF = """
    import os, pathlib, signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path("pid").write_text(str(os.getpid()))
    while True: signal.pause()
"""


class Held:
    """A tether with its process, as a runner starts it."""

    def __init__(self, folder: Path, script: str, grace: float) -> None:
        command = [sys.executable, "-c", textwrap.dedent(script)]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(TETHER), str(grace), *command],
            cwd=folder,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        pid_file = folder / "pid"
        until(lambda: pid_file.exists() and pid_file.read_text())
        self.child = int(pid_file.read_text())

    def order(self, letter: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(letter)
        self.process.stdin.flush()

    def abandon(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Callable[[str, float], Held]]:
    made: list[Held] = []

    def start(script: str, grace: float = 20) -> Held:
        made.append(Held(tmp_path, script, grace))
        return made[-1]

    yield start
    for each in made:
        each.process.kill()
        each.process.wait()
        each.process.stdin.close()  # type: ignore[union-attr]


def test_an_order_to_stop_lets_the_process_save(held: Callable[..., Held], tmp_path: Path) -> None:
    running = held(SAVES)
    running.order(b"T")
    assert running.process.wait(20) == 143
    assert (tmp_path / "saved").exists()


def test_an_order_to_kill_ends_what_is_deaf(held: Callable[..., Held]) -> None:
    running = held(DEAF)
    running.order(b"T")
    running.order(b"K")
    assert running.process.wait(20) == 128 + signal.SIGKILL


def test_when_the_runner_is_gone_the_process_saves_and_leaves(
    held: Callable[..., Held], tmp_path: Path
) -> None:
    running = held(SAVES)
    running.abandon()
    assert running.process.wait(20) == 143
    assert (tmp_path / "saved").exists()
    assert not alive(running.child)


def test_when_the_runner_is_gone_a_deaf_process_is_killed_after_its_grace(
    held: Callable[..., Held],
) -> None:
    running = held(DEAF, 0.2)
    running.abandon()
    assert running.process.wait(20) == 128 + signal.SIGKILL
    assert not alive(running.child)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_even_a_killed_tether_leaves_no_process(held: Callable[..., Held]) -> None:
    running = held(DEAF)
    os.kill(running.process.pid, signal.SIGKILL)
    until(lambda: not alive(running.child))


def test_a_signal_to_the_tether_is_passed_on(held: Callable[..., Held], tmp_path: Path) -> None:
    running = held(SAVES)
    running.process.terminate()
    assert running.process.wait(20) == 143
    assert (tmp_path / "saved").exists()


def test_a_terminal_that_closes_does_not_reach_the_process(held: Callable[..., Held]) -> None:
    running = held(SAVES)
    running.process.send_signal(signal.SIGHUP)
    running.process.send_signal(signal.SIGINT)
    running.order(b"T")
    assert running.process.wait(20) == 143


@pytest.mark.parametrize("code", [0, 1, 2, 143])
def test_the_exit_code_is_the_processs_own(code: int) -> None:
    command = [sys.executable, str(TETHER), "1", sys.executable, "-c", f"raise SystemExit({code})"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as running:
        assert running.wait(20) == code
