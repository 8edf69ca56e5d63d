"""A real Prometheus, run by a real prometheus-operator, for the tests of this folder."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.cluster.support import ROOT, Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator


def hack(*words: str) -> str:
    command = [sys.executable, "-m", "hack.cluster", *words]
    return subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout


def monitor_the_operator(operator: Cluster) -> None:
    """What the chart renders where it finds the kinds; here they come after it, and go with them.

    An upgrade of the release while they are there takes the rules away again.
    """
    operator.apply(
        operator.run(
            "helm", "template", "finetuning-operator", "charts/finetuning-operator",
            "--namespace", operator.namespace, "--kube-version", "1.36.0",
            "--set", "monitoring.serviceMonitor=true,monitoring.interval=5s",
            "--set", "prometheusRule.enabled=true",
            "--show-only", "templates/servicemonitor.yaml",
            "--show-only", "templates/prometheusrule.yaml",
        )
    )  # fmt: skip


@pytest.fixture(scope="package")
def prometheus(operator: Cluster) -> Iterator[str]:
    """URL of a Prometheus that the prometheus-operator runs; gone again afterwards."""
    hack("monitoring", "on")
    monitor_the_operator(operator)
    yield json.loads(hack("status", "--json"))["prometheus"]
    hack("monitoring", "off")


def release(*values: str) -> None:
    """Deploy with these values of the chart, and the defaults for all others."""
    Cluster().run(sys.executable, "-m", "hack.deploy", *(f"--set={value}" for value in values))


@pytest.fixture(scope="package")
def system(operator: Cluster) -> Iterator[Cluster]:
    """The release, which tests may deploy anew; it is left as it was."""
    yield operator
    release()
