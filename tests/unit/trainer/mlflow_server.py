"""A real MLflow server on loopback, asked by plain HTTP."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.ports import free_port

from finetuning.local import tether

PATIENCE = 120.0


@dataclass(frozen=True)
class Server:
    uri: str

    def ask(self, path: str, **question: Any) -> dict[str, Any]:
        """POST with a body, GET without one."""
        data = json.dumps(question).encode() if question else None
        headers = {"Content-Type": "application/json"}
        request = Request(f"{self.uri}/api/2.0/mlflow/{path}", data, headers)  # noqa: S310
        with urlopen(request, timeout=60) as answer:  # noqa: S310
            return dict(json.load(answer))

    def runs(self, experiment: str) -> list[dict[str, Any]]:
        found = self.ask(f"experiments/get-by-name?experiment_name={experiment}")
        number = found["experiment"]["experiment_id"]
        return list(self.ask("runs/search", experiment_ids=[number]).get("runs", []))

    def figures(self, run: dict[str, Any], tag: str) -> list[tuple[int, float]]:
        """Step and value, as often as the server has them."""
        query = f"metrics/get-history?run_id={run['info']['run_id']}&metric_key={tag}"
        metrics = self.ask(query).get("metrics", [])
        return sorted((int(each["step"]), float(each["value"])) for each in metrics)


@contextmanager
def started(folder: Path) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    environ = {
        **os.environ,
        "HOME": str(folder),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",
    }
    with (folder / "log").open("w") as log:
        # Nobody is left behind, should the tests themselves be killed.
        process = subprocess.Popen(
            [sys.executable, tether.__file__, "1", *command, *store],
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
        try:
            _wait(f"http://127.0.0.1:{port}", process, folder / "log")
            yield Server(f"http://127.0.0.1:{port}")
        finally:
            process.communicate(b"K")


def _wait(uri: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urlopen(f"{uri}/health", timeout=5) as answer:  # noqa: S310
                assert answer.status == 200
                return
        except (URLError, ConnectionError, TimeoutError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
