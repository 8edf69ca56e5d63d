import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from safetensors.numpy import load_file, save_file

from finetuning.artifacts.files import write_json
from finetuning.artifacts.manifest import seal
from finetuning.monitoring.metrics import FineTuningMetricsExporter

Scrape = Callable[[int], dict[str, list[tuple[dict[str, str], float]]]]


@pytest.fixture
def state() -> dict[str, Any]:
    """A state file in the middle of a run."""
    return {
        "schemaVersion": 1,
        "seq": 7,
        "updatedAt": 2_000_000_100.0,
        "processStartedAt": 1_999_999_950.0,
        "startedAt": 2_000_000_000.0,
        "resumedAt": 2_000_000_010.0,
        "state": "training",
        "step": 37,
        "totalSteps": 100,
        "epoch": 1.25,
        "totalEpochs": 3,
        "loss": 0.5234,
        "evalLoss": 0.7,
        "gradNorm": 1.5,
        "learningRate": 0.0002,
        "samplesPerSecond": 12.5,
        "tokensPerSecond": 900.0,
        "tokensTotal": 12345,
        "samplesTotal": 148,
        "nonfiniteLosses": 0,
        "estimatedRemainingSeconds": 60.0,
        "checkpointsTotal": 3,
        "checkpointSizesBytes": [2_000_000, 3_000_000, 5_000_000_000],
        "lastCheckpointAt": 2_000_000_090.0,
        "checkpointIntervalSteps": 10,
        "precision": "bf16",
        "mfuRatio": 0.41,
        "gpus": [
            {
                "index": 0,
                "name": "AMD Instinct MI300X",
                "uuid": "abc",
                "utilizationPercent": 97.0,
                "memoryUsedBytes": 1000,
                "memoryTotalBytes": 2000,
                "peakMemoryBytes": 1500,
                "pciAddress": "0000:0c:00.0",
                "powerWatts": 612.0,
                "temperatureCelsius": 71.0,
                "energyJoules": 98765.5,
            },
            {"index": 1, "memoryTotalBytes": 2000},
        ],
    }


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


@pytest.fixture
def write_state(state_dir: Path) -> Callable[[dict[str, Any]], None]:
    def write(state: dict[str, Any]) -> None:
        (state_dir / "rank-0.json").write_text(json.dumps(state))

    return write


@pytest.fixture
def scrape() -> Scrape:
    """The series of a running exporter by name, through Prometheus' own parser."""

    def fetch(port: int) -> dict[str, list[tuple[dict[str, str], float]]]:
        agent = {"User-Agent": "Prometheus/3.5.0"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=agent)
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - our own
            text = reply.read().decode()
        series: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                series.setdefault(sample.name, []).append((sample.labels, sample.value))
        return series

    return fetch


@pytest.fixture
def start() -> Iterator[Callable[..., FineTuningMetricsExporter]]:
    """Exporters on free ports, stopped after the test."""
    running: list[FineTuningMetricsExporter] = []

    def make(**arguments: Any) -> FineTuningMetricsExporter:
        exporter = FineTuningMetricsExporter(
            **{"port": 0, "bind_address": "127.0.0.1", **arguments}
        )
        exporter.start_server()
        running.append(exporter)
        return exporter

    yield make
    for exporter in running:
        exporter.stop_server()


RESULT_ONLY = ("loss_history.jsonl", "training_info.json", "aim_profile.json")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders base, full, sharded, lora and untrained; made once, in a process of their own."""
    root = tmp_path_factory.mktemp("models")
    script = Path(__file__).with_name("make_models.py")
    done = subprocess.run(
        [sys.executable, str(script), str(root)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
    )
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def reseal() -> Callable[[Path], None]:
    """Write a folder's manifest anew, so that only the deeper rules see what was changed."""

    def again(folder: Path) -> None:
        (folder / "manifest.json").unlink(missing_ok=True)
        seal(folder, [path.name for path in folder.iterdir() if path.is_file()])

    return again


@pytest.fixture
def run_of(models: Path, tmp_path: Path, reseal: Callable[[Path], None]) -> Callable[[str], Path]:
    """The output folder of a finished run with one of the models, as the trainer leaves it."""

    def make(kind: str) -> Path:
        output = tmp_path / "output"
        shutil.copytree(models / kind, output)
        method = "lora" if kind in ("lora", "untrained") else "full"
        describe(output, str(models / "base"), method)
        for step in (20, 40):
            checkpoint(output, step)
            reseal(output / "checkpoints" / f"checkpoint-{step}")
        reseal(output)
        return output

    return make


def describe(output: Path, base: str, method: str) -> None:
    losses = [3.0 - 0.06 * step for step in range(39)] + [0.5234]
    lines = [
        {"step": n, "epoch": n / 20, "loss": loss, "learning_rate": 1e-4, "tokens": 64}
        for n, loss in enumerate(losses, start=1)
    ]
    (output / "loss_history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    mean = sum(losses) / len(losses)
    results = {"train_loss": mean, "final_loss": 0.5234, "global_step": 40, "total_steps": 40}
    write_json(
        output / "training_info.json",
        {
            "model_id": "org/base",
            "method": method,
            "training_config": {"model_id": base, "method": method, "dataset_sha256": "0" * 64},
            "results": {**results, "nonfinite_losses": 0, "train_runtime": 12.5},
        },
    )
    profile = {
        "model_id": "org/base-finetuned",
        "base_model_id": "org/base",
        "fine_tuning_method": method,
        "precision": "fp32",
        "memory_gb": 0.05,
        "recommended_partition_gb": 0.0625,
    }
    write_json(output / "aim_profile.json", profile)


def checkpoint(output: Path, step: int) -> None:
    folder = output / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for path in output.iterdir():
        if path.is_file() and path.name not in RESULT_ONLY:
            shutil.copyfile(path, folder / path.name)
    weights = [load_file(path) for path in folder.glob("*.safetensors")]
    moments = [_moments(name, value, step) for part in weights for name, value in part.items()]
    save_file({k: v for each in moments for k, v in each.items()}, folder / "optimizer.safetensors")
    info = json.loads((output / "training_info.json").read_text())
    counts = {"tokens_total": 64 * step, "samples_total": 8 * step, "nonfinite_losses": 0}
    state = {"global_step": step, "max_steps": 40, "epoch": step / 20, **counts}
    state["run"] = info["training_config"]
    write_json(folder / "trainer_state.json", state)


def _moments(name: str, weight: "np.ndarray[Any, Any]", step: int) -> dict[str, Any]:
    """AdamW's, had the weight itself been the gradient of every step."""
    first = (1 - 0.9**step) * weight
    second = (1 - 0.999**step) * weight**2
    moments = {f"{name}.exp_avg": first, f"{name}.exp_avg_sq": second}
    return moments | {f"{name}.step": np.array([step], np.float32)}
