"""The estimate against the peak of real runs on the CPU, each in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port
from tests.unit.estimate.conftest import MakeModel, job_of, shape_of

from finetuning.estimate import formula
from finetuning.estimate.formula import Host

pytestmark = [pytest.mark.training, pytest.mark.long]

MEASURE = Path(__file__).with_name("measure.py")
SMALL = ["--batch-size", "2", "--max-seq-length", "64", "--gradient-checkpointing"]
PLAIN = ["--batch-size", "4", "--max-seq-length", "256", "--no-gradient-checkpointing"]
RUNS = [("10M", PLAIN), ("100M", SMALL)]
METHODS = ("lora", "qlora", "full")
OPTIONS = {
    "dpo": "--method lora --objective dpo",
    "dpo-full": "--method full --objective dpo",
    "packing": "--method lora --packing",
    "packed": "--method lora --packing --batch-size 2 --max-seq-length 1024",
    "accumulated": "--method full --gradient-accumulation-steps 2",
    "modules": "--method lora --modules-to-save lm_head",
    "dora": "--method lora --use-dora --target-modules all-linear",
    "qlora-all": "--method qlora --target-modules all-linear",
    "in pieces": "--method lora --batch-size 8 --max-seq-length 512 --gradient-checkpointing",
    "bf16": "--method lora --bf16",
    "bf16-full": "--method full --bf16",
}


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
    measured = [figure for (figure,) in peaks(orders)]
    shape = shape_of(size)
    # The file, in 32 bit, stays mapped while a tensor of it is in use.
    host = Host(gpu=False, mapped=4 * shape.in_linears)
    expected = [formula.peak(shape, job_of(*argv), host).total for argv in argvs]
    assert expected == pytest.approx(measured, rel=0.15)


@pytest.mark.timeout(900)
def test_the_peak_with_each_option_is_estimated_within_15_percent(
    make_model: MakeModel, long_rows: Path, long_pairs: Path, short_rows: Path, tmp_path: Path
) -> None:
    argvs = {name: [*PLAIN, *words.split()] for name, words in OPTIONS.items()}
    orders = []
    for name, argv in argvs.items():
        rows = long_pairs if "dpo" in name else short_rows if name == "packed" else long_rows
        warm, output = tmp_path / f"{name}-warm", tmp_path / name
        small = _command(make_model("warm"), rows, warm, argv)
        orders.append({"warm": small, "argv": _command(make_model("10M"), rows, output, argv)})
    shape = shape_of("10M")
    host = Host(gpu=False, mapped=4 * shape.in_linears)
    ratios = {
        name: formula.peak(shape, job_of(*argvs[name]), host).total / measured
        for name, (measured,) in zip(argvs, peaks(orders), strict=True)
    }
    assert ratios == pytest.approx(dict.fromkeys(argvs, 1.0), abs=0.15)


def test_shards_take_what_is_estimated_in_both_processes(
    make_model: MakeModel, long_rows: Path, tmp_path: Path
) -> None:
    """The first one loads and saves as well; the second takes less than one with a whole copy."""
    argvs = [[*SMALL, "--method", method, "--fsdp"] for method in ("lora", "full")]
    orders = [
        {
            "warm": _command(make_model("warm"), long_rows, tmp_path / f"{n}-warm", argv),
            "argv": _command(make_model("30M"), long_rows, tmp_path / str(n), argv),
            "ports": [free_port(), free_port()],
        }
        for n, argv in enumerate(argvs)
    ]
    shape, hosts = shape_of("30M"), [Host(gpu=False, leads=leads) for leads in (True, False)]
    for argv, measured in zip(argvs, peaks(orders), strict=True):
        job = job_of(*argv, processes=2)
        expected = [formula.peak(shape, job, host).total for host in hosts]
        assert expected == pytest.approx(measured, rel=0.15)
        assert measured[1] < formula.peak(shape, replace(job, processes=1), hosts[1]).total


def peaks(orders: list[dict[str, Any]]) -> list[list[int]]:
    """Bytes, of each process of each order."""
    done = subprocess.run(
        [sys.executable, str(MEASURE), json.dumps(orders)],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[list[int]] = json.loads(done.stdout)
    return found


def _command(model: Path, rows: Path, output: Path, settings: list[str]) -> list[str]:
    where = ["--model-id", str(model), "--dataset-path", str(rows), "--output-dir", str(output)]
    return [*where, *settings, "--no-fp16", "--max-steps", "2", "--save-steps", "99"]
