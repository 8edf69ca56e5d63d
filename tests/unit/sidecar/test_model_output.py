"""model_output: what is planned before a model is loaded, and how its process may end."""

import json
import shutil
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.unit.sidecar.judging import RunOf, edit, subject_of

from finetuning.artifacts.models import CheckResult
from finetuning.artifacts.reference import VERSION
from finetuning.monitoring.validators.checks import model_output
from finetuning.monitoring.validators.checks.probe import Answer, ProbeReport, ProbeRequest
from finetuning.monitoring.validators.outcome import Finding
from finetuning.monitoring.validators.settings import (
    DEFAULT_PROMPT,
    ValidationSettings,
)
from finetuning.monitoring.validators.subject import subject


@pytest.mark.parametrize(
    ("code", "out", "err", "reason"),
    [
        (-signal.SIGKILL, "", "", "OutOfMemory"),
        (-signal.SIGSEGV, "", "last words\n", "MachineFailed"),
        (1, "", "Traceback\nRuntimeError: no kernel\n", "ModelCrashed"),
        (0, "not json", "", "ModelCrashed"),
    ],
)
def test_a_process_that_dies_leaves_a_reason(code: int, out: str, err: str, reason: str) -> None:
    found = model_output.read_answer(subprocess.CompletedProcess([], code, out, err))
    assert isinstance(found, Finding)
    assert found.reason == reason
    assert found.result is (CheckResult.ERROR if code < 0 else CheckResult.FAIL)
    assert (err.splitlines() or [""])[-1] in found.message


def planned(output: Path, **settings: Any) -> ProbeRequest:
    request = model_output.plan(subject_of(output, **settings))
    assert isinstance(request, ProbeRequest), request
    return request


def test_the_base_that_the_run_recorded_is_taken(run_of: RunOf, models: Path) -> None:
    request = planned(run_of("lora"))
    assert request.is_adapter
    assert request.base == str(models / "base")
    assert request.prompts == [DEFAULT_PROMPT]


def test_a_base_that_the_operator_names_is_the_only_one(run_of: RunOf, models: Path) -> None:
    output = run_of("lora")
    assert planned(output, model_id=str(models / "full")).base == str(models / "full")
    assert planned(output, model_id="org/another").base == "org/another"
    assert planned(output, model_id="./from/elsewhere").base == str(models / "base")


def test_a_base_within_the_result_is_not_taken(run_of: RunOf, models: Path) -> None:
    output = run_of("full")
    shutil.copytree(models / "full", output / "base")
    info = json.loads((output / "training_info.json").read_text())
    info["training_config"]["model_id"] = info["model_id"] = str(output / "base")
    edit(output / "training_info.json", **info)
    assert planned(output).base is None


@pytest.mark.parametrize("link", ["tokenizer.json", "adapter_model.safetensors"])
def test_no_link_is_followed(run_of: RunOf, tmp_path: Path, link: str) -> None:
    output = run_of("lora")
    (output / link).rename(tmp_path / link)
    (output / link).symlink_to(tmp_path / link)
    found = model_output.plan(subject_of(output))
    assert isinstance(found, Finding)
    assert (found.reason, link in found.message) == ("NotAFile", True)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_the_base_models_weights_in_another_type_are_still_the_base_models(
    run_of: RunOf, models: Path, kind: type
) -> None:
    output = run_of("full")
    weights = load_file(models / "base" / "model.safetensors")
    save_file({k: v.astype(kind) for k, v in weights.items()}, output / "model.safetensors")
    found = model_output.plan(subject_of(output))
    assert isinstance(found, Finding)
    assert found.reason == "SameAsBase"
    weights["model.norm.weight"][-1] += 0.01
    save_file({k: v.astype(kind) for k, v in weights.items()}, output / "model.safetensors")
    assert planned(output).base == str(models / "base")


def test_the_base_that_is_named_outweighs_the_recorded_one(run_of: RunOf, models: Path) -> None:
    assert planned(run_of("lora"), base_model_path=str(models / "full")).base == str(
        models / "full"
    )


