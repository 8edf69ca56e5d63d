import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks import aim_profile
from finetuning.monitoring.validators.outcome import CheckOutcome
from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import subject

GOOD = {
    "model_id": "org/base-finetuned",
    "base_model_id": "org/base",
    "fine_tuning_method": "lora",
    "precision": "bf16",
    "memory_gb": 17.5,
    "recommended_partition_gb": 22,
}
INFO = {"model_id": "org/base", "method": "lora", "results": {}}
ABSENT = object()


def gpus(count: int, **arguments: int) -> dict[str, Any]:
    return {"metadata": {"gpu_count": count}, "engine_args": arguments}


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., CheckOutcome]:
    def run(profile: Any, settings: ValidationSettings | None = None) -> CheckOutcome:
        path = tmp_path / "aim_profile.json"
        path.write_text(profile if isinstance(profile, str) else json.dumps(profile))
        found = subject(INFO, tmp_path, None, path, settings or ValidationSettings())
        return aim_profile.check(found)

    return run


def changed(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in (GOOD | fields).items() if value is not ABSENT}


def test_a_good_profile_passes(judge: Callable[..., CheckOutcome]) -> None:
    found = judge(GOOD)
    assert found.passed
    assert found.message == "AIM profile is valid"
    assert found.score is None


@pytest.mark.parametrize("name", ["precision", "recommended_partition_gb"])
def test_optional_fields_may_be_absent(judge: Callable[..., CheckOutcome], name: str) -> None:
    assert judge(changed(**{name: ABSENT})).passed


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        ({"memory_gb": ABSENT}, "FieldMissing", "memory_gb"),
        ({"model_id": ABSENT, "base_model_id": ABSENT}, "FieldMissing", "model_id, base_model_id"),
        ({"model_id": 7}, "WrongType", "model_id"),
        ({"fine_tuning_method": "  "}, "WrongType", "fine_tuning_method"),
        ({"memory_gb": 0}, "MemoryInvalid", "memory_gb is 0"),
        ({"memory_gb": -3.5}, "MemoryInvalid", "-3.5"),
        ({"memory_gb": "16"}, "MemoryInvalid", "'16'"),
        ({"memory_gb": True}, "MemoryInvalid", "True"),
        ({"memory_gb": None}, "MemoryInvalid", "None"),
        ({"memory_gb": float("nan")}, "MemoryInvalid", "nan"),
        ({"memory_gb": float("inf")}, "MemoryInvalid", "inf"),
        ({"recommended_partition_gb": 5}, "MemoryInvalid", "below"),
        ({"recommended_partition_gb": "5"}, "MemoryInvalid", "'5'"),
        ({"precision": "bfp16"}, "PrecisionUnknown", "bfp16"),
        ({"precision": ["fp16"]}, "PrecisionUnknown", "fp16"),
        ({"base_model_id": "org/other"}, "RunMismatch", "org/other"),
        ({"fine_tuning_method": "full"}, "RunMismatch", "full"),
        ({"note": float("nan")}, "WrongType", "note is nan, which is no number in JSON"),
        ({"x": {"y": [1, {"z": float("inf")}]}}, "WrongType", "x.y[1].z is inf"),
        ({"engine_args": {"model": "org/other"}}, "RunMismatch", "or give 'org/base-finetuned'"),
        ({"engine_args": {"--max_model_len": 10**9}}, "ContextImplausible", "max-model-len"),
        (gpus(1, tensor_parallel_size=8), "GpusMismatch", "over 8 GPUs, metadata.gpu_count is 1"),
        (gpus(8, **{"tensor-parallel-size": 4, "pipeline-parallel-size": 4}), "GpusMismatch", "16"),
        (gpus(8, **{"tensor-parallel-size": 3}), "GpusMismatch", "over 3 GPUs"),
    ],
)
def test_a_bad_profile_fails_for_its_reason(
    judge: Callable[..., CheckOutcome], fields: dict[str, Any], reason: str, words: str
) -> None:
    found = judge(changed(**fields))
    assert (found.result, found.reason) == (CheckResult.FAIL, reason)
    assert words in found.message


@pytest.mark.parametrize("text", ["", "[]", "{", '"profile"', "null"])
def test_what_is_no_profile_fails(judge: Callable[..., CheckOutcome], text: str) -> None:
    assert judge(text).reason == "ProfileUnreadable"


def test_a_missing_profile_fails() -> None:
    found = aim_profile.check(subject(INFO, None, None, None, ValidationSettings()))
    assert found.reason == "ProfileMissing"


def test_the_clusters_word_on_model_and_method_outweighs_training_info(
    judge: Callable[..., CheckOutcome],
) -> None:
    assert judge(GOOD, ValidationSettings(model_id="org/base", method="lora")).passed
    assert judge(GOOD, ValidationSettings(model_id="org/asked")).reason == "RunMismatch"
    assert judge(GOOD, ValidationSettings(method="qlora")).reason == "RunMismatch"


