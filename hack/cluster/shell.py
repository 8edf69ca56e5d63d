"""Run programs, wait for conditions and tell the user what takes time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

HEARTBEAT_S = 30.0
LAST_WORDS = 600


class ClusterError(Exception):
    """Ends the command with its one line; the line names the remedy."""


def say(message: str) -> None:
    """Print a line at once, also into a pipe."""
    print(f"cluster: {message}", flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Announce a long step, show that it lives and say how long it took."""
    started, done = time.monotonic(), threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_S):
            say(f"{what}: {time.monotonic() - started:.0f} s so far")

    say(what)
    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        done.set()
    say(f"{what}: done in {time.monotonic() - started:.1f} s")


def attempt(
    *command: str | Path,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and give its result, whatever it is; a missing program is status 127."""
    words = [str(word) for word in command]
    whole = {**os.environ, **env} if env else None
    try:
        return subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=whole,
            cwd=cwd,
            timeout=timeout,
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 127, "", f"{words[0]}: not found")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"no answer within {timeout:.0f} s")


def run(
    *command: str | Path,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program that has to succeed and give its output."""
    done = attempt(*command, stdin=stdin, env=env, cwd=cwd)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-LAST_WORDS:]
        raise ClusterError(f"{' '.join(map(str, command[:4]))} failed ({done.returncode}): {words}")
    return done.stdout


def wait_until(what: str, ready: Callable[[], bool], timeout_s: float, hint: str = "") -> None:
    """Poll a condition; running out of time is an error that says where to look."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not within {timeout_s:.0f} s{hint and f'; see {hint}'}")
        time.sleep(0.1)


@contextlib.contextmanager
def locked(file: Path, busy: str = "") -> Iterator[None]:
    """Hold a lock between processes; `busy` is printed when somebody else has it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if busy:
                say(busy)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write(file: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file in one step: a reader sees the old text or the new."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    draft.replace(file)
