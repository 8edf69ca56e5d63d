"""`finetuning top` as it is typed: real processes, a pipe and a terminal."""

import os
import pty
import signal
import struct
import subprocess
import sys
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ
from typing import Any

import pytest
from tests.unit.local.processes import until
from tests.unit.top.test_local import make_run

COMMAND = str(Path(sys.executable).with_name("finetuning"))


def top(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), **variables}
    return subprocess.run(
        [COMMAND, "top", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("arguments", [("--runs", "runs", "--once"), ("--runs", "runs/demo"), ()])
def test_a_pipe_gets_one_frame(arguments: tuple[str, ...], tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "demo", trainLoss=0.25, tokensPerSecond=500)
    done = top(*arguments, cwd=tmp_path, COLUMNS="100")
    assert (done.returncode, done.stderr) == (0, "")
    assert "loss 0.2500 █▄▂▁▁" in done.stdout
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 3


def test_one_job_alone(tmp_path: Path) -> None:
    for name in ("demo", "other"):
        make_run(tmp_path / "runs" / name, trainLoss=0.25)
    assert "other" not in top("demo", cwd=tmp_path, COLUMNS="100").stdout
    done = top("nope", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == 'finetuning: no job "nope" in runs; it has demo, other\n'


def test_a_locale_without_blocks_gets_question_marks(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "demo", trainLoss=0.25)
    done = top("--once", cwd=tmp_path, PYTHONIOENCODING="ascii", COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    assert "loss 0.2500 ?????" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ((), 2, "neither ~/.kube/config nor a folder runs here"),
        (("--runs", "nowhere"), 2, "--runs nowhere: no such folder; name a run's output folder"),
        (("--kubeconfig", "nowhere"), 1, "nowhere: "),
        (("--kubeconfig", "nowhere", "--context", "x"), 1, "nowhere: "),
        (("--interval", "0"), 2, "'0' must be a number of seconds"),
        (("--sort", "size"), 2, "invalid choice: 'size'"),
        (("-A", "-n", "x"), 2, "not allowed with argument"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...], code: int, expected: str, tmp_path: Path
) -> None:
    done = top(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_clients_libraries_the_remedy_is_said(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['kubernetes'] = None\n"
        "from finetuning.cli.__main__ import main; sys.exit(main(['top', '-A']))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'finetuning-operator[operator]'" in done.stderr


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_is_drawn_on_until_ctrl_c(*, colour: bool, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "runs" / "demo", trainLoss=0.25)
    terminal, screen = pty.openpty()
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    variables: dict[str, Any] = {} if colour else {"NO_COLOR": "1"}
    process = subprocess.Popen(
        [COMMAND, "top", "--runs", "runs", "--interval", "0.2"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "xterm", **variables},
        stdin=screen,
        stdout=screen,
        stderr=screen,
    )
    os.close(screen)
    shown = bytearray()

    def has(text: str) -> bool:
        shown.extend(os.read(terminal, 65536))
        return text in shown.decode(errors="replace")

    until(lambda: has("loss 0.2500"))
    with (folder / "loss_history.jsonl").open("a") as file:
        file.write('{"step": 6, "loss": 2.0}\n')
    until(lambda: has("▄▂▂▁▁█"))
    process.send_signal(signal.SIGINT)
    until(lambda: has("\x1b[?1049l"))  # the screen as it was before
    assert process.wait(10) == 0
    os.close(terminal)
    assert (b"\x1b[36m" in shown) is colour
    assert b"Traceback" not in shown
