import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuning.artifacts.files import write_json
from finetuning.artifacts.history import HistoryLine, LineWriter, PerformanceLine, SampleLine
from finetuning.artifacts.manifest import seal, sha256_of

STEPS = 2000
Make = Callable[..., Path]


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Output folders as trainer, runner and validator leave them; each figure a known function."""

    def make(name: str = "demo", steps: int = STEPS, *, done: bool = True) -> Path:
        folder = tmp_path_factory.mktemp("runs") / name
        folder.mkdir()
        write_histories(folder, steps)
        phase = "Succeeded" if done else "Running"
        write_json(folder / "status.json", {"phase": phase, "totalSteps": STEPS})
        if done:
            describe(folder)
        return folder

    return make


def write_histories(folder: Path, steps: int) -> None:
    noise = random.Random(1)
    losses = LineWriter.open(folder / "loss_history.jsonl", 0, HistoryLine)
    speeds = LineWriter.open(folder / "performance_history.jsonl", 0, PerformanceLine)
    for step in range(1, steps + 1):
        loss = 4 * math.exp(-step / 300) + 0.5 + noise.uniform(-0.1, 0.1)
        line = HistoryLine(step=step, epoch=1, loss=loss, learning_rate=1e-4, tokens=512)
        held = loss + 0.3 if step % 200 == 0 else None
        losses.append(line.model_copy(update={"grad_norm": loss / 2, "eval_loss": held}))
        if step % 10 == 0:
            speeds.append(
                PerformanceLine(
                    step=step,
                    seconds=step / 4,
                    tokens_per_second=20_480 + noise.uniform(-99, 99),
                    samples_per_second=16,
                    host_memory_bytes=3 * 10**9,
                    gpu_memory_bytes=42 * 10**9,
                )
            )
    losses.close()
    speeds.close()
    write_answers(folder, steps)


def write_answers(folder: Path, steps: int) -> None:
    answers = LineWriter.open(folder / "samples.jsonl", 0, SampleLine)
    for step in range(200, steps + 1, 200):
        for number, expected in enumerate(("Rosa.", "In Lima."), start=1):
            answers.append(
                SampleLine(
                    step=step,
                    number=number,
                    prompt=f"Question {number}?",
                    expected=expected,
                    answer=f"answer of step {step}",
                    cut=step < 1000,
                )
            )
    answers.close()


def describe(folder: Path) -> None:
    info: dict[str, Any] = {
        "model_id": "org/base-7b",
        "job_name": folder.name,
        "method": "lora",
        "training_config": {"learning_rate": 1e-4, "target_modules": ["q_proj", "v_proj"]},
        "dataset": {"path": "/workspace/data/train.jsonl", "rows": 12000, "eval_examples": 600},
        "results": {
            "final_loss": 0.5012,
            "train_runtime": 500.0,
            "train_tokens_per_second": 2050.4,
            "total_steps": STEPS,
            "tokens_total": 1_024_000,
        },
        "environment": {"device": "AMD Instinct MI300X", "torch": "2.9.0"},
        "started_at": 2e9,
        "finished_at": 2e9 + 600,
    }
    write_json(folder / "training_info.json", info)
    report = {"source": "train.jsonl", "unit": "line", "rows": 12600, "bad_rows": 0,
              "duplicate_rows": 2, "tokens": 900, "trained_tokens": 300}  # fmt: skip
    write_json(folder / "data_report.json", report)
    write_json(folder / "aim_profile.json", {"model_id": "org/base-7b-finetuned", "memory_gb": 18})
    (folder / "adapter_model.safetensors").write_bytes(b"x" * 3_000_000)
    seal(folder, [path.name for path in folder.iterdir() if path.name != "status.json"])
    (folder / "validation").mkdir()
    write_json(folder / "validation" / "validation_report.json", verdict(folder))


def verdict(folder: Path) -> dict[str, Any]:
    answers = {
        "prompt": "Who is the captain?",
        "answer": "Aye! The captain\nis Rosa.",
        "baseAnswer": "I do not know.",
        "expectedKeywords": ["Rosa", "Aye"],
    }
    checks = [
        {"name": "training_loss", "result": "Pass", "score": 0.5012, "message": "Loss: 0.5012"},
        {
            "name": "model_output",
            "result": "Fail",
            "reason": "KeywordsMissing",
            "message": "no Rosa",
            "details": {"answers": [answers]},
        },
        {"name": "aim_profile", "result": "Skip", "required": False},
    ]
    digest = sha256_of(folder / "manifest.json")
    return {"kind": "validation", "checks": checks, "manifestSha256": digest}


@pytest.fixture(scope="session")
def finished(make_run: Make) -> Path:
    return make_run("finished-run")


def hostile_text(marker: str) -> str:
    """Would run, load or break out wherever it is not plain text."""
    return (
        f"</style></title></script><script>document.title='{marker}'</script>"
        f"<img src=http://127.0.0.1:9/{marker} onerror=document.title='{marker}'>"
        f'" onload=\'x\' style="background:url(http://127.0.0.1:9/{marker})" javascript:x '
        "&lt;b&gt; \x00\x1b[31m \u202egnp.exe \ufeff"
    )


@pytest.fixture(scope="session")
def hostile(make_run: Make) -> Path:
    """A run whose every text is an attack, in files of the right form."""
    folder = make_run("hostile", 50)
    for name in ("training_info.json", "aim_profile.json", "validation/validation_report.json"):
        path = folder / name
        path.write_text(json.dumps(poisoned(json.loads(path.read_text()), name)))
    status = {"phase": "Failed", "reason": "x" * 128, "message": hostile_text("status")[:1024]}
    (folder / "status.json").write_text(json.dumps(status))
    manifest = {"files": {hostile_text("manifest"): {"size": 1, "sha256": "0" * 64}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    said = {name: hostile_text(name) for name in ("prompt", "expected", "answer")}
    (folder / "samples.jsonl").write_text(json.dumps({"step": 1, "number": 1, **said}) + "\n")
    return folder


_KEPT = {"kind", "name", "result", "checks", "details", "answers", "manifestSha256", "required"}
_SHORT = {"reason": 64, "message": 256}


def poisoned(value: Any, name: str) -> Any:
    """Every key and text replaced, but for those without which the file would not be read."""
    if isinstance(value, dict):
        return {
            key: item if key in _KEPT and isinstance(item, str | bool) else poisoned(item, key)
            for key, item in value.items()
        } | ({} if name in {"checks", "answers"} else {hostile_text("key"): hostile_text("value")})
    if isinstance(value, list):
        return [poisoned(item, name) for item in value]
    if isinstance(value, str):
        return hostile_text(name)[: _SHORT.get(name, 5000)]
    return value
