"""A real run beside its metrics server, scraped by a real Prometheus, held against own counting."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hack import prometheus as ask
from tests.agreement import AT_AN_END, WITHOUT_A_GPU, disagreements, misnamed
from tests.ports import free_port
from tests.unit.observability.prometheus_process import prometheus, until
from tests.unit.trainer.conftest import write_rows
from tests.unit.trainer.warm import WarmTrainer, wait_until

# The first test that needs Prometheus may have to build it.
pytestmark = [pytest.mark.training, pytest.mark.timeout(1200)]

SECONDS = 12.0
"""Long enough for a late look at either end to be less than the 2 % that are asked for."""
TEXTS = [{"text": " ".join(["word", "another", "longest"][: 1 + n % 3] * 9)} for n in range(24)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """The sidecar's process for the run in `out`, and its port."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "finetuning.monitoring.metrics_server", "--port", port),
        *("--job-name", "watched", "--model-id", "org/tiny", "--method", "lora", "--linger", 60),
        *("--training-info", tmp_path / "out" / "training_info.json"),
    ]
    with subprocess.Popen([str(word) for word in command]) as process:
        yield process, port
        process.kill()


@pytest.fixture
def url(tmp_path: Path, server: tuple[Any, int]) -> Iterator[str]:
    folder = tmp_path / "prometheus"
    folder.mkdir()
    targets = [{"targets": [f"127.0.0.1:{server[1]}"]}]
    with prometheus(folder, [{"job_name": "jobs", "static_configs": targets}]) as found:
        yield found


@pytest.fixture
def run(warm: WarmTrainer, tiny_model: Path, tmp_path: Path) -> tuple[WarmTrainer, list[object]]:
    """The trainer, and the arguments of a run of two rows a step that never ends by itself."""
    rows = write_rows(tmp_path / "rows.jsonl", TEXTS)
    output = tmp_path / "out"
    return warm, [
        *("--model-id", tiny_model, "--dataset-path", rows, "--output-dir", output, "--no-fp16"),
        *("--max-steps", 1_000_000, "--save-steps", 1_000_000, "--batch-size", 2),
    ]


def samples(url: str, metric: str) -> dict[float, float]:
    """Every sample of the one series, by the time of its scrape."""
    (series,) = ask.instant(url, f'{metric}{{job_name="watched"}}[10m]')
    return {when: float(value) for when, value in series["values"]}


def lines(output: Path) -> list[dict[str, Any]]:
    text = (output / "loss_history.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def watched(output: Path, steps: int, seconds: float) -> dict[int, float]:
    """When each step was first seen in the history, by the clock of this process."""
    history = output / "loss_history.jsonl"
    wait_until(history.exists, "the first step")
    seen, end = dict[int, float](), time.monotonic() + seconds
    while time.monotonic() < end or len(seen) < steps:
        seen.setdefault(history.read_bytes().count(b"\n"), time.time())
        time.sleep(0.005)
    return seen


@pytest.mark.long
def test_a_runs_speed_is_right_and_its_death_is_seen(
    run: tuple[WarmTrainer, list[object]],
    server: tuple["subprocess.Popen[bytes]", int],
    url: str,
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    warm, command = run
    child = warm.start(*command)
    seen = watched(tmp_path / "out", len(TEXTS), SECONDS)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL

    tokens, steps, times = (
        samples(url, f"finetuning_{name}")
        for name in ("tokens_total", "training_step", "last_update_timestamp_seconds")
    )
    # A scrape may come between two of the questions: the first answer lacks it then.
    asked = sorted(tokens.keys() & steps.keys() & times.keys())
    (first, *_, last) = (scrape for scrape in asked if steps[scrape] in seen and steps[scrape])
    by_prometheus = (tokens[last] - tokens[first]) / (times[last] - times[first])
    history = lines(tmp_path / "out")
    in_an_epoch = sum(line["tokens"] for line in history[: len(TEXTS) // 2])
    assert in_an_epoch == sum(len(tokenizer(row["text"]).input_ids) + 1 for row in TEXTS)
    between = history[int(steps[first]) : int(steps[last])]
    took = seen[int(steps[last])] - seen[int(steps[first])]
    assert took > SECONDS / 2
    by_hand = sum(line["tokens"] for line in between) / took
    assert by_prometheus == pytest.approx(by_hand, rel=0.02)

    server[0].send_signal(signal.SIGTERM)  # As kubelet does once the trainer has ended.
    assert until(lambda: server[0].poll() is not None)
    assert server[0].returncode == 0
    assert samples(url, "finetuning_job_status").popitem()[1] == 3


def test_the_last_samples_of_a_run_are_what_its_result_says(
    run: tuple[WarmTrainer, list[object]],
    server: tuple["subprocess.Popen[bytes]", int],
    url: str,
    tmp_path: Path,
) -> None:
    warm, command = run
    ends = ("--max-steps", 40, "--save-steps", 16, "--eval-split", 0.25, "--eval-steps", 8)
    assert warm.start(*command, *ends).wait() == 0
    assert until(lambda: ask.instant(url, 'finetuning_job_status{job_name="watched"} == 2'))
    info = json.loads((tmp_path / "out" / "training_info.json").read_text(encoding="utf-8"))
    assert info["results"]["checkpoints_total"] == 3
    assert info["results"]["eval_loss"] > 0
    assert disagreements(url, "watched", info) == []
    assert misnamed(url, "watched", missing=WITHOUT_A_GPU | AT_AN_END) == []
    # A figure that is a little off is found.
    info["results"]["tokens_total"] += 1
    assert len(disagreements(url, "watched", info)) == 1
    server[0].kill()
