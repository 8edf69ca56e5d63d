"""What it costs the operator to ask the sidecars of running jobs how far they are.

Usage: python -m bench.operator.asking [--jobs 1000]

One metrics sidecar, in a process of its own, answers under as many addresses of the loopback
network as there are jobs: each question has a connection of its own, as to a pod. The cost is
that of the asking side alone, without the look that a new answer brings and what that writes.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop
from bench.operator.plane import free_ports
from bench.operator.workload import SETTINGS

from finetuning.artifacts import STATE_FILE
from finetuning.artifacts.models import RunState, TrainingState
from finetuning.controller import sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 3
SIDE_BY_SIDE = 4
START_SECONDS = 30.0
MOST = 60_000
STATE = TrainingState(
    updated_at=1.0,
    state=RunState.TRAINING,
    step=70,
    total_steps=340,
    loss=1.234,
    tokens_per_second=1234.5,
    estimated_remaining_seconds=321.0,
    last_checkpoint="checkpoint-50",
)


def addresses(jobs: int) -> Iterator[str]:
    return (f"127.0.{number // 250}.{1 + number % 250}" for number in range(jobs))


async def started(port: int) -> None:
    """Raises TimeoutError when it does not answer."""
    async with asyncio.timeout(START_SECONDS):
        while await sidecar.fetch("127.0.0.1", port) is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


async def ask(port: int, jobs: int) -> float:
    """Processor milliseconds of a question; raises RuntimeError where one is not answered."""
    room = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(address: str) -> None:
        async with room:
            if await sidecar.fetch(address, port) is None:
                raise RuntimeError(f"no answer from {address}:{port}")

    begun = time.process_time()
    await asyncio.gather(*map(one, addresses(jobs)))
    return 1000 * (time.process_time() - begun) / jobs


async def measure(port: int, jobs: int) -> float:
    """The best of a few rounds."""
    await started(port)
    return min([await ask(port, jobs) for _ in range(ROUNDS)])


def serve(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """A sidecar beside a trainer that is at work."""
    (folder / STATE_FILE).write_text(STATE.model_dump_json(by_alias=True))
    words = ["--port", str(port), "--bind-address", "0.0.0.0", "--state-dir", str(folder)]  # noqa: S104
    info = ["--training-info", str(folder / "training_info.json")]
    return subprocess.Popen(
        [sys.executable, "-m", "finetuning.monitoring.metrics_server", *words, *info],
        stderr=subprocess.DEVNULL,
    )


def main(arguments: list[str]) -> int:
    """Exit code: 0, 1 where the sidecar does not answer, or 2 for wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench.operator.asking", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    jobs = parser.parse_args(arguments).jobs
    if not 1 <= jobs <= MOST:
        print(f"error: --jobs {jobs}: give 1 to {MOST}", file=sys.stderr)
        return 2
    (port,), interval = free_ports(1), SETTINGS.progress_interval_seconds
    with tempfile.TemporaryDirectory(prefix="finetuning-asking-") as folder:
        server = serve(port, Path(folder))
        try:
            spent = uvloop.run(measure(port, jobs))
        except (RuntimeError, TimeoutError) as error:
            print(f"error: {error or 'the sidecar does not start'}", file=sys.stderr)
            return 1
        finally:
            server.terminate()
            server.wait()
    print(f"a question: {spent:.2f} ms")
    print(f"{jobs} running jobs, every {interval:g} s: {spent * jobs / interval / 1000:.3f} cores")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
