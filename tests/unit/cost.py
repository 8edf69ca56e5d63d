"""Processor time of a command, for bounds that are ratios: seconds differ by machine and load."""

import os
import subprocess
import sys


def cpu_seconds(*command: str) -> float:
    """The least user and system time of five runs, in seconds."""
    return min(_once(command) for _ in range(5))


def _once(command: tuple[str, ...]) -> float:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return used.ru_utime + used.ru_stime


def import_of_pydantic() -> float:
    """What no command can avoid that reads a job, in seconds."""
    return cpu_seconds(sys.executable, "-c", "from pydantic import BaseModel")
