"""Every query of every panel, asked of a real Prometheus that scraped our real exporters.

No run is behind the figures here: the sidecar shows a state file, the operator's exporter a cache
filled by hand. A cluster test asks the same of a real run.
"""

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hack import prometheus as ask
from prometheus_client import start_http_server
from tests.cluster.dashboards import NO_DATA_HERE
from tests.ports import free_port
from tests.unit.controller.objects import SETTINGS, job_body
from tests.unit.observability import prometheus_process
from tests.unit.observability.prometheus_process import until
from typing_extensions import override

from finetuning.controller import observed, status
from finetuning.controller.cache import Cache
from finetuning.controller.metrics import OperatorMetrics
from finetuning.monitoring.metrics import FineTuningMetricsExporter
from finetuning.observability.boards import DASHBOARDS
from finetuning.observability.rules import rule_file

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "charts" / "finetuning-operator" / "rules" / "finetuning.yaml"
SECONDS = 60

pytestmark = pytest.mark.timeout(1200)  # The first test may have to build Prometheus.


def at(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def state() -> dict[str, Any]:
    """A state file in the middle of a run on one GPU, everything known."""
    now = time.time()
    gpu = {
        "index": 0, "name": "AMD Instinct MI300X", "uuid": "abc", "pciAddress": "0000:0c:00.0",
        "utilizationPercent": 97.0, "memoryUsedBytes": 1000, "memoryTotalBytes": 2000,
        "peakMemoryBytes": 1500, "powerWatts": 612.0, "temperatureCelsius": 71.0,
        "energyJoules": now - 1e9,
    }  # fmt: skip
    return {
        "updatedAt": now, "startedAt": now - 100, "resumedAt": now - 100, "state": "training",
        "step": int(10 * (now % 1e6)), "totalSteps": 10**8, "epoch": 1.25, "totalEpochs": 3,
        "loss": 0.5, "nonfiniteLosses": 0, "evalLoss": 0.7,
        "gradNorm": 1.5, "learningRate": 0.0002, "mfuRatio": 0.41,
        "samplesPerSecond": 12.5, "tokensPerSecond": 900.0, "tokensTotal": 12345,
        "samplesTotal": 148, "estimatedRemainingSeconds": 60.0, "checkpointsTotal": 1,
        "checkpointSizesBytes": [2_000_000], "lastCheckpointAt": now - 10,
        "checkpointIntervalSteps": 10, "precision": "bf16", "gpus": [gpu],
    }  # fmt: skip


CHECK = {"name": "training_loss", "result": "Fail", "score": 0.25}
RUNNING = {"phase": "Running", "startTime": at(-60)}
ENDED = {
    "phase": "Succeeded", "startTime": at(-90), "completionTime": at(-30), "trainLoss": 0.4,
    "usage": {"gpuSeconds": 480.0, "energyJoules": 250_000.0},
    "validation": {
        "phase": "Failed", "checks": [CHECK], "startTime": at(-29), "completionTime": at(-9),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of the metrics server of a job that goes on."""
    folder = tmp_path_factory.mktemp("state")
    ended = threading.Event()

    def train() -> None:
        while not ended.wait(0.2):
            draft = folder / "draft"
            draft.write_text(json.dumps(state()))
            draft.rename(folder / "rank-0.json")

    threading.Thread(target=train, daemon=True).start()
    exporter = FineTuningMetricsExporter(
        0, job_name="running", model_id="org/m", method="lora", state_dir=folder,
        bind_address="127.0.0.1",
    )  # fmt: skip
    exporter.start_server()
    yield exporter.port
    exporter.stop_server()
    ended.set()


@pytest.fixture(scope="module")
def operator() -> Iterator[tuple[int, OperatorMetrics]]:
    """Port of the operator's exporter, and its counters."""
    cache = Cache()
    cache.customs.put(observed.custom(job_body("running", "uid-1") | {"status": RUNNING}))
    cache.customs.put(observed.custom(job_body("ended", "uid-2") | {"status": ENDED}))
    metrics = OperatorMetrics(cache, SETTINGS)
    metrics.leads()
    port = free_port()
    server, thread = start_http_server(port, addr="127.0.0.1", registry=metrics.registry)
    yield port, metrics
    server.shutdown()
    server.server_close()
    thread.join()


OF_AMDS_EXPORTER = "".join(
    f'{metric}{{gpu_id="3",serial_number="692251001124",hostname="n1",card_model="0x74a1",'
    f'pod="running-train-x1",namespace="team",container="finetuning"}} {value}\n'
    for metric, value in (
        ("gpu_gfx_activity", 97),
        ("gpu_package_power", 612),
        ("gpu_junction_temperature", 71),
        ("gpu_ecc_uncorrect_total", 0),
    )
)
"""As AMD's device metrics exporter tells by default: without the optional gpu_uuid."""


class Exporter(BaseHTTPRequestHandler):
    """Serves that text."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(OF_AMDS_EXPORTER.encode())

    @override
    def log_message(self, *args: object) -> None:
        """Nothing: it is asked every second."""


@pytest.fixture(scope="module")
def devices() -> Iterator[int]:
    """Port of what stands in for AMD's exporter, which needs AMD's driver."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Exporter) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def prometheus(
    sidecar: int,
    operator: tuple[int, OperatorMetrics],
    devices: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """URL of a Prometheus that scrapes both and evaluates the chart's rules every second."""
    in_the_pod = {"namespace": "team", "pod": "running-train-x1"}
    scrapes: list[dict[str, Any]] = [
        {
            "job_name": "finetuning-metrics",
            "static_configs": [{"targets": [f"127.0.0.1:{sidecar}"], "labels": in_the_pod}],
        },
        {
            "job_name": "finetuning-operator",
            "honor_labels": True,
            "static_configs": [{"targets": [f"127.0.0.1:{operator[0]}"]}],
        },
        {
            # Without honor_labels its pod and namespace are renamed.
            "job_name": "device-metrics-exporter",
            "static_configs": [
                {
                    "targets": [f"127.0.0.1:{devices}"],
                    "labels": {"namespace": "gpu-operator", "pod": "exporter-1"},
                }
            ],
        },
    ]
    rules = RULES.read_text().replace("interval: 30s", "interval: 1s")
    with prometheus_process.prometheus(
        tmp_path_factory.mktemp("prometheus"), scrapes, rules
    ) as url:
        yield url


def scraped_three_times(url: str) -> bool:
    found = ask.instant(url, "min(count_over_time(finetuning_operator_build_info[1m]))")
    sidecar = ask.instant(url, "min(count_over_time(finetuning_job_status[1m]))")
    return bool(found and sidecar) and min(float(f[0]["value"][1]) for f in (found, sidecar)) >= 3


def happen(metrics: OperatorMetrics) -> None:
    """What an operator counts in a good and a bad minute."""
    for outcome in ("ok", "retry", "error"):
        metrics.reconciles.labels(outcome).inc()
    metrics.duration.observe(0.01)
    metrics.requested("get", "jobs", 200, 0.1)
    metrics.requested("patch", "finetuningjobs", 409, 0.1)
    metrics.monitor_failed("Forbidden")
    body = observed.custom(job_body("ended", "uid-2"))
    metrics.turned(body, None, status.parse(ENDED))


def answers(url: str, expr: str) -> bool:
    """Whether there is a figure: a series of NaN is none."""
    found = ask.instant(url, ask.filled(expr, SECONDS, "10s"))
    return any(each["value"][1] != "NaN" for each in found)


@pytest.fixture(scope="module")
def busy(prometheus: str, operator: tuple[int, OperatorMetrics]) -> str:
    """The same Prometheus after something has happened between two scrapes."""
    happen(operator[1])  # A counter with labels is there only once it has counted.
    assert until(lambda: scraped_three_times(prometheus))
    happen(operator[1])
    assert until(lambda: ask.instant(prometheus, "finetuning_operator_reconcile_total > 1"))
    return prometheus


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_every_panel_finds_a_figure(busy: str, board: Any) -> None:
    def silent() -> list[tuple[str, str]]:
        return [
            (panel.title, query.expr)
            for panel in board.panels
            for query in panel.queries
            if not answers(busy, query.expr)
        ]

    until(lambda: not silent(), 30)
    assert silent() == []
    assert set(NO_DATA_HERE) <= {panel.title for each in DASHBOARDS for panel in each.panels}


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_every_query_can_be_drawn_over_time(busy: str, board: Any) -> None:
    end = time.time()
    for query in (query for panel in board.panels for query in panel.queries):
        ask.over_time(busy, ask.filled(query.expr, SECONDS), end - SECONDS, end, 5)


def test_prometheus_evaluates_every_rule_and_only_the_right_alerts_fire(busy: str) -> None:
    def rules() -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{busy}/api/v1/rules", timeout=10) as answer:  # noqa: S310
            return [
                rule for group in json.load(answer)["data"]["groups"] for rule in group["rules"]
            ]

    def firing() -> set[str]:
        return {rule["name"] for rule in rules() if rule.get("state") == "firing"}

    assert until(lambda: {rule["health"] for rule in rules()} == {"ok"})
    assert len(rules()) == sum(len(group["rules"]) for group in rule_file()["groups"])
    until(firing)
    assert firing() == {"FineTuningValidationFailed"}
