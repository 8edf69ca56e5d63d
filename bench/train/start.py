"""From the start of a command to the first loss that it shows, and to the end of its `--help`."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FIRST_LOSS = re.compile(rb"\bloss\b['\"]?:? *['\"]?[0-9]")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and of all processors in all processes of the command."""

    wall: float
    cpu: float


def to_first_loss(command: list[str]) -> Took:
    """The command is ended as soon as it has shown a loss; raises RuntimeError if it never does."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        text = b""
        for line in process.stdout or ():
            text += line
            if FIRST_LOSS.search(line):
                took = Took(time.perf_counter() - began, sum(_seconds(process.pid)))
                os.killpg(process.pid, signal.SIGKILL)
                return took
    raise RuntimeError(f"{command[:4]} showed no loss:\n{text.decode(errors='replace')[-2000:]}")


def _seconds(session: int) -> Iterator[float]:
    """Of every process of the session, and of those of its children that have ended."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in brackets may hold spaces.
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            yield sum(map(int, fields[11:15])) / TICKS


def whole(command: list[str]) -> Took:
    """The command until its end."""
    began = time.perf_counter()
    before = os.times()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = os.times()
    spent = after.children_user + after.children_system
    cpu = spent - before.children_user - before.children_system
    return Took(time.perf_counter() - began, cpu)


def trl() -> str:
    """The `trl` command of this environment."""
    return str(Path(sys.executable).parent / "trl")


def trl_sft(model: Path, rows: Path, output: Path) -> list[str]:
    """As `trl sft` is called in TRL's documentation, told to use the CPU and to show each loss."""
    return [
        *(trl(), "sft", "--model_name_or_path", str(model), "--dataset_name", str(rows)),
        *("--output_dir", str(output), "--use_peft", "--max_steps", "1", "--use_cpu"),
        *("--bf16", "False", "--per_device_train_batch_size", "8", "--logging_steps", "1"),
        *("--report_to", "none", "--disable_tqdm", "True"),
    ]
