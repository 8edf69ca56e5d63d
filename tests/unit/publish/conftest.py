"""A finished run of a few small files, and real servers to publish it to."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.s3_server import KEYS, Server, running

from finetuning.artifacts.manifest import seal, sha256_of
from finetuning.artifacts.models import PublishResult
from finetuning.publish.__main__ import main

INFO: dict[str, Any] = {
    "model_id": "example/tiny",
    "job_name": "demo",
    "method": "lora",
    "training_config": {"learning_rate": 0.003, "packing": False, "target_modules": ["q_proj"]},
    "dataset": {"sha256": "d" * 64},
    "results": {"final_loss": 0.0153541, "global_step": 340},
    "environment": {"torch": "2.15.0"},
    "started_at": 1795930629.5,
}
DATA = {
    "source": "train.jsonl",
    "unit": "line",
    "rows": 302,
    "bad_rows": 2,
    "duplicate_rows": 0,
    "tokens": 9964,
}


def write_run(folder: Path, **files: str) -> Path:
    """A run's output folder, sealed; `files` are contents by name, with `__` for the dot."""
    folder.mkdir(exist_ok=True)
    contents = {
        "adapter_model.safetensors": "w" * 100_000,
        "adapter_config.json": json.dumps({"base_model_name_or_path": "example/tiny"}),
        "tokenizer.json": "{}",
        "training_info.json": json.dumps(INFO),
        "data_report.json": json.dumps(DATA),
        "aim_profile.json": json.dumps({"precision": "bf16"}),
        **{name.replace("__", "."): text for name, text in files.items()},
    }
    for name, text in contents.items():
        (folder / name).write_text(text)
    seal(folder, contents)
    judge(folder)
    return folder


def judge(folder: Path, result: str = "Pass", **changed: Any) -> None:
    """A validation report about the run as it is."""
    check = {"name": "training_loss", "result": result, "message": "Training loss: 0.0154"}
    report = {"kind": "validation", "checks": [check], "reportSha256": "e" * 64}
    report["manifestSha256"] = sha256_of(folder / "manifest.json")
    (folder / "validation").mkdir(exist_ok=True)
    path = folder / "validation" / "validation_report.json"
    path.write_text(json.dumps(report | changed))
    path.with_suffix(".txt").write_text("the report\n")


def publish(run: Path, *arguments: str) -> tuple[int, PublishResult]:
    """Exit code and termination message."""
    said = run.parent / "last-words"
    said.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNING_TERMINATION_LOG", str(said))
        code = main(["--model-path", str(run), *arguments])
    return code, PublishResult.model_validate_json(said.read_text())


def refused(run: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line about a command line that is wrong."""
    code, _ = publish(run, *arguments)
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def store(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The server's objects as a client sees them; the environment names the server."""
    server.post("/moto-api/reset")
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(name, value)
    client = server.client()
    client.create_dir("models")
    yield client
    server.post("/moto-api/reset-auth", b"1000000")
