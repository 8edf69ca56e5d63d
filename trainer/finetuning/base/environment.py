"""Defaults for the libraries that read the environment when they are loaded."""

import ctypes
import math
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

LAUNCHER = "FINETUNING_LAUNCHER"
"""The process that started this one as one of many."""

DEFAULTS = {
    # A waiting thread that spins steals the core from the one it waits for: measured 3 to 25 times
    # slower steps on a machine that others use as well.
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def prepare() -> None:
    """Set what the user has not; must come before torch is loaded.

    The processes that torchrun starts on a machine share its processors.
    """
    sharing = os.environ.get("LOCAL_WORLD_SIZE", "1")
    processes = int(sharing) if sharing.isdecimal() and int(sharing) else 1
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    there = os.cpu_count() or 1
    mine = max(1, min(cpu_limit(CPU_QUOTA) or there, there) // processes)
    if mine < there:
        os.environ.setdefault("OMP_NUM_THREADS", str(mine))
        # Of torch.compile: processes that each load torch, else as many as the node has cores.
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(mine))


def launches() -> None:
    """The processes that this one starts end with it."""
    os.environ[LAUNCHER] = str(os.getpid())


def end_with_launcher() -> None:
    """On Linux a launcher that is killed takes its processes along; they save their work first."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # Nobody tells of a death before this line.
        if os.environ.get(LAUNCHER, str(os.getppid())) != str(os.getppid()):
            signal.raise_signal(signal.SIGTERM)


def cpu_limit(path: Path) -> int | None:
    """The container's share of CPUs; None without a limit. Torch itself counts all of the node."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
        return max(1, math.floor(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return None
