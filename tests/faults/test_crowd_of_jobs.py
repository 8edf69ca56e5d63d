"""The bench of an operator that is started beside finished jobs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.bench.test_sizes import objects

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
NOW = "2026-11-30T12:00:00Z"
FAILED = {
    "startTime": NOW,
    "failed": 1,
    "conditions": [
        {"type": kind, "status": "True", "reason": "PodFailurePolicy", "lastTransitionTime": NOW}
        for kind in ("FailureTarget", "Failed")
    ],
}


def test_an_operator_that_comes_back_to_finished_jobs_writes_nothing(tmp_path: Path) -> None:
    found = objects() | {"pods": []}
    found["jobs"][0]["status"] = FAILED
    file = tmp_path / "objects.json"
    file.write_text(json.dumps(found))
    command = ["-m", "bench.operator.crowd", "--jobs", "3", "--objects", str(file)]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = dict(line.split(": ") for line in _shortened(done.stdout))
    assert float(told["memory at most, MiB"]) > 0
    assert float(told["requests in 10 s of nothing to do"]) == 0
    verbs = {title.split()[0] for title in told if title.split()[1:] == ["finetuningjobs"]}
    assert verbs == {"list"}
    assert not {"create", "patch", "update", "delete"} & {title.split()[0] for title in told}


def _shortened(output: str) -> list[str]:
    """Without the start that a figure is of."""
    return [line.split(": ", 1)[1] for line in output.splitlines() if line.count(": ") == 2]
