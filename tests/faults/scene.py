"""A namespace, an operator's process behind the proxy, and what people do with jobs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.node import Node
from tests.faults.proxy import Proxy

from finetuning.controller.gateway import CUSTOMS, JOBS, ApiError, Gateway

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.controlplane import ControlPlane

ROOT = Path(__file__).resolve().parents[2]
Raw = dict[str, Any]


class Site:
    """One namespace with its own operator, which serves nothing else."""

    def __init__(self, plane: ControlPlane, admin: Gateway, namespace: str) -> None:
        self.plane, self.admin, self.namespace = plane, admin, namespace
        self.proxy = Proxy(plane.url)
        self.node = Node(admin, namespace)
        self.log = plane.folder / f"operator-{namespace}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.program = ["-m", "finetuning.controller"]
        self.user = "operator"
        self.served: tuple[str, ...] = (namespace,)

    def start_operator(self, sources: str = "", **settings: str) -> None:
        """Of this checkout, or of other `sources`, as PYTHONPATH has them."""
        kubeconfig = self.plane.kubeconfig(self.user, self.proxy.url)
        prefix = "FINETUNING_OPERATOR_"
        chosen = {
            "OPERATOR_IMAGE": "operator:1", "TRAINER_IMAGE": "trainer:1", "MONITORING_MODE": "none",
            "PROGRESS_INTERVAL_SECONDS": "1", **settings,
        }  # fmt: skip
        env = {**os.environ, **{prefix + name: value for name, value in chosen.items()}}
        env |= {"PYTHONPATH": sources} if sources else {}
        where = [f"--namespace={each}" for each in self.served]
        command = ["--kubeconfig", str(kubeconfig), *where, "--http-port=0"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, *command],
                cwd=ROOT, env=env, stdout=log, stderr=log,
            )  # fmt: skip
        self.starts += 1

    def kill_operator(self) -> None:
        if self.process is not None:
            self.process.kill()

    def process_is_gone(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    async def dies(self, seconds: float = 20) -> bool:
        """Whether the process ends by itself, or by a kill that is on its way."""
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self.process.wait, seconds)
        return self.process_is_gone()

    async def stop_operator(self, seconds: float = 20) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, seconds)

    async def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        await self.proxy.stop()

    # What people do

    async def submit(self, name: str = "demo", **spec: Any) -> None:
        manifest = {
            "apiVersion": "aim.amd.com/v1alpha1", "kind": "FineTuningJob",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "baseModel": {"modelId": "example/tiny"},
                "dataset": {"source": "configmap:rows:train.jsonl"}, **spec,
            },
        }  # fmt: skip
        await self.admin.create(CUSTOMS, manifest)

    async def change(self, name: str = "demo", **spec: Any) -> None:
        await self.admin.patch(CUSTOMS, self.namespace, name, {"spec": spec})

    async def remove(self, name: str = "demo") -> None:
        path = CUSTOMS.path(self.namespace, name)
        await self.admin._call("delete", CUSTOMS, "DELETE", path)

    async def status(self, name: str = "demo") -> Raw:
        found = await self.admin.get(CUSTOMS, self.namespace, name)
        return dict((found or {}).get("status") or {})

    async def jobs(self) -> list[Raw]:
        return [raw async for raw in self.admin.items(JOBS, self.namespace)]

    async def until(
        self,
        what: str,
        probe: Callable[[Raw], Any],
        seconds: float = 90,
        *,
        name: str = "demo",
        restart: bool = False,
    ) -> Raw:
        """Play the kubelet until `probe` likes the status; `restart` as the Deployment would."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(ApiError):
                await self.node.look()
                status = await self.status(name)
                if probe(status):
                    return status
            if restart and self.process_is_gone():
                self.start_operator()
            if time.monotonic() > end:
                tail = self.log.read_text()[-3000:] if self.log.exists() else ""
                raise AssertionError(f"not seen in {seconds} s: {what}; status {status}\n{tail}")
            await asyncio.sleep(0.1)


def in_words(took: dict[str, float]) -> str:
    """Seconds by what took them."""
    return ", ".join(f"{seconds:.1f} s ({title})" for title, seconds in took.items())


def judged(status: Raw) -> bool:
    return bool((status.get("validation") or {}).get("phase") == "Passed")


def over(status: Raw) -> bool:
    return status.get("phase") == "Failed" or judged(status)
