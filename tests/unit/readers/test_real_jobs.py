"""A sweep of real trainings here, and what Katib and Argo make of their statuses and logs."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.readers.conftest import Ask
from tests.unit.readers.test_katib_and_argo import EXPERIMENT, KATIB

pytestmark = [pytest.mark.training, pytest.mark.long, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[3]
COLLECTOR = EXPERIMENT["spec"]["metricsCollectorSpec"]["source"]["filter"]["metricsFormat"]
METRIC = EXPERIMENT["spec"]["objective"]["objectiveMetricName"]


@dataclass(frozen=True)
class Sweep:
    """One call of the example, and the folder that it was made in."""

    folder: Path
    code: int
    shown: str
    said: str

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            (self.folder / "runs" / name / "status.json").read_text()
        )
        return found

    def log(self, name: str) -> str:
        return (self.folder / "runs" / name / "logs" / "finetuning.log").read_text()


def documented() -> list[str]:
    page = (ROOT / "docs" / "sweeps.md").read_text()
    (command,) = re.findall(r"^python (examples/sweeps/sweep\.py.*\\\n.*)$", page, re.MULTILINE)
    return shlex.split(command.replace("\\\n", " "))


def swept(folder: Path, data: str = "examples/data", **spec: Any) -> Sweep:
    """The documented command, with a shorter job in place of the example's."""
    job = yaml.safe_load((ROOT / "examples" / "finetuningjob-lora.yaml").read_text())
    job["spec"]["hyperparameters"] |= {"maxSteps": 20, "saveSteps": 20, "evalSteps": 10}
    job["spec"] |= {"validation": {"enabled": False}, **spec}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    words = {"examples/finetuningjob-lora.yaml": "job.yaml"}
    command = [words.get(each, each.replace("examples/data", data)) for each in documented()]
    command[0] = str(ROOT / command[0])
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False
    )
    return Sweep(folder, done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("sweep")
    maker = ROOT / "examples" / "tiny-model" / "make_model.py"
    model = folder / "runs" / "claims" / "tiny-model" / "tiny-qwen2"
    subprocess.run([sys.executable, maker, "--output", model], check=True)
    return swept(folder, str(ROOT / "examples" / "data"))


@pytest.mark.documented
def test_every_rate_is_trained_and_the_best_one_comes_first(good: Sweep) -> None:
    assert good.code == 0, good.said
    table = good.shown[good.shown.index("JOB  ") :].splitlines()
    rows = [each.split() for each in table[1:]]
    losses = {name: good.status(name)["evalLoss"] for name in ("tiny-lora-1", "tiny-lora-2")}
    assert [row[0] for row in rows] == sorted(losses, key=lambda name: losses[name])
    assert [row[1] for row in rows] == [f"{losses[row[0]]:.4f}" for row in rows]
    assert {row[3] for row in rows} == {
        "hyperparameters.learningRate=0.001",
        "hyperparameters.learningRate=0.003",
    }


def test_the_result_of_another_run_is_no_answer(good: Sweep) -> None:
    again = swept(good.folder, str(ROOT / "examples" / "data"), backoffLimit=0, loraConfig={"r": 4})
    assert again.code == 2
    assert "holds the result of another run" in again.said.replace("\n", " ")
    assert "sweep: tiny-lora-1: `finetuning run` says above why" in again.said
    assert "JOB  " not in again.shown


def test_katibs_collector_finds_the_held_out_loss_in_a_real_log(good: Sweep, ask: Ask) -> None:
    log = {"text": good.log("tiny-lora-1"), "filters": COLLECTOR, "names": [METRIC]}
    (found,) = ask([{"log": log}])
    assert [each["name"] for each in found["metrics"]] == ["loss", "loss"]
    assert float(found["metrics"][-1]["value"]) == pytest.approx(
        good.status("tiny-lora-1")["evalLoss"], abs=1e-4
    )


def test_katib_and_flux_read_real_statuses(good: Sweep, ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "claims").symlink_to(good.folder / "runs" / "claims")
    broken = ROOT / "examples" / "data" / "bad" / "broken-line-17.jsonl"
    failed = swept(tmp_path, str(broken))
    assert failed.code == 1
    assert failed.shown.count("DatasetInvalid: ") == 2
    found = ask(
        [{"object": body(each.status("tiny-lora-1")), "katib": KATIB} for each in (good, failed)]
    )
    assert [(each["katib"], each["kstatus"]) for each in found] == [
        ("Succeeded", "Current"),
        ("Failed", "Failed"),
    ]


def body(status: dict[str, Any]) -> dict[str, Any]:
    names = {"apiVersion": "aim.amd.com/v1alpha1", "kind": "FineTuningJob"}
    return names | {"metadata": {"name": "trial", "generation": 1}, "status": status}
