"""`--enable-metrics`: the figures rise while the trainer works."""

import re
import signal
import socket
import urllib.request
from pathlib import Path

import pytest
from tests.unit.trainer.warm import WarmTrainer, wait_until

pytestmark = pytest.mark.training


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def scrape(port: int) -> dict[str, float]:
    """The samples by their name; nothing while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            text = response.read().decode()
    except OSError:
        return {}
    return {name: float(value) for name, value in re.findall(r"(?m)^(\w+)(?:{.*})? (\S+)$", text)}


def test_metrics_rise_while_the_trainer_works(
    tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    port = free_port()
    child = warm.start(
        *("--model-id", tiny_model, "--dataset-path", rows_file, "--output-dir", tmp_path / "out"),
        *("--max-steps", 100_000, "--enable-metrics", "--metrics-port", port),
    )
    wait_until(lambda: scrape(port).get("finetuning_training_step", 0) > 2, "the third step")
    first = scrape(port)
    assert first["finetuning_job_status"] == 1
    assert first["finetuning_train_loss"] > 0
    assert first["finetuning_tokens_per_second"] > 0
    assert 0 < first["finetuning_training_progress"] < 100
    step = first["finetuning_training_step"]
    wait_until(lambda: scrape(port)["finetuning_training_step"] > step, "a later step")
    assert child.kill(signal.SIGTERM) == 143
    assert scrape(port) == {}
