"""Finds the run, writes the page."""

import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from finetuning.artifacts import LOSS_HISTORY, STATE_DIR, TRAINING_INFO
from finetuning.artifacts.files import write_atomic
from finetuning.report.files import STATUS_FILE, read
from finetuning.report.page import page

RUNS = Path("runs")
_MARKS = (STATUS_FILE, TRAINING_INFO, LOSS_HISTORY, STATE_DIR)


class NoRunError(Exception):
    """What was named is no run."""


def main(name: str, output: Path | None) -> int:
    """Write the page about a run; every error is one line on stderr."""
    try:
        folder = find(name)
        run = read(folder)
        text = page(run, datetime.now(UTC), version("finetuning-operator"))
        data = text.encode(errors="replace")
        if output == Path("-"):
            sys.stdout.buffer.write(data)
            return 0
        target = output or Path(f"{run.name}.html")
        write_atomic(target, data)
    except NoRunError as error:
        sys.stderr.write(f"finetuning: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"finetuning: {output or name}: {error.strerror}\n")
        return 1
    sys.stdout.write(f"{target} ({len(data) / 1e3:,.0f} kB)\n")
    return 0


def find(name: str) -> Path:
    """The folder itself, or the run of that name; raises NoRunError."""
    for folder in (Path(name), RUNS / name):
        if any((folder / mark).exists() for mark in _MARKS):
            return folder
    if Path(name).is_dir():
        raise NoRunError(f"{name}: holds none of {', '.join(_MARKS)}, so no run wrote it")
    raise NoRunError(
        f"{name}: there is neither a folder of that name nor one in {RUNS}/; for a job in a "
        f"cluster, first copy its result: bash examples/fetch.sh {name} ./{name}"
    )
