import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from finetuning.artifacts.manifest import seal
from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks import checkpoint_integrity
from finetuning.monitoring.validators.outcome import CheckOutcome
from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import subject

RunOf = Callable[[str], Path]
Reseal = Callable[[Path], None]


def judge(output: Path, checkpoints: Path | str | None = None) -> CheckOutcome:
    info: dict[str, Any] = {"results": {}}
    return checkpoint_integrity.check(
        subject(info, output, checkpoints, None, ValidationSettings())
    )


@pytest.mark.parametrize("kind", ["lora", "full", "sharded"])
def test_what_the_libraries_write_passes(run_of: RunOf, kind: str) -> None:
    found = judge(run_of(kind))
    assert found.passed, found.message
    assert found.message == "Checkpoint files are valid and complete"
    assert set(found.details) == {"checkpoint-20", "checkpoint-40", "result"}
    assert found.details["result"]["weightBytes"] > 0


def test_a_run_that_keeps_no_checkpoints_is_judged_by_its_result(run_of: RunOf) -> None:
    output = run_of("lora")
    shutil.rmtree(output / "checkpoints")
    found = judge(output)
    assert found.passed
    assert set(found.details) == {"result"}


def test_every_checkpoint_counts(run_of: RunOf) -> None:
    output = run_of("lora")
    (output / "checkpoints" / ".tmp-checkpoint-60").mkdir()
    assert judge(output).passed
    (output / "checkpoints" / "checkpoint-20" / "adapter_model.safetensors").unlink()
    found = judge(output)
    assert found.reason == "WeightsMissing"
    assert found.message.startswith("checkpoint-20: ")


def test_a_checkpoint_before_the_last_step_only_warns(run_of: RunOf) -> None:
    output = run_of("lora")
    shutil.rmtree(output / "checkpoints" / "checkpoint-40")
    info: dict[str, Any] = {"results": {"global_step": 40}}
    found = checkpoint_integrity.check(subject(info, output, None, None, ValidationSettings()))
    assert found.passed
    assert "CheckpointBehind" in [warning.reason for warning in found.warnings]


def test_of_this_trainers_run_a_last_checkpoint_is_expected(run_of: RunOf) -> None:
    output = run_of("lora")
    shutil.rmtree(output / "checkpoints")
    for environment, expected in (({"precision": "fp32"}, True), ({}, False)):
        info: dict[str, Any] = {"results": {"global_step": 40}, "environment": environment}
        found = checkpoint_integrity.check(subject(info, output, None, None, ValidationSettings()))
        assert found.passed, found.message
        told = "CheckpointBehind" in [warning.reason for warning in found.warnings]
        assert told is expected


@pytest.mark.parametrize(
    "case",
    [
        ({"sliding_window": 131072}, {"sliding_window": None}, False),
        ({"hidden_act": "gelu"}, {"hidden_act": "gelu_pytorch_tanh"}, False),
        ({"rope_theta": 1e6}, {"rope_parameters": {"rope_theta": 1e6}}, False),
        ({"rope_theta": 1e6}, {"rope_parameters": {"rope_theta": 1e4}}, True),
        ({"hidden_act": "silu"}, {"hidden_act": "gelu"}, True),
        ({"new_setting": 1}, {"new_setting": 2}, False),
    ],
)
def test_a_newer_library_may_write_the_same_settings_otherwise(
    run_of: RunOf, models: Path, reseal: Reseal, case: tuple[dict[str, Any], dict[str, Any], bool]
) -> None:
    """By what transformers 5 makes of the configurations of Qwen2 and Gemma."""
    before, after, blamed = case
    output = run_of("full")
    base = output.with_name("base")
    shutil.copytree(models / "base", base)
    shutil.rmtree(output / "checkpoints")
    for folder, fields in ((base, before), (output, after)):
        path = folder / "config.json"
        kept = {k: v for k, v in json.loads(path.read_text()).items() if k != "rope_parameters"}
        path.write_text(json.dumps(kept | fields))
    reseal(output)
    settings = ValidationSettings(base_model_path=str(base))
    found = checkpoint_integrity.check(subject({"results": {}}, output, None, None, settings))
    assert found.reason == ("ConfigMismatch" if blamed else "")


