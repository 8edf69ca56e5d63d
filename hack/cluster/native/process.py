"""Processes that outlive the command which starts them, known by more than a number."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import paths

# Long enough for the runtime's database; nothing else here has anything to lose.
GRACE_S = 2.0


@dataclass(frozen=True)
class Process:
    """A pid counts only together with its start time: numbers are used again."""

    name: str
    pid: int
    started: int


def boot_id() -> str:
    """Name this boot of the machine; no pid survives it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Give the start time of a live process in clock ticks since boot."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(process: Process) -> bool:
    """Tell whether the very process that was started still runs."""
    return start_time(process.pid) == process.started


def start(name: str, *command: str | Path, logs: Path = paths.LOGS) -> Process:
    """Start a program in a session of its own, its output in a file named after it."""
    logs.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    with (logs / f"{name}.log").open("w") as log:
        child = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env=env,
        )
    return Process(name, child.pid, start_time(child.pid) or 0)


def stop(processes: list[Process], grace_s: float = GRACE_S) -> None:
    """Ask each to end, then insist; done when none is left."""
    for process in processes:
        send(process, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        reap()
        time.sleep(0.05)
    for process in processes:
        send(process, signal.SIGKILL)
    while any(map(is_alive, processes)):
        reap()
        time.sleep(0.05)


def send(process: Process, number: signal.Signals) -> None:
    """Signal the process if it is still the one that was started."""
    if is_alive(process):
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return


def reap() -> None:
    """Collect children of our own that ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def find(*words: str) -> list[Process]:
    """Find live processes whose command line holds every word."""
    return [p for p in map(read, list_pids()) if p and all(word in p.name for word in words)]


def list_pids() -> list[int]:
    """List every pid but our own."""
    own = os.getpid()
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if pid != own]


def read(pid: int) -> Process | None:
    """Read a process with its command line as its name."""
    started = start_time(pid)
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(words.decode(errors="replace"), pid, started) if started and words else None
