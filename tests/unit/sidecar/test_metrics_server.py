"""The command line of the metrics server, as a process."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from finetuning.controller.naming import MANAGED_BY

Series = dict[str, list[tuple[dict[str, str], float]]]
Scrape = Callable[[int], Series]
WriteState = Callable[[dict[str, Any]], None]
COMMAND = [sys.executable, "-m", "finetuning.monitoring.metrics_server"]


class Server:
    """A running metrics server and the port that it told."""

    def __init__(self, arguments: list[str], prefix: tuple[str, ...] = ()) -> None:
        command = [*prefix, *COMMAND, "--port", "0", "--bind-address", "127.0.0.1", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.greeting = self.process.stderr.readline()
        found = re.search(r":(\d+)/metrics", self.greeting)
        assert found, self.greeting
        self.port = int(found[1])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def start(*arguments: str, prefix: tuple[str, ...] = ()) -> Server:
        server = Server(list(arguments), prefix)
        running.append(server)
        return server

    yield start
    for server in running:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        if server.process.stderr:
            server.process.stderr.close()


def refused(*arguments: str) -> str:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    return done.stderr


def test_the_specified_command_serves_the_run(
    serve: Callable[..., Server],
    scrape: Scrape,
    tmp_path: Path,
    state: dict[str, Any],
    write_state: WriteState,
) -> None:
    write_state(state)
    server = serve(
        "--job-name", "my-job", "--model-id", "Qwen/Qwen2.5-7B-Instruct",
        "--method", "lora", "--training-info", str(tmp_path / "training_info.json"),
    )  # fmt: skip
    series = scrape(server.port)
    assert series["finetuning_job_status"] == [
        ({"job_name": "my-job", "model_id": "Qwen/Qwen2.5-7B-Instruct", "method": "lora"}, 1.0)
    ]
    assert server.stop() == 0


def test_training_info_that_appears_later_shows_success(
    serve: Callable[..., Server], scrape: Scrape, tmp_path: Path
) -> None:
    path = tmp_path / "training_info.json"
    server = serve("--training-info", str(path))
    assert scrape(server.port)["finetuning_job_status"][0][1] == 0
    path.write_text(json.dumps({"results": {"train_loss": 0.5234}}))
    series = scrape(server.port)
    assert series["finetuning_job_status"][0][1] == 2
    assert series["finetuning_train_loss"][0][1] == 0.5234


def test_after_sigterm_it_lingers_for_one_scrape_that_sees_the_failure(
    serve: Callable[..., Server],
    scrape: Scrape,
    state_dir: Path,
    state: dict[str, Any],
    write_state: WriteState,
) -> None:
    write_state(state)
    server = serve("--state-dir", str(state_dir), "--linger", "60")
    assert scrape(server.port)["finetuning_job_status"][0][1] == 1
    assert {1.0} | statuses_until_failed(server, scrape) == {1.0, 3.0}
    assert server.process.wait(20) == 0


def statuses_until_failed(server: Server, scrape: Scrape) -> set[float]:
    """What a Prometheus sees from SIGTERM to the last scrape that is waited for."""
    server.process.send_signal(signal.SIGTERM)
    statuses: set[float] = set()
    while 3.0 not in statuses:
        statuses.add(scrape(server.port)["finetuning_job_status"][0][1])
    return statuses


def fetch(port: int, agent: str, page: str = "/metrics") -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", page, headers={"User-Agent": agent})
    with closing(connection):
        return connection.getresponse().read().decode()


def test_after_sigterm_it_lingers_until_both_of_two_prometheis_have_the_end(
    serve: Callable[..., Server], state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    write_state(state)
    server = serve("--state-dir", str(state_dir), "--linger", "60")
    for agent in ("prometheus-0", "prometheus-1"):
        fetch(server.port, agent)
    server.process.send_signal(signal.SIGTERM)
    # Somebody with curl, and the first of the two: for the second it stays.
    for agent in ("curl", "prometheus-0"):
        while not re.search(r"finetuning_job_status{.*} 3", fetch(server.port, agent)):
            pass
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(0.5)
    fetch(server.port, "prometheus-1")
    assert server.process.wait(20) == 0


def test_after_a_kill_it_stays_for_the_operator_where_nobody_scrapes(
    serve: Callable[..., Server], state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    write_state(state)
    server = serve("--state-dir", str(state_dir), "--linger", "60")
    fetch(server.port, MANAGED_BY, "/status")
    write_state(state | {"step": 77})
    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(0.5)
    assert json.loads(fetch(server.port, MANAGED_BY, "/status"))["step"] == 77
    assert server.process.wait(20) == 0


def test_it_does_not_stay_for_the_operator_after_a_trainer_that_ended_itself(
    serve: Callable[..., Server], state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    write_state(state)
    server = serve("--state-dir", str(state_dir), "--linger", "600")
    fetch(server.port, MANAGED_BY, "/status")
    write_state(state | {"state": "finished"})
    assert server.stop() == 0


def test_a_trainer_that_ended_before_its_first_word_has_failed(
    serve: Callable[..., Server], scrape: Scrape, state_dir: Path
) -> None:
    server = serve("--state-dir", str(state_dir), "--linger", "60")
    assert scrape(server.port)["finetuning_job_status"][0][1] == 0
    assert {0.0} | statuses_until_failed(server, scrape) == {0.0, 3.0}
    assert server.process.wait(20) == 0


def test_it_leaves_at_once_when_the_end_was_scraped_before(
    serve: Callable[..., Server],
    scrape: Scrape,
    state_dir: Path,
    state: dict[str, Any],
    write_state: WriteState,
) -> None:
    write_state(state | {"state": "finished"})
    server = serve("--state-dir", str(state_dir), "--linger", "600")
    assert scrape(server.port)["finetuning_job_status"][0][1] == 2
    assert server.stop() == 0


def test_it_does_not_linger_when_there_is_nothing_to_show(
    serve: Callable[..., Server], state_dir: Path
) -> None:
    assert serve("--state-dir", str(state_dir), "--linger", "600").stop() == 0


def test_it_does_not_hold_the_gpu_for_somebody_with_curl(
    serve: Callable[..., Server], state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    write_state(state)
    server = serve("--state-dir", str(state_dir), "--linger", "600")
    fetch(server.port, "curl/8.5.0")
    assert server.stop() == 0


def test_it_does_not_hold_the_gpu_for_a_prometheus_that_never_came(
    serve: Callable[..., Server], state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    write_state(state)
    assert serve("--state-dir", str(state_dir), "--linger", "600").stop() == 0


def test_it_does_not_linger_longer_than_allowed(
    serve: Callable[..., Server],
    scrape: Scrape,
    state_dir: Path,
    state: dict[str, Any],
    write_state: WriteState,
) -> None:
    write_state(state)
    server = serve("--state-dir", str(state_dir), "--linger", "0.3")
    scrape(server.port)
    assert server.stop() == 0


def test_the_page_of_the_state_has_no_token_of_an_error(
    serve: Callable[..., Server], state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    token = "hf_CanaryCanaryCanary0123456789"
    write_state(state | {"state": "failed", "message": f"401 for {token}"})
    server = serve("--state-dir", str(state_dir))
    told = [fetch(server.port, "anybody", page) for page in ("/status", "/metrics")]
    assert json.loads(told[0])["message"] == "401 for [redacted]"
    assert token not in "".join(told)


def test_a_second_signal_ends_the_lingering(
    serve: Callable[..., Server],
    scrape: Scrape,
    state_dir: Path,
    state: dict[str, Any],
    write_state: WriteState,
) -> None:
    write_state(state)
    server = serve("--state-dir", str(state_dir), "--linger", "600")
    scrape(server.port)
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(20) == 0


def test_as_the_first_process_of_a_container_it_hears_sigterm(
    serve: Callable[..., Server], state_dir: Path
) -> None:
    unshare = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine lets nobody make a PID namespace")
    server = serve("--state-dir", str(state_dir), prefix=unshare)
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    (child,) = (int(pid) for pid in children.split())
    status = Path(f"/proc/{child}/status").read_text()
    assert re.search(r"^NSpid:.*\t1$", status, re.MULTILINE)
    subprocess.run(["kill", "-TERM", str(child)], check=True)
    assert server.process.wait(20) == 0


@pytest.mark.parametrize(
    ("address", "shown"),
    [("", "http://[::]:"), ("::1", "http://[::1]:"), ("127.0.0.1", "http://127.")],
)
def test_it_says_where_it_listens_as_an_address_is_written(
    serve: Callable[..., Server], address: str, shown: str
) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    assert shown in serve("--bind-address", address).greeting


def test_a_port_in_use_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = refused("--port", str(port), "--bind-address", "127.0.0.1")
    assert len(text.splitlines()) == 1
    assert f"port {port}" in text
    assert "--port" in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--port", "70000"], "70000"),
        (["--port", "http"], "http"),
        (["--method", "dreaming"], "dreaming"),
        (["--linger", "-1"], "-1"),
        (["--linger", "nan"], "nan"),
        (["--bind-address", "no.such.host.invalid"], "no.such.host.invalid"),
    ],
)
def test_a_wrong_value_is_named(arguments: list[str], named: str) -> None:
    assert named in refused(*arguments)