def test_what_cannot_be_read_of_the_base_model_is_not_compared(
    run_of: RunOf, models: Path, tmp_path: Path
) -> None:
    output, base = run_of("full"), tmp_path / "base"
    shutil.copytree(models / "base", base)
    (base / "tokenizer.json").write_text("{")
    settings = ValidationSettings(base_model_path=str(base))
    found = checkpoint_integrity.check(subject({"results": {}}, output, None, None, settings))
    assert found.passed, found.message


def test_whoever_types_a_path_may_name_a_link(run_of: RunOf, tmp_path: Path) -> None:
    output = run_of("lora")
    (tmp_path / "mine").symlink_to(output / "checkpoints")
    assert judge(output, tmp_path / "mine").passed


@pytest.mark.parametrize("name", ["sub/evil.pkl", "weights.dat"])
def test_a_pickle_warns_wherever_it_lies_and_whatever_its_name(run_of: RunOf, name: str) -> None:
    output = run_of("lora")
    (output / name).parent.mkdir(exist_ok=True)
    (output / name).write_bytes(b"\x80\x04K\x01.")
    shutil.rmtree(output / "checkpoints")
    (output / "manifest.json").unlink()
    seal(output, [str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()])
    found = judge(output)
    assert [w.message for w in found.warnings][:1] == [f"{name} may be a pickle"]


def test_one_checkpoint_can_be_named_itself(run_of: RunOf) -> None:
    output = run_of("lora")
    found = judge(output, output / "checkpoints" / "checkpoint-20")
    assert set(found.details) == {"checkpoint-20", "result"}


def test_folders_that_others_write_are_not_judged(run_of: RunOf) -> None:
    output = run_of("lora")
    for name in ("state", "tracking", "validation", "lost+found"):
        (output / name).mkdir()
        (output / name / "x.json").write_text("")
    (output / "tracking" / "latest-run").symlink_to("run-1")  # As W&B leaves it.
    assert judge(output).passed


def put(name: str, contents: bytes = b"") -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents)

    return spoil


def linked(name: str, target: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)

    return spoil


def naming_code(folder: Path) -> None:
    """Sealed with its configuration, so that only the module is one too many."""
    path = folder / "tokenizer_config.json"
    named = json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": "chat.Tokenizer"}}
    path.write_text(json.dumps(named))
    (folder / "manifest.json").unlink()
    seal(folder, [path.name for path in folder.iterdir() if path.is_file()])
    (folder / "chat.py").write_text("")


@pytest.mark.parametrize(
    "add",
    [
        put("._config.json", b"\0\5\x16\7"),
        put("._adapter_model.safetensors", b"\0\5\x16\7"),
        put("checkpoints/checkpoint-20/._adapter_model.safetensors", b"\0\5\x16\7"),
        put(".snapshot/hourly/adapter_config.json", b"{}"),
        linked(".snapshot/latest", "/nowhere"),
        put(".vscode/settings.json", b"{// not JSON"),
        put("params.json", b'{"note": "the third try"}'),
        put("onnx/config.json", b"{}"),
        put("onnx/model.safetensors", b"x"),
        put("eval/results.json", b"{// not JSON"),
        put("results/samples.jsonl"),
        put("chat.py", b"print()"),
        put("notes.json"),
        linked("checkpoints/latest", "checkpoint-40"),
        linked("tracking/wandb/latest-run", "run-1"),
    ],
)
def test_what_lies_beside_a_model_and_is_not_loaded_is_no_fault(
    run_of: RunOf, add: Callable[[Path], None]
) -> None:
    output = run_of("lora")
    add(output)
    found = judge(output, output / "checkpoints")
    assert found.passed, found.message


