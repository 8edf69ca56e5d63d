"""Models from a Hub: a real HTTP server that speaks as much of its protocol as the client asks."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from finetuning.api.run_config import DatasetConfig
from finetuning.artifacts.failures import DatasetError
from finetuning.base import sources

COMMIT = "a" * 40
REFUSED = {
    "org/none": (404, "RepoNotFound"),
    "org/busy": (503, ""),
}


@dataclass
class Hub:
    """Serves the files of a folder as org/model; the others refuse in their own ways."""

    folder: Path
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        self.asked.append(path)
        for repository, (status, code) in REFUSED.items():
            if repository in path:
                return self._send(handler, status, {"X-Error-Code": code})
        if "/revision/v9" in path:
            return self._send(handler, 404, {"X-Error-Code": "RevisionNotFound"})
        if found := re.fullmatch(r"/api/models/(.+)/revision/\w+", path):
            return self._json(handler, {"id": found[1], "sha": COMMIT, "siblings": []})
        if re.fullmatch(r"/api/models/.+/tree/\w+", path):
            return self._json(handler, [self._entry(file) for file in self._files()])
        return self._file(handler, path)

    def _file(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        file = self.folder / path.rpartition("/")[2]
        if "org/gated" in path:
            return self._send(handler, 403, {"X-Error-Code": "GatedRepo"})
        if "/resolve/" not in path or not file.is_file():
            return self._send(handler, 404, {"X-Error-Code": "EntryNotFound"})
        etag = hashlib.sha256(file.read_bytes()).hexdigest()[:40]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        return self._send(handler, 200, headers, file.read_bytes())

    def _json(self, handler: BaseHTTPRequestHandler, value: Any) -> None:
        self._send(handler, 200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    @staticmethod
    def _entry(file: Path) -> dict[str, Any]:
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "b" * 40}

    @staticmethod
    def _send(
        handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes = b""
    ) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "served"
    folder.mkdir()
    for path in tiny_model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "pytorch_model.bin").write_bytes(b"a pickle nobody should fetch")
    hub = Hub(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.answer(self)

        do_HEAD = do_GET  # noqa: N815 - the library's name

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield hub
        server.shutdown()
        thread.join()


def train(endpoint: str, model: str, data: Path | str, folder: Path, *more: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "finetuning.base.app", "--model-id", model]
    where = ["--dataset-path", str(data), "--output-dir", str(folder / "out")]
    environment = {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(folder / "hub-cache"),
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [*command, *where, "--max-steps", "2", *more],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.training
def test_a_model_of_the_hub_is_fetched_without_its_pickles(
    hub: Hub, rows_file: Path, tmp_path: Path
) -> None:
    code, errors = train(hub.url, "org/model", rows_file, tmp_path)
    assert code == 0, errors
    assert "HTTP Request" not in errors
    adapter = json.loads((tmp_path / "out" / "adapter_config.json").read_text(encoding="utf-8"))
    assert adapter["base_model_name_or_path"] == "org/model"
    fetched = {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert "model.safetensors" in fetched
    assert "pytorch_model.bin" not in fetched
    template = tmp_path / "out" / "chat_template.jinja"
    assert template.read_bytes() == (hub.folder / "chat_template.jinja").read_bytes()


@pytest.mark.parametrize(
    ("model", "flags", "code", "words"),
    [
        ("org/none", [], 2, ["org/none: not found on the Hugging Face Hub", "HF_TOKEN"]),
        ("org/gated", [], 2, ["org/gated: is gated", "huggingface.co/org/gated", "HF_TOKEN"]),
        ("org/model", ["--revision", "v9"], 2, ["has no revision 'v9'", "--revision"]),
        ("org/busy", [], 1, ["org/busy: the Hugging Face Hub answers 503"]),
        ("a/b/c", [], 2, ["--model-id a/b/c: neither a local folder nor a Hub id"]),
    ],
)
def test_what_the_hub_refuses_is_told_with_the_remedy(  # noqa: PLR0917 - fixtures
    model: str,
    flags: list[str],
    code: int,
    words: list[str],
    hub: Hub,
    rows_file: Path,
    tmp_path: Path,
) -> None:
    found, errors = train(hub.url, model, rows_file, tmp_path, *flags)
    assert found == code, errors
    assert all(word in errors for word in words), errors
    assert "Traceback" not in errors


def test_rows_of_the_hub_are_taken_from_nowhere_else(hub: Hub, tmp_path: Path) -> None:
    place = f"{hub.url}/latest/meta-data.jsonl"
    (hub.folder / "README.md").write_text(f"---\nconfigs:\n- data_files: {place}\n---\n")
    code, errors = train(hub.url, "org/model", "hf://org/rows", tmp_path)
    assert code == 2, errors
    assert f"hf://org/rows: its README.md takes rows from '{place}'" in errors
    assert not [path for path in hub.asked if "meta-data" in path]


@pytest.mark.parametrize(("pod", "expected"), [({}, 2), ({"KUBERNETES_SERVICE_HOST": "::1"}, 1)])
def test_a_hub_that_cannot_be_reached_is_told_with_the_remedy_and_tried_again_in_a_pod(
    pod: dict[str, str],
    expected: int,
    rows_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in pod.items():
        monkeypatch.setenv(name, value)
    code, errors = train("http://127.0.0.1:9", "org/model", rows_file, tmp_path)
    assert code == expected
    assert "org/model: no such folder, and the Hugging Face Hub cannot be reached" in errors
    assert "--model-path" in errors


@pytest.mark.parametrize(("pod", "expected"), [({}, 2), ({"KUBERNETES_SERVICE_HOST": "::1"}, 1)])
def test_rows_of_a_hub_that_cannot_be_reached_are_asked_for_again_in_a_pod(
    pod: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants  # noqa: PLC0415 - takes seconds

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name, value in pod.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DatasetError, match=r"hf://org/rows: cannot be loaded: .*HF_TOKEN") as told:
        sources.read(DatasetConfig(path="hf://org/rows"))
    assert told.value.exit_code == expected


def test_a_key_of_the_optional_configmap_is_named_where_the_file_is_missing() -> None:
    key = "the key rows.jsonl of the ConfigMap finetuning-templates"
    with pytest.raises(DatasetError, match=key):
        sources.read(DatasetConfig(path="/workspace/templates/rows.jsonl"))
