import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuning.monitoring import metrics
from finetuning.monitoring.metrics import FineTuningMetricsExporter

Series = dict[str, list[tuple[dict[str, str], float]]]
Scrape = Callable[[int], Series]
Start = Callable[..., FineTuningMetricsExporter]
WriteState = Callable[[dict[str, Any]], None]


def ask(
    port: int, path: str, method: str = "GET", accept: str = ""
) -> tuple[int, bytes, dict[str, str]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", method=method, headers={"Accept": accept}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            return reply.status, reply.read(), dict(reply.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


def test_figures_follow_the_state_file(
    start: Start,
    scrape: Scrape,
    state_dir: Path,
    state: dict[str, Any],
    write_state: WriteState,
) -> None:
    exporter = start(job_name="my-job", model_id="org/model", method="lora", state_dir=state_dir)
    assert scrape(exporter.port)["finetuning_job_status"][0][1] == 0
    write_state(state)
    assert scrape(exporter.port)["finetuning_train_loss"] == [
        ({"job_name": "my-job", "model_id": "org/model", "epoch": "2"}, 0.5234)
    ]
    write_state(state | {"epoch": 2.5, "loss": 0.4})
    assert scrape(exporter.port)["finetuning_train_loss"] == [
        ({"job_name": "my-job", "model_id": "org/model", "epoch": "3"}, 0.4)
    ]


def test_two_exporters_live_in_one_process(start: Start, scrape: Scrape) -> None:
    first, second = start(job_name="one"), start(job_name="two")
    names = [scrape(each.port)["finetuning_job_status"][0][0] for each in (first, second)]
    assert [labels["job_name"] for labels in names] == ["one", "two"]


def test_an_exporter_starts_again_on_its_port(start: Start, scrape: Scrape) -> None:
    exporter = start()
    port = exporter.port
    exporter.start_server()
    exporter.stop_server()
    exporter.stop_server()
    exporter.start_server()
    assert exporter.port == port
    assert "finetuning_job_status" in scrape(port)


def healthy(host: str, port: int) -> bool:
    with urllib.request.urlopen(f"http://{host}:{port}/healthz", timeout=10) as reply:
        return bool(reply.status == 200)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_both_families_are_served_unless_one_address_is_named(start: Start) -> None:
    exporter = start(bind_address="")
    assert exporter.bind_address == "::"
    assert healthy("127.0.0.1", exporter.port)
    assert healthy("[::1]", exporter.port)
    only = start(bind_address="127.0.0.1")
    with pytest.raises(urllib.error.URLError):
        healthy("[::1]", only.port)


def test_a_machine_without_ipv6_is_served_by_ipv4(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A family that no kernel serves any more, and that therefore says what one without IPv6 says.
    monkeypatch.setattr(metrics._MetricsServerV6, "address_family", socket.AF_ASH)
    exporter = start(bind_address="")
    assert exporter.bind_address == "0.0.0.0"  # noqa: S104
    assert healthy("127.0.0.1", exporter.port)


def test_a_port_that_is_taken_on_all_addresses_is_refused_on_all(start: Start) -> None:
    first = start(bind_address="0.0.0.0")  # noqa: S104
    with pytest.raises(OSError, match="in use"):
        start(bind_address="", port=first.port)


def test_a_taken_port_is_refused(start: Start) -> None:
    with pytest.raises(OSError, match="in use"):
        start(port=start().port)


def test_values_set_by_hand_are_served(start: Start, scrape: Scrape) -> None:
    exporter = start(job_name="by-hand")
    exporter.update(step=5, total_steps=10, loss=0.25, epoch=0.5)
    series = scrape(exporter.port)
    assert series["finetuning_training_progress"][0][1] == 50
    assert series["finetuning_job_status"][0][1] == 1
    assert series["finetuning_train_loss"][0] == (
        {"job_name": "by-hand", "model_id": "", "epoch": "1"},
        0.25,
    )
    assert "finetuning_learning_rate" not in series


def test_values_cannot_be_set_where_files_are_read(state_dir: Path) -> None:
    exporter = FineTuningMetricsExporter(state_dir=state_dir)
    with pytest.raises(RuntimeError, match="state_dir"):
        exporter.update(step=1)


def test_the_state_lies_beside_training_info(
    start: Start, scrape: Scrape, tmp_path: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    write_state(state)
    exporter = start(training_info=tmp_path / "training_info.json")
    assert scrape(exporter.port)["finetuning_training_step"][0][1] == 37


def test_status_gives_the_state_as_json(
    start: Start, state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    exporter = start(state_dir=state_dir)
    assert ask(exporter.port, "/status")[:2] == (503, b"{}")
    write_state(state | {"loss": "NaN"})
    code, body, headers = ask(exporter.port, "/status")
    assert code == 200
    assert headers["Content-Type"] == "application/json"
    shown = json.loads(body)
    assert (shown["step"], shown["totalSteps"], shown["loss"]) == (37, 100, "NaN")


@pytest.mark.parametrize(
    ("path", "code"), [("/healthz", 200), ("/metrics", 200), ("/metrics?x=1", 200), ("/", 404)]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_pages_answer_get_and_head(start: Start, path: str, code: int, method: str) -> None:
    got, body, headers = ask(start().port, path, method)
    assert got == code
    assert int(headers["Content-Length"]) > 0
    assert bool(body) == (method == "GET")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        ("text/plain; version=abc", "text/plain"),
        ("application/openmetrics-text; version=9.9.9,*/*", "application/openmetrics-text"),
        ("\u00e4;;;q=", "text/plain"),
    ],
)
def test_every_accept_header_gets_an_answer(start: Start, accept: str, content_type: str) -> None:
    code, body, headers = ask(start().port, "/metrics", accept=accept)
    assert code == 200
    assert headers["Content-Type"].startswith(content_type)
    assert b"finetuning_job_status" in body


def test_a_spoilt_state_file_never_makes_an_error_page(
    start: Start, scrape: Scrape, state_dir: Path
) -> None:
    exporter = start(state_dir=state_dir)
    (state_dir / "rank-0.json").write_bytes(b"\x00\xff" * 1000)
    assert scrape(exporter.port)["finetuning_state_parse_errors_total"][0][1] == 1
    assert ask(exporter.port, "/status")[0] == 503
    assert ask(exporter.port, "/healthz")[0] == 200


def test_only_a_scrape_of_the_end_counts_as_seen(
    start: Start, scrape: Scrape, state_dir: Path, state: dict[str, Any], write_state: WriteState
) -> None:
    exporter = start(state_dir=state_dir)
    write_state(state)
    scrape(exporter.port)
    write_state(state | {"state": "finished"})
    ask(exporter.port, "/status")
    ask(exporter.port, "/metrics", "HEAD")
    assert exporter.scrapers.served == frozenset()
    scrape(exporter.port)
    # The answer is complete before the server has counted it.
    exporter.stop_server()
    assert exporter.scrapers.served == exporter.scrapers.regular(60)
    assert len(exporter.scrapers.served) == 1
