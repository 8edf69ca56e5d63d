"""What the metrics sidecar costs with the state of eight GPUs: start, scrapes, memory.

Usage: python -m bench.sidecar.cost [--scrapes N]. Ends with 1 when a promise is not kept. On a
machine that others use the clock keeps none; the CPU time beside it tells what is ours.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.request import urlopen

GPUS = 8
PROMISED = {"start, s": 0.7, "p99 of a scrape, ms": 10.0, "memory, MiB": 40.0}


def write_state(folder: Path) -> None:
    """A run in its middle, every figure of every GPU known."""
    gpus = [
        {
            "index": index,
            "name": "AMD Instinct MI300X",
            "uuid": f"{index:08x}-0000-1000-8012-2a5b7c9d0e1f",
            "pciAddress": f"0000:{index:02x}:00.0",
            "utilizationPercent": 97.0,
            "memoryUsedBytes": 150 << 30,
            "memoryTotalBytes": 192 << 30,
            "peakMemoryBytes": 160 << 30,
            "powerWatts": 655.0,
            "temperatureCelsius": 71.0,
            "energyJoules": 5_123_456.0,
        }
        for index in range(GPUS)
    ]
    state = {
        "updatedAt": time.time(),
        "state": "training",
        "step": 500,
        "totalSteps": 1000,
        "epoch": 1.5,
        "totalEpochs": 3,
        "loss": 0.5234,
        "tokensPerSecond": 9000.0,
        "checkpointSizesBytes": [5_000_000_000] * 100,
        "gpus": gpus,
    }
    (folder / "rank-0.json").write_text(json.dumps(state))


@contextmanager
def sidecar(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The command of the training pod, on a free port."""
    command = [sys.executable, "-m", "finetuning.monitoring.metrics_server", "--port", "0"]
    where = ["--bind-address", "127.0.0.1", "--state-dir", str(folder)]
    about = ["--job-name", "cost", "--model-id", "a/b", "--method", "lora"]
    info = ["--training-info", str(folder / "training_info.json")]
    with subprocess.Popen(
        [*command, *where, *about, *info], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, port_of(process.stderr)
        finally:
            process.terminate()


def port_of(words: IO[str] | None) -> int:
    greeting = words.readline() if words else ""
    found = re.search(r":(\d+)/metrics", greeting)
    if not found:
        raise SystemExit(f"the sidecar did not start: {greeting}")
    return int(found[1])


def scrape(port: int) -> float:
    """Seconds for one answer."""
    began = time.perf_counter()
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        answer.read()
    return time.perf_counter() - began


def resident_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0]) / 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of the process so far, by the kernel's clock of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(scrapes: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_state(folder)
        began = time.perf_counter()
        with sidecar(folder) as (process, port):
            scrape(port)
            start, start_cpu = time.perf_counter() - began, cpu_seconds(process.pid)
            took = [1000 * scrape(port) for _ in range(scrapes)]
            memory = resident_mib(process.pid)
            cpu = (cpu_seconds(process.pid) - start_cpu) / scrapes
    return {
        "start, s": start,
        "start, s of CPU": start_cpu,
        "median of a scrape, ms": statistics.median(took),
        "p99 of a scrape, ms": statistics.quantiles(took, n=100)[-1],
        "scrape, ms of CPU": 1000 * cpu,
        "memory, MiB": memory,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scrapes", type=int, default=500)
    found = measure(parser.parse_args().scrapes)
    for name, value in found.items():
        promise = f"  (promised: at most {PROMISED[name]:g})" if name in PROMISED else ""
        print(f"{name:24} {value:8.2f}{promise}")
    return int(any(found[name] > most for name, most in PROMISED.items()))


if __name__ == "__main__":
    sys.exit(main())
