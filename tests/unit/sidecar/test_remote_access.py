"""Metrics of another machine through a real SSH server; each way in which that fails."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port
from tests.unit.local.processes import until
from tests.unit.sidecar import sshd
from tests.unit.sidecar.sshd import NoServerError, Program, Server, listens

from finetuning.monitoring.metrics import FineTuningMetricsExporter

SCRIPT = Path(__file__).parents[3] / "validate_metrics_remote.sh"
Start = Callable[..., FineTuningMetricsExporter]
Serve = Callable[..., Server]


@pytest.fixture(scope="session")
def ground() -> Iterator[Path]:
    """A folder that the server's user can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="finetuning-sshd-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def found(ground: Path) -> Program:
    try:
        return sshd.program(ground)
    except NoServerError as error:
        pytest.skip(str(error))


@pytest.fixture
def serve(ground: Path, found: Program) -> Iterator[Serve]:
    """Starts SSH servers, stopped after the test with every tunnel through them."""
    running: list[Server] = []

    def begin(**settings: str) -> Server:
        folder = Path(tempfile.mkdtemp(dir=ground))
        folder.chmod(0o755)
        running.append(Server(folder, found, **settings))
        return running[-1]

    yield begin
    for server in running:
        server.stop()


@pytest.fixture
def metrics(start: Start, state_dir: Path, state: dict[str, Any], write_state: Any) -> int:
    """The remote port on which a run is exported."""
    write_state(state)
    return start(state_dir=state_dir).port


def check(port: int, path: str | None = None) -> tuple[int, str]:
    # A narrow terminal must not hide the end of a command line.
    environment = {**os.environ, "PATH": path or os.environ["PATH"], "COLUMNS": "40"}
    done = subprocess.run(
        ["/bin/sh", str(SCRIPT), str(port)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_documented_tunnel_brings_the_metrics_here(serve: Serve, metrics: int) -> None:
    server, port = serve(), free_port()
    opened = server.tunnel(port, metrics)
    assert opened.returncode == 0, server.log()
    code, told = check(port)
    assert code == 0
    assert f"✓ SSH tunnel on port {port} is active" in told
    assert "✓ finetuning_train_loss\n" in told
    assert "✗" not in told
    assert told.endswith("✓ The metrics can be used\n")

    server.close_tunnels()
    code, told = check(port)
    assert code == 1
    assert f"✗ No SSH tunnel on port {port}; open one: ssh -f -N -L {port}:localhost:8000" in told


@pytest.mark.parametrize("tool", ["ss", "lsof", "netstat"])
def test_a_forwarding_from_the_configuration_is_found_by_its_socket(
    tool: str, serve: Serve, metrics: int, tmp_path: Path
) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"there is no {tool}")
    server, port = serve(), free_port()
    with (server.folder / "ssh_config").open("a") as config:
        config.write("Host finetuning-server\n")
        config.write(f"    User {server.user}\n    LocalForward {port} localhost:{metrics}\n")
    assert server.ssh("-f", "-N", "finetuning-server").returncode == 0
    code, told = check(port, only(tmp_path, tool))
    assert code == 0
    assert f"✓ SSH tunnel on port {port} is active" in told


def only(folder: Path, tool: str) -> str:
    """A PATH that has one of the tools that see tunnels, and what the script always needs."""
    for name in ("grep", "sed", "awk", "sort", "tr", "tail", "curl", tool):
        (folder / name).symlink_to(str(shutil.which(name)))
    return str(folder)


def test_where_sockets_cannot_be_seen_the_command_line_tells(
    serve: Serve, metrics: int, tmp_path: Path
) -> None:
    server, port = serve(), free_port()
    server.tunnel(port, metrics)
    code, told = check(port, only(tmp_path, "ps"))
    assert code == 0
    assert f"✓ SSH tunnel on port {port} is active" in told


def test_no_metrics_server_at_the_far_end(serve: Serve) -> None:
    server, port, remote = serve(), free_port(), free_port()
    server.tunnel(port, remote)
    code, told = check(port)
    assert code == 1
    assert f"✓ SSH tunnel on port {port} is active" in told
    assert "✗ Metrics endpoint is not accessible" in told
    assert "nothing answers at its far end" in told
    assert f"connect_to localhost port {remote}: failed" in server.log()


def test_a_server_that_forbids_forwarding(serve: Serve, metrics: int) -> None:
    server, port = serve(AllowTcpForwarding="no"), free_port()
    server.tunnel(port, metrics)
    code, told = check(port)
    assert code == 1
    assert "does its\n  sshd allow forwarding (AllowTcpForwarding)?" in told
    assert "refused local port forward" in server.log()


def test_a_key_that_the_server_does_not_know(serve: Serve, metrics: int) -> None:
    server, port = serve(), free_port()
    shutil.copyfile(server.folder / "wrong_key", server.folder / "client_key")
    refused = server.tunnel(port, metrics)
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stdout
    code, told = check(port)
    assert code == 1
    assert f"✗ No SSH tunnel on port {port}" in told


def test_a_local_port_that_another_program_has(serve: Serve, metrics: int, tmp_path: Path) -> None:
    server, port = serve(), free_port()
    command = ["python3", "-c", OCCUPANT, str(port)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as other:
        try:
            until(lambda: listens(port))
            refused = server.tunnel(port, metrics)
            code, told = check(port)
            where = ("-L", f"{port}:localhost:{metrics}", f"{server.user}@remote-server")
            strict = server.ssh("-N", "-o", "ExitOnForwardFailure=yes", *where)
        finally:
            other.terminate()
    assert "Address already in use" in refused.stdout
    assert strict.returncode == 255
    assert code == 1
    assert f"✗ An ssh wants to forward port {port}, but python3 has that port" in told


OCCUPANT = """\
import socket, sys, time
kept = [socket.create_server((address, int(sys.argv[1])), family=family)
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))]
time.sleep(60)
"""


def test_a_tunnel_to_somebody_elses_page(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("up 1\n")
    server, port, remote = serve(), free_port(), free_port()
    command = ["python3", "-m", "http.server", str(remote), "--bind", "127.0.0.1"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as other:
        try:
            until(lambda: listens(remote))
            server.tunnel(port, remote)
            code, told = check(port)
        finally:
            other.terminate()
    assert code == 1
    assert "✗ No fine-tuning metrics: something else answers" in told
