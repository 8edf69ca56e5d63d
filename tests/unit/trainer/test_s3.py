"""Rows from an S3 store, read from a real server in a process of its own."""

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.unit.s3_server import KEYS, Server, running
from tests.unit.trainer.conftest import ROWS

from finetuning.api.run_config import DatasetConfig
from finetuning.artifacts.exits import ExitCode
from finetuning.artifacts.failures import DatasetError
from finetuning.base import s3
from finetuning.base.app import main
from finetuning.base.sources import read

LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
OBJECT = "s3://rows/law/train.jsonl"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def store(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The server's objects as a client sees them; the trainer's environment names the server."""
    server.post("/moto-api/reset")
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    client = server.client()
    client.create_dir("rows")
    put(client, LINES)
    yield client
    server.post("/moto-api/reset-auth", b"1000000")


def put(client: Any, data: bytes) -> None:
    with client.open_output_stream("rows/law/train.jsonl") as stream:
        stream.write(data)


def refused(uri: str = OBJECT) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        s3.fetch(uri, "--dataset-path")
    return caught.value


def test_rows_are_read_and_named_by_where_they_came_from(store: Any) -> None:
    rows = read(DatasetConfig(path=OBJECT))
    assert [row.data for row in rows.rows] == ROWS
    assert rows.source == OBJECT


def test_an_unchanged_object_is_downloaded_once_and_a_changed_one_again(store: Any) -> None:
    first = s3.fetch(OBJECT, "--dataset-path")
    written = first.stat().st_mtime_ns
    again = s3.fetch(OBJECT, "--dataset-path")
    assert (again, again.stat().st_mtime_ns) == (first, written)
    put(store, LINES + b'{"text": "new"}\n')
    assert s3.fetch(OBJECT, "--dataset-path").read_bytes() == LINES + b'{"text": "new"}\n'
    assert first.read_bytes() == LINES


def test_a_download_that_was_cut_off_goes_on_where_it_ended(store: Any) -> None:
    final = s3.fetch(OBJECT, "--dataset-path")
    final.unlink()
    mark = b"#" * 100
    (final.parent / ".part").write_bytes(mark)
    assert s3.fetch(OBJECT, "--dataset-path").read_bytes() == mark + LINES[100:]
    assert [path.name for path in final.parent.iterdir()] == ["train.jsonl"]


def test_large_objects_come_in_pieces(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PIECE", 97)
    assert s3.fetch(OBJECT, "--dataset-path").read_bytes() == LINES


def test_an_object_that_is_replaced_meanwhile_is_told_and_may_be_tried_again(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = s3._append

    def replacing(*args: Any) -> None:
        append(*args)
        put(store, LINES[::-1])

    monkeypatch.setattr(s3, "_append", replacing)
    error = refused()
    assert "was replaced while it was read" in str(error)
    assert error.exit_code is ExitCode.FAILED


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://rows/law/none.jsonl", "s3://rows/law/none.jsonl: no such object; check bucket"),
        ("s3://none/train.jsonl", "s3://none/train.jsonl: no such object; check bucket"),
        ("s3://rows/law", "s3://rows/law: is a folder; give the key of one data file"),
    ],
)
def test_what_is_not_there_ends_the_run_for_good(
    store: Any, uri: str, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flags = ["--model-id", "m", "--dataset-path", uri, "--output-dir", str(tmp_path / "out")]
    assert main(flags) == ExitCode.INVALID
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith(f"error: --dataset-path {words}")


def test_a_wrong_key_is_refused_with_what_to_set_and_never_shown(
    store: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.post("/moto-api/reset-auth", b"0")
    error = refused()
    assert "the key is wrong or may not read it" in str(error)
    assert "AWS_ACCESS_KEY_ID" in str(error)
    assert "something" not in str(error)
    assert error.exit_code is ExitCode.INVALID


class _Closed(BaseHTTPRequestHandler):
    """Answers as stores do to someone without a key; moto's server knows no such callers."""

    def do_HEAD(self) -> None:
        self.send_error(403)


def test_no_key_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), _Closed) as closed:
        Thread(target=closed.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.server_port}")
        error = refused()
        closed.shutdown()
    assert "no key was given" in str(error)
    assert error.exit_code is ExitCode.INVALID


def test_a_store_that_nobody_answers_for_is_worth_another_try(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    error = refused()
    assert f"http://127.0.0.1:{port} cannot be reached" in str(error)
    assert error.exit_code is ExitCode.FAILED
