"""Defaults for the libraries that read the environment when they are loaded."""

import math
import os
from pathlib import Path

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

DEFAULTS = {
    # A waiting thread that spins steals the core from the one it waits for: measured 3 to 25 times
    # slower steps on a machine that others use as well.
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def prepare() -> None:
    """Set what the user has not; must come before torch is loaded."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    limit = cpu_limit(CPU_QUOTA)
    if limit is not None and limit < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(limit))


def cpu_limit(path: Path) -> int | None:
    """The container's share of CPUs; None without a limit. Torch itself counts all of the node."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
        return max(1, math.floor(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return None
