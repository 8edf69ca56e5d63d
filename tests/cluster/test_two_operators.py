"""Two operators: one works, the other takes over; and both at once do no harm."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hack import deploy
from tests.cluster.jobs import brief, condition, example, judged, reached_step, running
from tests.cluster.support import ROOT, STATE, Cluster, kill_container

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(900)]

NAME = "finetuning-operator"
SELECTOR = f"app.kubernetes.io/name={NAME}"


def holder(system: Cluster) -> str:
    return str(system.get("lease", NAME)["spec"]["holderIdentity"])


def pods(system: Cluster) -> dict[str, dict[str, Any]]:
    found = system.get("pods", "", "--selector", SELECTOR)
    return {pod["metadata"]["name"]: pod for pod in found}


@contextmanager
def replicas(system: Cluster, count: int) -> Iterator[None]:
    """As many as the chart's value says, all of them ready."""

    def upgrade(number: int) -> None:
        command = deploy.helm_command(deploy.images(), [f"--set=operator.replicas={number}"])
        system.run(*command)
        system.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=120s")

    upgrade(count)
    try:
        yield
    finally:
        upgrade(1)


def taken_over(system: Cluster, before: str) -> float:
    """Seconds until another holds the lease."""
    begun = time.monotonic()
    system.wait("another leader", lambda: holder(system) not in {"", before}, 60)
    return time.monotonic() - begun


@pytest.mark.long
@pytest.mark.fault(
    "Leader killed, leader stopped",
    "another leads within 20 s and 5 s",
)
def test_a_standby_takes_over_from_one_that_is_killed_and_from_one_that_leaves(
    workspace: Cluster, operator: Cluster, record_property: Any
) -> None:
    with replicas(operator, 2):
        assert operator.get("poddisruptionbudget", NAME)["spec"]["maxUnavailable"] == 1
        first = operator.wait("a leader", lambda: holder(operator))
        assert first in pods(operator)
        with running(workspace, example("lora", "handed-over")) as name:
            reached_step(workspace, name, 2)
            # As with a lost node: no good-bye, and no restart under the same name.
            kill_container(pods(operator)[first], "operator")
            operator.kubectl("delete", "pod", first, "--force", "--grace-period=0")
            lost = taken_over(operator, first)
            second = holder(operator)
            operator.kubectl("delete", "pod", second, "--wait=false")
            left = taken_over(operator, second)
            record_property("take-over", f"killed {lost:.1f} s, stopped {left:.1f} s")
            assert lost <= 20
            assert left <= 5
            seen = judged(workspace, name)
            assert seen["phase"] == "Succeeded"
            assert condition(seen, "Validated")["status"] == "True"


@contextmanager
def second_operator_by_force() -> Iterator[subprocess.Popen[str]]:
    """One more on this machine that asks nobody whether it may work."""
    images = deploy.images()
    prefix = "FINETUNING_OPERATOR_"
    env = {
        **os.environ,
        f"{prefix}OPERATOR_IMAGE": images["operator"],
        f"{prefix}TRAINER_IMAGE": images["trainer"],
    }
    kubeconfig = ("--kubeconfig", str(STATE / "kubeconfig"), "--http-port", "0")
    with subprocess.Popen(
        [sys.executable, "-m", "finetuning.controller", *kubeconfig],
        cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.fault(
    "Two active operators by force (kubelet)",
    "one end, one verdict",
)
@pytest.mark.long
def test_two_that_work_at_once_do_no_harm(workspace: Cluster, operator: Cluster) -> None:
    with second_operator_by_force() as process:
        assert process.stderr is not None
        assert any("ready:" in line for line in process.stderr)
        with running(workspace, brief("lora", "twice")) as name:
            seen = judged(workspace, name)
        assert process.poll() is None
    assert seen["phase"] == "Succeeded"
    assert condition(seen, "Validated")["status"] == "True"
