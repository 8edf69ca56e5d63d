"""Bring up the cluster, images and operator, then run the tests that need them.

Where no cluster is possible, one line says what was not run. Usage: python -m hack.cluster_tests
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STEPS = (("hack.cluster", "up"), ("hack.cluster", "images"), ("hack.deploy",))


def run(*module: str) -> int:
    return subprocess.run([sys.executable, "-m", *module], cwd=ROOT, check=False).returncode


def impossible() -> str:
    """Why this machine can have no cluster; empty when it can."""
    from hack.cluster.machine import why_no_cluster  # noqa: PLC0415

    return why_no_cluster()


def main() -> int:
    """Exit code of the first step that fails, or of pytest."""
    if reason := impossible():
        print(f"test-cluster: not run, {reason}")
        return 0
    for step in STEPS:
        if code := run(*step):
            return code
    return run("pytest", "-m", "cluster", "--durations", "10", "tests/cluster")


if __name__ == "__main__":
    sys.exit(main())
