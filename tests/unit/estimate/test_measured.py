"""The estimate against the peak of real runs on the CPU, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.estimate.conftest import MakeModel, job_of, shape_of

from finetuning.estimate import formula
from finetuning.estimate.formula import Host

pytestmark = pytest.mark.training

MEASURE = Path(__file__).with_name("measure.py")
RUNS = [
    ("10M", ["--batch-size", "4", "--max-seq-length", "256", "--no-gradient-checkpointing"]),
    ("100M", ["--batch-size", "2", "--max-seq-length", "64", "--gradient-checkpointing"]),
]
METHODS = ("lora", "qlora", "full")


@pytest.mark.parametrize(("size", "settings"), RUNS)
def test_the_peak_of_real_runs_is_estimated_within_15_percent(
    size: str, settings: list[str], make_model: MakeModel, long_rows: Path, tmp_path: Path
) -> None:
    """glibc gives freed memory back at once here, as a GPU's allocator counts it."""
    argvs = [[*settings, "--method", method] for method in METHODS]
    orders = [
        {
            "warm": _command(make_model("warm"), long_rows, tmp_path / f"{n}-warm", argv),
            "argv": _command(make_model(size), long_rows, tmp_path / str(n), argv),
        }
        for n, argv in enumerate(argvs)
    ]
    done = subprocess.run(
        [sys.executable, str(MEASURE), json.dumps(orders)],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shape = shape_of(size)
    # The file, in 32 bit, stays mapped while a tensor of it is in use.
    host = Host(gpu=False, mapped=4 * shape.in_linears)
    expected = [formula.peak(shape, job_of(*argv), host).total for argv in argvs]
    measured = json.loads(done.stdout)
    assert expected == pytest.approx(measured, rel=0.15)


def _command(model: Path, rows: Path, output: Path, settings: list[str]) -> list[str]:
    where = ["--model-id", str(model), "--dataset-path", str(rows), "--output-dir", str(output)]
    return [*where, *settings, "--no-fp16", "--max-steps", "2", "--save-steps", "99"]