@pytest.mark.parametrize(
    ("add", "reason"),
    [
        (put("config.json", b"{}"), "FileNotListed"),
        (put("tekken.json", b"{}"), "FileNotListed"),
        (put("model.bin", b"x"), "FileNotListed"),
        (put("modeling_evil.py", b"x"), "FileNotListed"),
        (put("additional_chat_templates/tool_use.jinja", b"x"), "FileNotListed"),
        (put("custom_generate/generate.py", b"x"), "FileNotListed"),
        (put("checkpoints/checkpoint-20/model.safetensors", b"x"), "WeightsMalformed"),
        (naming_code, "FileNotListed"),
        (put(".adapter_config.json.x.tmp", b"x"), "WriteInterrupted"),
        (linked("latest", "checkpoints/checkpoint-40"), "NotAFile"),
        (linked("results/latest", "../tokenizer.json"), "NotAFile"),
        (linked("checkpoints/latest", "/etc"), "NotAFile"),
        (linked("checkpoints/latest", "../adapter_model.safetensors"), "NotAFile"),
        (linked("checkpoints/latest", "latest"), "NotAFile"),
        (linked("checkpoints/checkpoint-60", "checkpoint-40"), "NotAFile"),
        (linked("checkpoints/checkpoint-20/x", "trainer_state.json"), "NotAFile"),
    ],
)
def test_what_is_loaded_must_be_sealed_and_no_link(
    run_of: RunOf, add: Callable[[Path], None], reason: str
) -> None:
    output = run_of("lora")
    add(output)
    found = judge(output, output / "checkpoints")
    assert found.reason == reason, found.message


WEIGHTS = "adapter_model.safetensors"
SHARD = "model-00002-of-00003.safetensors"
INDEX = "model.safetensors.index.json"


def truncated(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-10])


def longer(folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"x")


