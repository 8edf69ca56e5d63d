"""`--enable-metrics`: the figures rise while the trainer works."""

import json
import re
import shutil
import signal
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from tests.ports import free_port
from tests.unit.trainer.warm import WarmTrainer, wait_until

from finetuning.artifacts.manifest import seal
from finetuning.monitoring.collector import Identity, SnapshotCollector
from finetuning.monitoring.metrics import FineTuningMetricsExporter
from finetuning.monitoring.source import Snapshot

pytestmark = pytest.mark.training


def scrape(port: int) -> dict[str, float]:
    """The samples by their name; nothing while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            text = response.read().decode()
    except OSError:
        return {}
    return {name: float(value) for name, value in re.findall(r"(?m)^(\w+)(?:{.*})? (\S+)$", text)}


def values(snapshot: Snapshot) -> dict[str, float]:
    """What a scrape would give of it, and what the trainer does."""
    text = generate_latest(SnapshotCollector(snapshot, Identity())).decode()
    found = {name: float(value) for name, value in re.findall(r"(?m)^(\w+)(?:{.*})? (\S+)$", text)}
    doing = re.findall(r'(?m)^finetuning_training_state{.*state="(\w+)"} 1.0$', text)
    return found | dict.fromkeys(doing, 1.0)


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


COUNTS = ("tokens", "samples", "checkpoints", "nonfinite_loss", "checkpoint_size_bytes_count")


def counts(series: dict[str, float]) -> dict[str, float]:
    """Those that are there, and the step."""
    names = {f"finetuning_{name}{'' if '_count' in name else '_total'}" for name in COUNTS}
    return {name: series[name] for name in ("finetuning_training_step", *names) if name in series}


def remember_a_bad_step(checkpoint: Path) -> None:
    """As if it had been in a step of that run, with the seal that it then had."""
    path = checkpoint / "trainer_state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"nonfinite_losses": 1}))
    names = json.loads((checkpoint / "manifest.json").read_text())["files"]
    seal(checkpoint, names)


@pytest.mark.parametrize("pod", ["new", "same"])
def test_no_figure_falls_back_and_rises_again_while_a_run_resumes(
    pod: str, tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    """A new pod has an empty state folder, a run on one machine that of the process before."""
    states = tmp_path / "state"
    command = (
        *("--model-id", tiny_model, "--dataset-path", rows_file, "--output-dir", tmp_path / "out"),
        *("--max-steps", 100_000, "--save-steps", 3, "--state-dir", states, "--no-fp16"),
    )

    def seen() -> dict[str, float]:
        return values(exporter.snapshot())

    exporter = FineTuningMetricsExporter(state_dir=states)
    child = warm.start(*command)
    wait_until(lambda: seen().get("finetuning_checkpoints_total", 0) >= 1, "a checkpoint")
    assert child.kill(signal.SIGTERM) == 143
    step = int(seen()["finetuning_training_step"])
    remember_a_bad_step(tmp_path / "out" / "checkpoints" / f"checkpoint-{step}")
    before = counts(seen()) | {"finetuning_nonfinite_loss_total": 1.0}
    assert len(before) == len(COUNTS) + 1

    if pod == "new":
        shutil.rmtree(states)
        exporter = FineTuningMetricsExporter(state_dir=states)
    child = warm.start(*command)
    scrapes: list[dict[str, float]] = []

    def trained() -> bool:
        scrapes.append(seen())
        return scrapes[-1].get("finetuning_training_step", 0) > step

    wait_until(trained, "a step after the resume")
    child.kill(signal.SIGKILL)
    loading = [each for each in scrapes if each.get("starting")]
    assert [each for each in loading if counts(each) not in ({}, before)] == []
    assert [each for each in loading if counts(each) == before] != []
    if pod == "new":
        assert counts(scrapes[0]) == {}
        lowest = [min(each[name] for each in scrapes if name in each) for name in before]
        assert lowest == list(before.values())
    assert all(each["finetuning_nonfinite_loss_total"] == 1 for each in scrapes[-3:])


def test_the_last_scrape_agrees_with_the_runs_own_files(
    tiny_model: Path, rows_file: Path, tmp_path: Path, warm: WarmTrainer
) -> None:
    """What Prometheus keeps is what was computed: summed up here from the history."""
    output = tmp_path / "out"
    began = time.time()
    code, log = warm.run(
        *("--model-id", tiny_model, "--dataset-path", rows_file, "--output-dir", output),
        *("--epochs", 3, "--eval-split", 0.2, "--batch-size", 2, "--no-fp16"),
    )
    assert code == 0, log
    port = free_port()
    exporter = FineTuningMetricsExporter(port=port, state_dir=output / "state")
    exporter.start_server()
    try:
        last = scrape(port)
    finally:
        exporter.stop_server()
    results = json.loads((output / "training_info.json").read_text(encoding="utf-8"))["results"]
    text = (output / "loss_history.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    tokens = sum(line["tokens"] for line in lines)
    assert last["finetuning_job_status"] == 2
    assert last["finetuning_training_progress"] == 100
    assert last["finetuning_training_step"] == len(lines) == results["global_step"]
    assert last["finetuning_tokens_total"] == tokens == results["tokens_total"]
    assert last["finetuning_samples_total"] == 3 * 16 == results["samples_total"]
    assert last["finetuning_train_loss"] == pytest.approx(lines[-1]["loss"])
    assert last["finetuning_learning_rate"] == pytest.approx(lines[-1]["learning_rate"])
    assert last["finetuning_grad_norm"] == pytest.approx(lines[-1]["grad_norm"])
    assert last["finetuning_eval_loss"] == pytest.approx(lines[-1]["eval_loss"])
    by_hand = tokens / results["train_runtime"]
    assert results["train_tokens_per_second"] == pytest.approx(by_hand, rel=0.02)
    took = last["finetuning_job_duration_seconds_sum"]
    info = json.loads((output / "training_info.json").read_text(encoding="utf-8"))
    assert info["finished_at"] - info["started_at"] <= took <= time.time() - began
