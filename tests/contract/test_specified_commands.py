"""The commands of the documentation as they stand there, with the small model for the 7B one."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LARGE = "Qwen/Qwen2.5-7B-Instruct"

pytestmark = [pytest.mark.training, pytest.mark.timeout(600)]

TRAIN = f"""python3 -m finetuning.base.app \\
  --model-id {LARGE} \\
  --dataset-path templates/example_dataset.jsonl \\
  --output-dir ./output \\
  --method lora \\
  --enable-metrics \\
  --metrics-port 8000"""

SERVE = f"""exec python3 -m finetuning.monitoring.metrics_server \\
  --port 8000 \\
  --job-name my-job \\
  --model-id {LARGE} \\
  --method lora \\
  --training-info ./output/training_info.json"""

VALIDATE = """python3 -m finetuning.monitoring.validate_job \\
  --training-info ./output/training_info.json \\
  --model-path ./output \\
  --checkpoint-path ./checkpoints \\
  --profile-path ./output/aim_profile.json \\
  --output validation_report.txt"""

VALIDATE_SHORT = """python3 -m finetuning.monitoring.validate_job \\
  --training-info ./output/training_info.json \\
  --model-path ./output \\
  --profile-path ./output/aim_profile.json"""


def port_for_tests() -> str:
    """8000 as documented, or a free one where something else of this machine has it."""
    with socket.socket() as probe:
        try:
            probe.bind(("", 8000))
        except OSError:
            probe.bind(("", 0))
        return str(probe.getsockname()[1])


class Place:
    """A folder with what the commands expect, and a shell in it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.trained = ""
        self.port = port_for_tests()
        venv = Path(sys.executable).parent
        self.env = {
            **os.environ,
            "PATH": f"{venv}:{os.environ['PATH']}",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive",
        }

    def start(self, command: str) -> subprocess.Popen[str]:
        """Start a command; the training alone really loads the model it names."""
        words = command.replace("8000", self.port)
        if "base.app" in command:
            words = words.replace(LARGE, str(self.model))
        return subprocess.Popen(
            ["bash", "-c", words], cwd=self.folder, env=self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, command: str) -> tuple[int, str]:
        """Run a command to its end: exit code and output."""
        process = self.start(command)
        text, _ = process.communicate(timeout=300)
        return process.returncode, text

    def wait_for(self, command: str, word: str, seconds: float = 120) -> str:
        """Type a command until its output holds a word."""
        end = time.monotonic() + seconds
        while word not in (seen := self.run(command)[1]):
            assert time.monotonic() < end, f"{command}: {seen}"
            time.sleep(0.2)
        return seen


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The folder after the training, and what was seen while it ran."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    model = cache / "finetuning-operator" / "tiny-model" / "tiny-qwen2"
    maker = ROOT / "examples" / "tiny-model" / "make_model.py"
    subprocess.run([sys.executable, str(maker), "--output", str(model)], check=True)
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(ROOT / "templates", folder / "templates")
    shutil.copy(ROOT / "validate_metrics_remote.sh", folder)
    place = Place(folder, model)
    training = place.start(TRAIN)
    place.trained = place.wait_for(
        "curl -s http://localhost:8000/metrics | grep finetuning", "finetuning_train_loss{"
    )
    text, _ = training.communicate(timeout=300)
    assert training.returncode == 0, text
    return place


def test_the_training_shows_its_metrics_while_it_runs(place: Place) -> None:
    (status,) = (x for x in place.trained.splitlines() if x.startswith("finetuning_job_status{"))
    assert 'method="lora"' in status
    assert status.endswith("} 1.0")
    (loss,) = (x for x in place.trained.splitlines() if x.startswith("finetuning_train_loss{"))
    # The first of three epochs is a third of a second.
    assert re.search(r'[{,]epoch="[1-3]"[,}]', loss)


@pytest.mark.parametrize("command", [VALIDATE, VALIDATE_SHORT], ids=["four paths", "three paths"])
def test_validation_after_training_passes(place: Place, command: str) -> None:
    code, text = place.run(command)
    assert "=== Fine-Tuning Validation Report ===" in text
    assert "Summary: 4/4 checks passed" in text
    assert code == 0


def test_the_report_is_written_where_the_command_says(place: Place) -> None:
    place.run(VALIDATE)
    report = (place.folder / "validation_report.txt").read_text(encoding="utf-8")
    assert "✓ PASS - training_loss" in report


def test_a_server_of_its_own_shows_the_finished_run(place: Place) -> None:
    server = place.start(SERVE)
    try:
        shown = f'job_name="my-job",method="lora",model_id="{LARGE}"}} 2.0'
        place.wait_for("curl http://localhost:8000/metrics | grep finetuning", shown)
        head = place.run("curl -s http://localhost:8000/metrics | head -20")[1]
        assert "# TYPE" in head
        code, said = place.run(f"./validate_metrics_remote.sh {place.port}")
        assert code == 0, said
        assert "finetuning" in said
    finally:
        server.terminate()
        server.communicate(timeout=30)


def test_another_port_is_checked_and_the_missing_tunnel_named(place: Place) -> None:
    code, said = place.run("./validate_metrics_remote.sh 9000")
    assert code == 1
    assert "9000" in said
