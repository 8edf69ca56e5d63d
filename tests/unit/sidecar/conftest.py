import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from finetuning.monitoring.metrics import FineTuningMetricsExporter

Scrape = Callable[[int], dict[str, list[tuple[dict[str, str], float]]]]


@pytest.fixture
def state() -> dict[str, Any]:
    """A state file in the middle of a run."""
    return {
        "schemaVersion": 1,
        "seq": 7,
        "updatedAt": 2_000_000_100.0,
        "startedAt": 2_000_000_000.0,
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
        "gpus": [
            {
                "index": 0,
                "name": "AMD Instinct MI300X",
                "uuid": "abc",
                "utilizationPercent": 97.0,
                "memoryUsedBytes": 1000,
                "memoryTotalBytes": 2000,
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
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
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