def test_a_full_model_is_compared_where_its_base_can_be_had(
    run_of: RunOf, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants  # noqa: PLC0415 - takes seconds

    output = run_of("full")
    assert planned(output).base == str(models / "base")
    edit(output / "training_info.json", training_config={"model_id": "org/base"})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert planned(output).base is None
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as hub:  # It answers: 501.
        threading.Thread(target=hub.handle_request, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        request = planned(output)
    assert (request.base, request.base_is_local) == ("org/base", False)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_base_of_the_hub_is_taken_from_its_cache(
    kind: str, run_of: RunOf, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There its files can be looked at as well, and no network is needed."""
    from huggingface_hub import constants  # noqa: PLC0415 - takes seconds

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    kept = tmp_path / "hub" / "models--org--base"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("a" * 40)
    snapshot = kept / "snapshots" / ("a" * 40)
    shutil.copytree(models / "base", snapshot)
    output = run_of(kind)
    edit(output / "training_info.json", training_config={"model_id": "org/base"})
    if kind == "lora":
        edit(output / "adapter_config.json", base_model_name_or_path="org/base")
    assert (planned(output).base, planned(output).base_is_local) == (str(snapshot), True)
    (snapshot / "model.safetensors").unlink()  # A copy that was never finished.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert planned(output).base == ("org/base" if kind == "lora" else None)


def test_a_full_model_is_judged_where_the_hub_does_not_give_its_base(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = run_of("full")
    edit(output / "training_info.json", training_config={"model_id": "org/base"})
    for name, value in {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    found = model_output.check(subject_of(output))
    assert found.passed, found.message
    assert "NotCompared" in [warning.reason for warning in found.warnings]


def test_the_folder_that_a_named_base_was_loaded_from_is_asked_before_the_hub(
    run_of: RunOf, models: Path
) -> None:
    output = run_of("lora")
    named = {"model_id": "org/base", "training_config": {"model_id": "org/base"}}
    edit(output / "training_info.json", **named, base_model_path=str(models / "base"))
    edit(output / "adapter_config.json", base_model_name_or_path="org/base")
    request = planned(output)
    assert (request.base, request.base_is_local) == (str(models / "base"), True)
    # Gone, it leaves the name; and it never outweighs what the operator says.
    edit(output / "training_info.json", base_model_path="/nowhere/base")
    assert planned(output).base == "org/base"
    edit(output / "training_info.json", base_model_path=str(models / "full"))
    assert planned(output, model_id="org/base").base == "org/base"


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_base_from_the_hub_is_fetched_unless_that_is_forbidden(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, offline: str
) -> None:
    output = run_of("lora")
    config = {"model_id": "org/base", "revision": "v2"}
    edit(output / "training_info.json", training_config=config)
    edit(output / "adapter_config.json", base_model_name_or_path="org/base")
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    request = planned(output)
    assert (request.base, request.revision) == ("org/base", "v2")
    assert request.base_is_local == (offline == "1")


@pytest.mark.parametrize("name", ["/nowhere/base", "./base"])
def test_a_base_that_is_gone_is_an_error_with_the_remedy(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    output = run_of("lora")
    edit(output / "training_info.json", model_id=name, training_config={"model_id": name})
    edit(output / "adapter_config.json", base_model_name_or_path=name)
    found = model_output.plan(subject_of(output))
    assert isinstance(found, Finding)
    assert (found.reason, found.result) == ("BaseModelMissing", CheckResult.ERROR)
    assert name in found.message
    assert "--base-model" in found.message


def test_a_named_base_without_a_model_is_an_error(run_of: RunOf, tmp_path: Path) -> None:
    found = model_output.plan(subject_of(run_of("lora"), base_model_path=str(tmp_path)))
    assert isinstance(found, Finding)
    assert found.reason == "BaseModelMissing"


def test_pickled_weights_are_not_taken(run_of: RunOf) -> None:
    output = run_of("lora")
    (output / "adapter_model.safetensors").rename(output / "adapter_model.bin")
    found = model_output.plan(subject_of(output))
    assert isinstance(found, Finding)
    assert found.reason == "ModelMissing"


def test_an_adapter_of_zeros_is_told_without_loading_it(run_of: RunOf) -> None:
    found = model_output.plan(subject_of(run_of("untrained")))
    assert isinstance(found, Finding)
    assert (found.reason, found.result) == ("AdapterUntrained", CheckResult.FAIL)
    assert "9 layers" in found.message


def test_a_folder_without_a_model_fails(tmp_path: Path) -> None:
    found = model_output.check(subject({"results": {}}, tmp_path, None, None, ValidationSettings()))
    assert (found.result, found.reason) == (CheckResult.FAIL, "ModelMissing")


def test_a_model_that_takes_too_long_is_an_error(run_of: RunOf) -> None:
    found = model_output.run(planned(run_of("lora")), timeout=0.01)
    assert isinstance(found, Finding)
    assert (found.reason, found.result) == ("TimedOut", CheckResult.ERROR)


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ({"shape": "texts", "tokens": 100, "trained_tokens": 60}, ""),
        ({"shape": "conversations", "tokens": 100, "trained_tokens": 97}, "AnswerLoops"),
        ({"shape": "completions", "tokens": 100, "trained_tokens": 97}, "AnswerLoops"),
        ({"tokens": 100, "trained_tokens": 97}, ""),
        ({"tokens": 100, "trained_tokens": 90}, "AnswerLoops"),
    ],
)
def test_only_of_plain_texts_an_answer_may_go_on(
    report: dict[str, Any], reason: str, run_of: RunOf
) -> None:
    """Of long answers that are cut nearly all is trained, too."""
    output = run_of("lora")
    reference = {"texts": VERSION, "losses": "1.0 2.0 3.0"}
    edit(output / "training_info.json", reference=reference, results={})
    found = {"source": "d", "unit": "row", "rows": 9, "bad_rows": 0, "duplicate_rows": 0, **report}
    (output / "data_report.json").write_text(json.dumps(found))
    line = {"epoch": 0.1, "learning_rate": 1e-3, "tokens": 9}
    falling = [{**line, "step": n, "loss": 3 - n / 30} for n in range(1, 61)]
    (output / "loss_history.jsonl").write_text("\n".join(map(json.dumps, falling)))
    told = ProbeReport(
        answers=[Answer(text="so so so", tokens=[1, 2] * 20, finite=True, stopped=False)],
        largest_logit_difference=3.0,
        reference=[1.0, 2.0, 3.0],
    )
    verdict = model_output.judged(told, planned(output), subject_of(output))
    assert verdict.reason == reason, verdict.message
