"""The operator as a process of its own, outside the cluster that it serves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

from bench.operator.plane import free_ports
from bench.operator.workload import SETTINGS
from hack.cluster.monitoring import answers
from prometheus_client.parser import text_string_to_metric_families

from finetuning.monitoring.operator_catalog import LEADER, RECONCILE_TOTAL, WORKQUEUE_DEPTH

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPResponse
    from pathlib import Path

    from bench.operator.plane import Plane

    from finetuning.monitoring.catalog import Metric

READY_SECONDS = 120.0


class OperatorProcess:
    """Started as a person would start it against a kubeconfig; only its first life is profiled."""

    def __init__(self, plane: Plane, monitoring: str, profile: Path | None = None) -> None:
        (self._port,) = free_ports(1)
        self._log = plane.folder / "logs" / "operator.log"
        kubeconfig = str(plane.kubeconfig("bench-operator"))
        self._profile = profile
        self._command = [
            "-m", "finetuning.controller",
            "--kubeconfig", kubeconfig, "--http-port", str(self._port),
        ]  # fmt: skip
        self._env = {
            **os.environ,
            "FINETUNING_OPERATOR_OPERATOR_IMAGE": SETTINGS.operator_image,
            "FINETUNING_OPERATOR_TRAINER_IMAGE": SETTINGS.trainer_image,
            "FINETUNING_OPERATOR_MONITORING_MODE": monitoring,
            # As the chart has it, also for one replica.
            "FINETUNING_OPERATOR_LEADER_ELECTION": "true",
            # Compiled modules, as in the image, whatever the environment says of them.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(plane.folder / "bytecode"),
        }
        subprocess.run(
            [sys.executable, "-c", "import finetuning.controller.runtime"],
            env=self._env, check=True,
        )  # fmt: skip
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._child is None:
            raise RuntimeError("the operator is not running")
        return self._child.pid

    def looks(self) -> float:
        """Looks at jobs since its start, by its own metrics."""
        return self._told(RECONCILE_TOTAL)

    def depth(self) -> float:
        """Jobs that wait for a look."""
        return self._told(WORKQUEUE_DEPTH)

    def _told(self, metric: Metric) -> float:
        """Asked for alone: all series of a thousand jobs would cost more than what is measured."""
        with self._open(f"metrics?name[]={metric.name}") as answer:
            families = text_string_to_metric_families(answer.read().decode())
            return sum(each.value for family in families for each in family.samples
                       if each.name == metric.name)  # fmt: skip

    def silence(self) -> float:
        """Seconds until it says that it is alive."""
        begun = time.monotonic()
        self._open("livez").close()
        return time.monotonic() - begun

    def _open(self, path: str) -> HTTPResponse:
        url = f"http://127.0.0.1:{self._port}/{path}"
        answer: HTTPResponse = urllib.request.urlopen(url, timeout=READY_SECONDS)
        return answer

    def start(self) -> float:
        """Seconds until it was ready; raises RuntimeError when it ends or takes too long."""
        ready = f"http://127.0.0.1:{self._port}/readyz"
        self._child = self._spawn()
        return self._until("is not ready", lambda: answers(ready))

    def lead(self) -> float:
        """Seconds until it was ready and had its Lease; one without serves no job."""
        return self.start() + self._until("has no Lease", lambda: bool(self._told(LEADER)))

    def _until(self, otherwise: str, there: Callable[[], bool]) -> float:
        begun = time.monotonic()
        while not there():
            passed = time.monotonic() - begun
            if (self._child and self._child.poll() is not None) or passed > READY_SECONDS:
                words = self._log.read_text()[-600:]
                raise RuntimeError(f"the operator {otherwise} after {passed:.0f} s: {words}")
            time.sleep(0.02)
        return time.monotonic() - begun

    def revive(self) -> bool:
        """Start it again where it ended by itself, and say whether it had."""
        if self._child is None or self._child.poll() is None:
            return False
        self._child = self._spawn()
        return True

    def _spawn(self) -> subprocess.Popen[bytes]:
        profiled = ["-m", "cProfile", "-o", str(self._profile)] if self._profile else []
        self._profile = None
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *profiled, *self._command],
                env=self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not go."""
        if self._child is None:
            return
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(15)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None