def test_a_folder_may_be_named_by_its_whole_path(
    judge: Callable[..., CheckOutcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the trainer names it, whatever was typed."""
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    settings = ValidationSettings(model_id="models/tiny")
    whole = str(tmp_path / "models" / "tiny")
    assert judge(changed(base_model_id=whole), settings).passed
    assert judge(changed(base_model_id="models/tiny"), settings).passed
    assert judge(changed(base_model_id=str(tmp_path)), settings).reason == "RunMismatch"


def test_the_context_of_a_base_model_of_links_is_known(
    judge: Callable[..., CheckOutcome], tmp_path: Path
) -> None:
    base, blobs = tmp_path / "base", tmp_path / "blobs"
    base.mkdir()
    blobs.mkdir()
    (blobs / "1").write_text(json.dumps({"max_position_embeddings": 128}))
    (base / "config.json").symlink_to(blobs / "1")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8}))
    settings = ValidationSettings(base_model_path=str(base))
    assert judge(changed(context_tokens=1024), settings).passed
    assert judge(changed(context_tokens=2048), settings).reason == "ContextImplausible"


def test_memory_below_the_weights_fails(judge: Callable[..., CheckOutcome], tmp_path: Path) -> None:
    save_file({"w": np.zeros(1 << 20, np.float32)}, tmp_path / "model.safetensors")
    tight = {"precision": "fp32", "recommended_partition_gb": 0.005}
    assert judge(changed(memory_gb=0.001, **tight)).reason == "MemoryInvalid"
    assert judge(changed(memory_gb=0.005, **tight)).passed
    halved = {"precision": "int8", "recommended_partition_gb": 0.005}
    assert judge(changed(memory_gb=0.001, **halved)).passed


@pytest.mark.parametrize(
    "fields",
    [
        {"engine_args": {"model": "org/base-finetuned", "max-model-len": 32768}},
        {"engine_args": {"model": "org/base"}},  # An adapter is given beside its base model.
        {"engine_args": {"model": "/workspace/model"}},
        {"engine_args": {"model": "s3://models/elsewhere"}},
        {"base_model_id": "/models/Llama-3.1-8B", "engine_args": {"model": "org/llama-3.1-8b-it"}},
        gpus(8, **{"tensor-parallel-size": 8}),
        gpus(8, **{"tensor-parallel-size": 2, "data-parallel-size": 4}),
        gpus(8, **{"tensor-parallel-size": 4}),
        gpus(8),
        {"engine_args": {"tensor-parallel-size": 8}},
    ],
)
def test_what_a_server_may_be_told(
    judge: Callable[..., CheckOutcome], fields: dict[str, Any], tmp_path: Path
) -> None:
    settings = ValidationSettings(model_id=fields.get("base_model_id", "org/base"))
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    found = judge(changed(**fields), settings)
    assert found.passed, found.message


def test_a_whole_model_is_not_served_as_its_base(
    judge: Callable[..., CheckOutcome],
) -> None:
    found = judge(changed(engine_args={"model": "org/base"}))
    assert found.reason == "RunMismatch", found.message
    assert "the base model, untuned" in found.message


def test_a_context_of_the_server_is_held_against_the_models_positions(
    judge: Callable[..., CheckOutcome], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 1024}))
    assert judge(changed(engine_args={"max-model-len": 8192})).passed
    found = judge(changed(engine_args={"max-model-len": 8193}))
    assert found.reason == "ContextImplausible", found.message


OF_THE_TRAINER = {"lora_alpha": 32, "target_modules": ["all-linear"]}


@pytest.mark.parametrize(
    ("method", "lora", "words"),
    [
        ("lora", {"r": 8, **OF_THE_TRAINER}, ""),
        ("lora", None, "lora_config is 'absent', the run was of 'lora'"),
        ("lora", {}, "lora_config is 'absent'"),
        ("lora", {"r": 8, "lora_alpha": 32}, "lora_config.target_modules is None"),
        ("lora", {**OF_THE_TRAINER, "target_modules": ["gate_proj"]}, "target_modules is ['gate"),
        ("full", None, ""),
        ("full", {"r": 8, **OF_THE_TRAINER}, "lora_config is 'there', the run was of 'full'"),
    ],
)
def test_the_trainers_own_profile_has_the_adapters_settings(
    method: str, lora: dict[str, Any] | None, words: str, tmp_path: Path
) -> None:
    info = {**INFO, "method": method, "environment": {"device": "x"}}
    if method == "lora":
        info["training_config"] = OF_THE_TRAINER
    path = tmp_path / "aim_profile.json"
    path.write_text(json.dumps(changed(fine_tuning_method=method, lora_config=lora or ABSENT)))
    judged = subject(info, tmp_path, None, path, ValidationSettings())
    found = aim_profile.check(judged)
    assert (found.reason, words in found.message) == ("RunMismatch" if words else "", True)
