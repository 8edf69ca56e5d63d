"""Train, and print how far the memory of the process rose over that of a loaded trainer.

Usage: python measure.py '[{"warm": argv, "argv": argv, "ports": [29500, 29501]}, ...]'. Each run is
a process of its own, forked from one that has loaded the libraries; `warm` is a small run in it
before. With two ports it is two processes, which meet at the first one for the small run. The
answer has a figure for each process of each run.
"""

import ctypes
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from finetuning.artifacts.spared import load

RESET_PEAK = "5"


def kilobytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def peak_over(warm: list[str], argv: list[str], ports: list[int]) -> int:
    """Bytes."""
    from finetuning.base.app import main  # noqa: PLC0415 - in the child

    first, second = ports or (0, 0)
    os.environ["MASTER_PORT"] = str(first)
    assert main(warm) == 0
    os.environ["MASTER_PORT"] = str(second)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")
    assert main(argv) == 0
    return (kilobytes("VmHWM") - before) * 1024


def in_children(order: dict[str, Any]) -> list[int]:
    """The figures of one order, or an AssertionError where its run failed."""
    ports = order.get("ports", [])
    started = [begun(order, ports, rank) for rank in range(2 if ports else 1)]
    return [ended(*child) for child in started]


def begun(order: dict[str, Any], ports: list[int], rank: int) -> tuple[int, int]:
    """A child and where it answers."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        if ports:
            told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
            os.environ.update({name: str(number) for name, number in told.items()})
            os.environ["MASTER_ADDR"] = "127.0.0.1"
        os.write(writing, str(peak_over(order["warm"], order["argv"], ports)).encode())
        os._exit(0)
    os.close(writing)
    return child, reading


def ended(child: int, reading: int) -> int:
    with os.fdopen(reading) as answer:
        text = answer.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return int(text)


if __name__ == "__main__":
    load("finetuning.base.train", "peft", "transformers.models.qwen2.modeling_qwen2")
    print(json.dumps([in_children(order) for order in json.loads(sys.argv[1])]))  # noqa: T201
