"""The shell script that checks a tunnel and the metrics behind it."""

import json
import os
import pty
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port

from finetuning.monitoring.metrics import FineTuningMetricsExporter

SCRIPT = Path(__file__).parents[3] / "validate_metrics_remote.sh"
Start = Callable[..., FineTuningMetricsExporter]


def run(*arguments: str, shell: str = "sh", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shell, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def port(start: Start, state_dir: Path, state: dict[str, Any], write_state: Any) -> int:
    write_state(state)
    return start(state_dir=state_dir).port


def test_a_local_endpoint_is_good_with_a_warning_about_the_tunnel(port: int) -> None:
    done = run(str(port))
    assert done.returncode == 0
    assert f"! No SSH tunnel on port {port}" in done.stdout
    assert "✓ Metrics endpoint is accessible" in done.stdout
    for name in ("job_status", "train_loss", "gpu_utilization_percent", "checkpoints_total"):
        assert f"✓ finetuning_{name}\n" in done.stdout
    assert "✗" not in done.stdout


def test_an_endpoint_that_does_not_answer_fails() -> None:
    port = free_port()
    done = run(str(port))
    assert done.returncode == 1
    assert f"✗ No SSH tunnel on port {port}; open one: ssh -f -N -L {port}:" in done.stdout
    assert "✗ Metrics endpoint is not accessible" in done.stdout


def test_figures_that_are_not_there_yet_are_no_failure(start: Start, state_dir: Path) -> None:
    done = run(str(start(state_dir=state_dir).port))
    assert done.returncode == 0
    assert "! finetuning_train_loss is not reported yet" in done.stdout


def test_of_a_run_that_has_ended_nothing_is_still_to_come(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "training_info.json"
    path.write_text(json.dumps({"results": {"final_loss": 0.5, "checkpoints_total": 2}}))
    done = run(str(start(training_info=path).port))
    assert done.returncode == 0
    assert "✓ finetuning_train_loss\n" in done.stdout
    assert "✓ finetuning_checkpoints_total\n" in done.stdout
    assert "! finetuning_learning_rate is not reported of a run that has ended" in done.stdout
    assert "yet" not in done.stdout


def test_somebody_elses_endpoint_fails(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("up 1\n")
    port = free_port()
    command = ["python3", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            wait_for_port(port)
            done = run(str(port))
        finally:
            server.terminate()
    assert done.returncode == 1
    assert "✗ No fine-tuning metrics" in done.stdout


def wait_for_port(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            os.sched_yield()
        else:
            return


def test_colours_are_for_terminals_only(port: int) -> None:
    assert "\033" not in run(str(port)).stdout
    terminal, screen = pty.openpty()
    with os.fdopen(terminal, "rb", buffering=0) as reader:
        subprocess.run(["sh", str(SCRIPT), str(port)], stdout=screen, check=True)
        os.close(screen)
        assert b"\033[32m" in reader.read(4096)


@pytest.mark.parametrize("argument", ["abc", "0", "65536", "-5", "99999999999999999999"])
def test_what_is_no_port_is_refused(argument: str) -> None:
    done = run(argument)
    assert done.returncode == 2
    assert argument in done.stderr


def test_help_tells_what_is_checked() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "SSH tunnel" in done.stdout


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_it_runs_in_every_shell_that_is_here(shell: str, port: int) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    assert run(str(port), shell=shell).returncode == 0
