"""Run the tests: those that need no cluster, those that do, or both side by side.

The cluster tests mostly wait for a kubelet, so beside them the others cost little time of their
own; for the same reason two of them run at once, but for those that change what all of them use.
What takes longest of either kind is marked `long`, and left to `slow`; what of that runs documented
commands and examples is `documented` as well.
Where no cluster is possible, one line says what was not run.
Usage: python -m hack.tests unit | cluster | all | faults | long | slow | documented
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SET_UP = (("hack.cluster", "up"), ("hack.cluster", "images"), ("hack.deploy",))
BY_FILE = ("--dist", "loadfile", "--no-loadscope-reorder", "-n")
WITH_FAULTS = ("tests/faults", "tests/unit")
SUITES = {
    "unit": [
        "-m",
        "not cluster and not faults and not long",
        *BY_FILE,
        "auto",
        "--maxprocesses",
        "4",
    ],
    "cluster": ["-m", "cluster and not alone and not long", "tests/cluster", *BY_FILE, "2"],
    "alone": ["-m", "cluster and alone and not long", "tests/cluster"],
    "long-cluster": ["-m", "cluster and not alone and long", "tests/cluster", *BY_FILE, "2"],
    "long-alone": ["-m", "cluster and alone and long", "tests/cluster"],
    "faults": ["-m", "(faults or fault) and not cluster", *WITH_FAULTS, "--record-faults"],
    "long": ["-m", "long", "--timeout", "1800", *BY_FILE, "2", "tests/mutants", "tests/unit"],
    "breaks": ["-m", "faults", "tests/faults"],
    "documented": ["-m", "documented and not cluster and not faults", *BY_FILE, "2", "tests/unit"],
    "documented-faults": ["-m", "documented and faults", "tests/faults"],
    "documented-cluster": ["-m", "documented and cluster", "tests/cluster"],
}
ON_A_CLUSTER = ("cluster", "alone")
LONG_ON_A_CLUSTER = ("long-cluster", "long-alone")
DOCUMENTED_ON_A_CLUSTER = ("documented-cluster",)
POLITE = {"unit": "5", "long": "10", "documented": "10"}
"""How much a suite leaves to the other lane."""
Lanes = list[tuple[str, ...]]
LANES: dict[str, Lanes] = {
    "unit": [("unit",)],
    "faults": [("faults",)],
    "long": [("long",)],
    "cluster": [(*ON_A_CLUSTER, *LONG_ON_A_CLUSTER)],
    "all": [("unit",), ON_A_CLUSTER],
    "slow": [("long",), ("breaks", *LONG_ON_A_CLUSTER)],
    "documented": [("documented",), (*DOCUMENTED_ON_A_CLUSTER, "documented-faults")],
}
"""Suites by the word on the command line: one lane beside the other, one after the other in it."""


def run(*module: str) -> int:
    return subprocess.run([sys.executable, "-m", *module], cwd=ROOT, check=False).returncode


def impossible() -> str:
    """Why this machine can have no cluster; empty when it can."""
    from hack.cluster.machine import why_no_cluster  # noqa: PLC0415

    return why_no_cluster()


def set_up() -> int:
    """Exit code of the first step towards a cluster with the operator that fails, or 0."""
    return next((code for step in SET_UP if (code := run(*step))), 0)


def start(suite: str, output: int | None = None) -> subprocess.Popen[str]:
    # All pods together weigh as much as a process of this suite; so halfway, both lanes end alike.
    # What breaks a control plane mostly waits for it, by its clocks.
    polite = ["nice", "-n", POLITE[suite]] if suite in POLITE and output else []
    return subprocess.Popen(
        [*polite, sys.executable, "-m", "pytest", "--durations", "10", *SUITES[suite]],
        cwd=ROOT,
        # More threads than cores make small training steps several times slower.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=output,
        stderr=output and subprocess.STDOUT,
        text=True,
    )


def relay(suite: str) -> tuple[int, str]:
    """One suite, each line of its output under its name: the exit code and what to tell last.

    That is pytest's line for each test that failed, and its closing line.
    """
    line, failed = "", ""
    with start(suite, subprocess.PIPE) as pytest:
        for line in pytest.stdout or ():
            print(f"{suite:12} | {line}", end="", flush=True)
            failed += line if line.startswith(("FAILED ", "ERROR ")) else ""
    return pytest.returncode, failed + line


def follow(lane: tuple[str, ...]) -> list[tuple[int, str]]:
    return [relay(suite) for suite in lane]


def test(lanes: Lanes) -> int:
    """Run the lanes side by side; failures and closing lines stand last, as pytest has them."""
    suites = [suite for lane in lanes for suite in lane]
    if len(suites) == 1:
        with start(suites[0]) as pytest:
            return pytest.wait()
    with ThreadPoolExecutor() as pool:
        results = [result for lane in pool.map(follow, lanes) for result in lane]
    print(*(told for _, told in results), sep="", end="")
    return next((code for code, _ in results if code), 0)


def main(chosen: str) -> int:
    """Exit code of the first step or suite that fails, or 0."""
    lanes = LANES[chosen]
    reason = impossible() if needs_a_cluster(lanes) else ""
    if reason:
        lanes = [without_a_cluster(lane) for lane in lanes]
    elif needs_a_cluster(lanes) and (code := set_up()):
        return code
    code = test(lanes)
    if reason:
        print(f"the tests on a cluster were not run: {reason}")
    return code


def needs_a_cluster(lanes: Lanes) -> bool:
    return any(lane != without_a_cluster(lane) for lane in lanes)


def without_a_cluster(lane: tuple[str, ...]) -> tuple[str, ...]:
    on_one = (*ON_A_CLUSTER, *LONG_ON_A_CLUSTER, *DOCUMENTED_ON_A_CLUSTER)
    return tuple(suite for suite in lane if suite not in on_one)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
