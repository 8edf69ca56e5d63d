"""Train, and print how far the memory of the process rose over that of a loaded trainer.

Usage: python measure.py '[{"warm": argv, "argv": argv}, ...]'. Each run is a process of its own,
forked from one that has loaded the libraries; `warm` is a small run in it before.
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


def peak_over(warm: list[str], argv: list[str]) -> int:
    """Bytes."""
    from finetuning.base.app import main  # noqa: PLC0415 - in the child

    assert main(warm) == 0
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")
    assert main(argv) == 0
    return (kilobytes("VmHWM") - before) * 1024


def in_a_child(order: dict[str, Any]) -> int:
    """The figure of one order, or an AssertionError where its run failed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        os.write(writing, str(peak_over(order["warm"], order["argv"])).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return int(text)


if __name__ == "__main__":
    load("finetuning.base.train", "peft", "transformers.models.qwen2.modeling_qwen2")
    print(json.dumps([in_a_child(order) for order in json.loads(sys.argv[1])]))  # noqa: T201
