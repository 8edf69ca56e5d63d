"""How fast weights are checked, beside what the machine needs to hash and to read them.

Usage: python -m bench.validate.integrity [--gigabytes N] [--rounds N] [--folder DIR]

Writes a model of random 16-bit weights in four parts, then times, each in a process of its own and
in turn: `sha256sum` of the files, hashlib over them, one plain read of them, and the whole check
checkpoint_integrity (headers, index, sha256, every number finite). The best round counts, since
whatever else the machine does only makes a round slower; processor time tells the same on a machine
that is busy. Peak memory is measured for this model and for one of a quarter of its size.
"""

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from finetuning.artifacts.manifest import seal

PARTS = 4
TENSORS_PER_PART = 8
INFINITE_HALF = 0x7C00
"""Every pattern below it is a finite number."""

GOAL = 0.8
"""Of the speed of `sha256sum` and one read of the same files, after each other."""

CHECK = """
import sys
from pathlib import Path
from finetuning.monitoring.validators.checks import checkpoint_integrity
from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import subject
info = {"results": {}}
found = checkpoint_integrity.check(subject(info, sys.argv[1], None, None, ValidationSettings()))
assert found.passed, found.message
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
"""Prints its own peak in KiB; ru_maxrss would be that of whoever started it."""

READ = "cat {} > /dev/null"
HASH = """
import hashlib, sys
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        hashlib.file_digest(file, "sha256")
"""
"""Python's own sha256, which uses instructions that some builds of sha256sum do not."""


def make_model(folder: Path, size: int) -> Path:
    """A sharded model of about `size` bytes with an index, a tokenizer and a manifest."""
    folder.mkdir()
    random = np.random.default_rng(0)
    count = size // (PARTS * TENSORS_PER_PART * 2)
    where = {}
    for part in range(1, PARTS + 1):
        name = f"model-{part:05}-of-{PARTS:05}.safetensors"
        tensors = {
            f"part.{part}.weight.{n}": random.integers(0, INFINITE_HALF, count, np.uint16)
            for n in range(TENSORS_PER_PART)
        }
        halves = {key: value.view(np.float16) for key, value in tensors.items()}
        save_file(halves, folder / name)
        where |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (folder / "config.json").write_text('{"model_type": "none"}')
    (folder / "tokenizer.json").write_text("{}")
    seal(folder, [path.name for path in folder.iterdir()])
    return folder


@dataclass(frozen=True)
class Cost:
    """Of one command: wall clock and processor seconds."""

    seconds: float = math.inf
    cpu: float = math.inf

    def best(self, other: "Cost") -> "Cost":
        return Cost(min(self.seconds, other.seconds), min(self.cpu, other.cpu))


def cost_of(command: list[str]) -> tuple[Cost, str]:
    before, started = _cpu(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Cost(time.perf_counter() - started, _cpu() - before), done.stdout


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(folder: Path, rounds: int) -> tuple[dict[str, Cost], float]:
    """Best cost of each, and the check's peak memory in MiB."""
    weights = [str(path) for path in sorted(folder.glob("*.safetensors"))]
    commands = {
        "sha256sum": ["sha256sum", *weights],
        "hashlib": [sys.executable, "-c", HASH, *weights],
        "read": ["sh", "-c", READ.format(" ".join(weights))],
        "start": [sys.executable, "-c", CHECK.split("info =", maxsplit=1)[0] + "import numpy"],
        "check": [sys.executable, "-c", CHECK, str(folder)],
    }
    best = dict.fromkeys(commands, Cost())
    memory = 0.0
    for _ in range(rounds):
        for name, command in commands.items():
            cost, output = cost_of(command)
            best[name] = best[name].best(cost)
            memory = max(memory, int(output) / 1024) if name == "check" else memory
    return best, memory


def main() -> int:
    """Exit code 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where there is room (default: temporary)")
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=args.folder))
    size = int(args.gigabytes * 1e9)
    try:
        _, small = measure(make_model(root / "small", size // 4), 1)
        best, large = measure(make_model(root / "large", size), args.rounds)
    finally:
        shutil.rmtree(root)
    return report(size, small, large, best)


def _beside_start(best: dict[str, Cost]) -> float:
    return max(best["check"].seconds - best["start"].seconds, 1e-3)


def report(size: int, small: float, large: float, best: dict[str, Cost]) -> int:
    print(f"{size / 1e9:.2f} GB of weights in {PARTS} parts, {os.cpu_count()} CPUs")
    for name, cost in best.items():
        print(f"{name:<10} {cost.seconds:7.2f} s  {cost.cpu:7.2f} s of processor time")
    print("start is Python and its libraries, which the check has in it as well")
    wall = (best["sha256sum"].seconds + best["read"].seconds) / best["check"].seconds
    cpu = (best["sha256sum"].cpu + best["read"].cpu) / best["check"].cpu
    print(f"speed of the check / (sha256sum + read): {wall:.2f} by the clock, {cpu:.2f} by the")
    print(f"processor (goal {GOAL})")
    own = (best["hashlib"].seconds + best["read"].seconds) / _beside_start(best)
    print(f"the same against hashlib, without the start of the libraries: {own:.2f} by the clock")
    print(f"peak memory: {small:.0f} MiB at a quarter of the size, {large:.0f} MiB in full")
    return int(max(wall, cpu) < GOAL)


if __name__ == "__main__":
    sys.exit(main())