def no_header(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\xff" * 4096)


def lfs_pointer(folder: Path) -> None:
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def empty_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def no_tensors(folder: Path) -> None:
    save_file({}, folder / WEIGHTS)


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def with_values(folder: Path, change: Callable[[np.ndarray[Any, Any]], None]) -> None:
    tensors = {name: value.copy() for name, value in load_file(folder / WEIGHTS).items()}
    change(next(iter(tensors.values())).reshape(-1))
    save_file(tensors, folder / WEIGHTS)


def with_nan(folder: Path) -> None:
    with_values(folder, lambda values: values.put(-1, np.nan))


def with_infinity(folder: Path) -> None:
    with_values(folder, lambda values: values.put(3, -np.inf))


def broken_config(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"r": 8,')


def listed_config(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("[]")


def no_config(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(b"\x80")


def leftover(folder: Path) -> None:
    (folder / ".training_info.json.abc.tmp").write_text("half")


def leftover_folder(folder: Path) -> None:
    (folder / ".tmp-result").mkdir()
    (folder / ".tmp-result" / "model.safetensors").write_text("half")


def link_out(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("/etc/hostname")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe.json")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncated, "WeightsMalformed"),
        (longer, "WeightsMalformed"),
        (no_header, "WeightsMalformed"),
        (no_tensors, "WeightsMalformed"),
        (lfs_pointer, "LfsPointer"),
        (empty_weights, "FileEmpty"),
        (pickled, "WeightsMissing"),
        (with_nan, "WeightsNotFinite"),
        (with_infinity, "WeightsNotFinite"),
        (broken_config, "JsonUnreadable"),
        (listed_config, "JsonUnreadable"),
        (no_config, "ConfigMissing"),
        (no_tokenizer, "TokenizerMissing"),
        (broken_tokenizer, "JsonUnreadable"),
        (leftover, "WriteInterrupted"),
        (leftover_folder, "WriteInterrupted"),
        (link_out, "NotAFile"),
        (pipe, "NotAFile"),
    ],
)
def test_a_broken_result_fails_for_its_reason_even_when_it_is_sealed_again(
    run_of: RunOf, reseal: Reseal, spoil: Callable[[Path], None], reason: str
) -> None:
    output = run_of("lora")
    spoil(output)
    if spoil not in (pipe, link_out):
        reseal(output)
    found = judge(output)
    assert (found.result, found.reason) == (CheckResult.FAIL, reason)
    assert found.message.startswith("result: ")


def test_a_changed_byte_is_found_by_the_manifest(run_of: RunOf) -> None:
    output = run_of("lora")
    path = output / "tokenizer_config.json"
    path.write_text(path.read_text().replace("<end>", "<and>"))
    found = judge(output)
    assert found.reason == "ManifestMismatch"
    assert "tokenizer_config.json" in found.message


def test_a_removed_file_is_found_by_the_manifest(run_of: RunOf) -> None:
    output = run_of("lora")
    (output / "training_info.json").unlink()
    found = judge(output)
    assert found.reason == "ManifestMismatch"
    assert "training_info.json: missing" in found.message


def test_a_missing_manifest_fails(run_of: RunOf) -> None:
    output = run_of("lora")
    (output / "manifest.json").unlink()
    assert judge(output).reason == "ManifestMissing"


def test_a_manifest_that_points_outside_is_no_manifest(run_of: RunOf) -> None:
    output = run_of("lora")
    listed = json.loads((output / "manifest.json").read_text())
    listed["files"]["../../etc/passwd"] = {"size": 1, "sha256": "0" * 64}
    (output / "manifest.json").write_text(json.dumps(listed))
    found = judge(output)
    assert found.reason == "ManifestMismatch"
    assert "leaves the folder" in found.message


def test_a_weight_file_that_nobody_sealed_fails(run_of: RunOf) -> None:
    output = run_of("lora")
    save_file({"w": np.ones(3, np.float32)}, output / "model.safetensors")
    assert judge(output).reason == "FileNotListed"


def no_index(folder: Path) -> None:
    (folder / INDEX).unlink()


def no_part(folder: Path) -> None:
    (folder / SHARD).unlink()


def stray_part(folder: Path) -> None:
    shutil.copyfile(folder / SHARD, folder / "model-00004-of-00004.safetensors")


def moved_tensor(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["lm_head.weight"] = "model-00001-of-00003.safetensors"
    (folder / INDEX).write_text(json.dumps(index))


def empty_index(folder: Path) -> None:
    (folder / INDEX).write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "reason", "words"),
    [
        (no_index, "IndexMissing", "model-00001-of-00003.safetensors"),
        (no_part, "IndexMismatch", f"the part {SHARD} is missing"),
        (stray_part, "IndexMismatch", "model-00004-of-00004.safetensors is not listed"),
        (moved_tensor, "IndexMismatch", "lm_head.weight"),
        (empty_index, "IndexMismatch", "weight_map"),
    ],
)
def test_parts_and_index_must_agree(
    run_of: RunOf, reseal: Reseal, spoil: Callable[[Path], None], reason: str, words: str
) -> None:
    output = run_of("sharded")
    spoil(output)
    reseal(output)
    found = judge(output)
    assert found.reason == reason
    assert words in found.message


def test_a_broken_newest_checkpoint_fails_by_its_name(run_of: RunOf) -> None:
    output = run_of("lora")
    truncated(output / "checkpoints" / "checkpoint-40")
    found = judge(output)
    assert found.reason == "WeightsMalformed"
    assert found.message.startswith("checkpoint-40: ")


def test_a_checkpoint_of_another_step_fails(run_of: RunOf) -> None:
    output = run_of("lora")
    (output / "checkpoints" / "checkpoint-40").rename(output / "checkpoints" / "checkpoint-50")
    assert judge(output).reason == "StepMismatch"


def test_a_checkpoint_without_state_fails(run_of: RunOf, reseal: Reseal) -> None:
    output = run_of("lora")
    folder = output / "checkpoints" / "checkpoint-40"
    (folder / "trainer_state.json").unlink()
    reseal(folder)
    assert judge(output).reason == "TrainerStateMissing"


def test_checkpoints_that_were_asked_for_must_be_there(run_of: RunOf, tmp_path: Path) -> None:
    output = run_of("lora")
    assert judge(output, tmp_path / "nowhere").reason == "CheckpointsMissing"
    (tmp_path / "empty").mkdir()
    assert judge(output, tmp_path / "empty").reason == "CheckpointsMissing"


def test_a_relative_checkpoint_path_is_looked_for_below_the_model(
    run_of: RunOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = run_of("lora")
    monkeypatch.chdir(tmp_path)
    found = judge(output, "./checkpoints")
    assert set(found.details) == {"checkpoint-20", "checkpoint-40", "result"}


def test_a_missing_model_folder_fails(tmp_path: Path) -> None:
    assert judge(tmp_path / "nowhere").reason == "ModelFolderMissing"


def test_every_truncation_of_a_weight_file_is_found(run_of: RunOf, reseal: Reseal) -> None:
    output = run_of("lora")
    whole = (output / WEIGHTS).read_bytes()
    for size in (1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        (output / WEIGHTS).write_bytes(whole[:size])
        reseal(output)
        assert judge(output).reason == "WeightsMalformed"
