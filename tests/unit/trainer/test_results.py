"""The files of a finished run, and that others can use them."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetuning.artifacts.history import PerformanceLine, read_lines
from finetuning.artifacts.manifest import problem_with, read_manifest, seal
from finetuning.artifacts.reference import Reference
from finetuning.base.app import main
from finetuning.monitoring.validators.checks import aim_profile, checkpoint_integrity
from finetuning.monitoring.validators.checks.base_model import base_folder
from finetuning.monitoring.validators.checks.model_scoring import reference_losses
from finetuning.monitoring.validators.settings import ValidationSettings
from finetuning.monitoring.validators.subject import subject

pytestmark = pytest.mark.training

LOAD_ADAPTERS = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from peft import PeftModel
base, *adapters = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(adapters[0])
ids = torch.tensor([tokenizer("Where is Peru?")["input_ids"]])
for adapter in adapters:
    model = AutoModelForCausalLM.from_pretrained(base)
    before = model(ids).logits
    tuned = PeftModel.from_pretrained(model, adapter)
    assert {p.dtype for n, p in tuned.named_parameters() if "lora_" in n} == {torch.float32}
    print((tuned(ids).logits - before).abs().max().item())
"""
LOAD_FULL = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
base, result = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(result)
ids = torch.tensor([tokenizer("Where is Peru?")["input_ids"]])
logits = [AutoModelForCausalLM.from_pretrained(path)(ids).logits for path in (base, result)]
print((logits[1] - logits[0]).abs().max().item())
"""


def train(model: Path, data: Path, output: Path, *more: str) -> Path:
    arguments = ["--model-id", str(model), "--dataset-path", str(data), "--output-dir", str(output)]
    settings = ["--learning-rate", "5e-3", "--max-steps", "4", "--warmup-steps", "1"]
    assert main([*arguments, *settings, *more]) == 0
    return output


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def in_a_clean_process(script: str, *args: Path) -> list[float]:
    """How far the logits moved, for each result loaded."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *map(str, args)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    return [float(line) for line in done.stdout.splitlines()]


def test_adapters_and_their_checkpoints_load_with_plain_peft_and_change_the_answers(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    lora = train(tiny_model, rows_file, tmp_path / "lora", "--method", "lora")
    qlora = train(tiny_model, rows_file, tmp_path / "qlora", "--method", "qlora")
    options = ("--use-dora", "--use-rslora", "--modules-to-save", "lm_head")
    every = train(tiny_model, rows_file, tmp_path / "options", *options)
    last = lora / "checkpoints" / "checkpoint-4"
    moved = in_a_clean_process(LOAD_ADAPTERS, tiny_model, lora, qlora, last, every)
    assert len(moved) == 4
    assert min(moved) > 1e-3
    assert moved[0] == moved[2]
    config = read(lora / "adapter_config.json")
    assert config["base_model_name_or_path"] == str(tiny_model)
    assert config["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]


def test_a_fully_tuned_model_loads_and_changes_the_answers(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    output = train(tiny_model, rows_file, tmp_path / "out", "--method", "full")
    (moved,) = in_a_clean_process(LOAD_FULL, tiny_model, output)
    assert moved > 1e-3


def test_the_tokenizer_is_copied_byte_for_byte(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    output = train(tiny_model, rows_file, tmp_path / "out")
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    for name in names:
        assert (output / name).read_bytes() == (tiny_model / name).read_bytes()


def test_a_model_without_a_chat_template_gets_chatml_in_the_result(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    bare = tmp_path / "bare"
    bare.mkdir()
    for path in tiny_model.iterdir():
        if path.name != "chat_template.jinja":
            (bare / path.name).write_bytes(path.read_bytes())
    output = train(bare, rows_file, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(output)
    messages = [{"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert damaged(output) == ""
    (output / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    )
    assert damaged(output) == "ChatTemplateMismatch"
    (output / "chat_template.jinja").unlink()
    assert damaged(output) == "ChatTemplateMissing"


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_file_of_a_base_that_is_not_at_hand_is_missed(
    name: str, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """As that of a name on the Hub is in a validation pod, where no cache has it yet."""
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    output = train(base, rows_file, tmp_path / "out")
    shutil.rmtree(base)
    assert damaged(output) == ""
    (output / name).write_text("{}")
    assert damaged(output) == "BaseFileChanged"
    (output / name).unlink()
    assert damaged(output) == "BaseFileChanged"


@pytest.mark.parametrize("method", ["lora", "full"])
def test_generation_settings_of_a_base_model_without_any_are_held(
    method: str, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    (bare / "generation_config.json").unlink(missing_ok=True)
    output = train(bare, rows_file, tmp_path / "out", "--method", method)
    own = output / "generation_config.json"
    told = read(output / "training_info.json")["added_generation_config_sha256"]
    assert damaged(output) == ""
    if method == "lora":
        assert (told, own.exists()) == (None, False)
        return
    assert told == hashlib.sha256(own.read_bytes()).hexdigest()
    own.write_text(json.dumps(read(own) | {"min_new_tokens": 300}))
    assert damaged(output) == "BaseFileChanged"
    own.unlink()
    assert damaged(output) == "BaseFileChanged"


def damaged(output: Path) -> str:
    """What is wrong with a result that is sealed as it now is; empty where nothing is."""
    (output / "manifest.json").unlink()
    seal(output, [path.name for path in output.iterdir() if path.is_file()])
    judged = subject(output / "training_info.json", output, None, None, ValidationSettings())
    return checkpoint_integrity.check(judged).reason


@pytest.mark.parametrize("kind", ["bfloat16", "float32"])
def test_the_reference_is_of_the_weights_that_are_saved(
    kind: str, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """In 32 bit, also where the training was in 16: whoever loads them finds the very same."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=getattr(torch, kind))
    model.save_pretrained(base)
    output = train(base, rows_file, tmp_path / "out", "--method", "full", "--bf16")
    told = Reference.model_validate(read(output / "training_info.json")["reference"])
    assert told.in_32_bits

    def distance(folder: Path) -> float | None:
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return told.distance(reference_losses(loaded, AutoTokenizer.from_pretrained(folder)))

    assert distance(output) == pytest.approx(0, abs=0.0005)
    assert distance(base) != pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_manifest_seals_every_file_of_the_result(
    method: str, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    output = train(tiny_model, rows_file, tmp_path / "out", "--method", method)
    assert problem_with(output) is None
    there = {path.name for path in output.iterdir() if path.is_file()} - {"manifest.json"}
    assert set(read_manifest(output).files) == there
    expected = {"training_info.json", "aim_profile.json", "loss_history.jsonl", "tokenizer.json"}
    assert expected <= there


def test_every_file_can_be_read_by_other_users(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    output = train(tiny_model, rows_file, tmp_path / "out", "--method", "full")
    for path in output.rglob("*"):
        wanted = 0o055 if path.is_dir() else 0o044
        assert stat.S_IMODE(path.stat().st_mode) & wanted == wanted, path


def test_a_half_precision_base_stays_half_precision_in_the_result(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).save_pretrained(half)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(half)
    output = train(half, rows_file, tmp_path / "out", "--method", "full")
    saved = load_file(output / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    checkpoint = load_file(output / "checkpoints" / "checkpoint-4" / "model.safetensors")
    assert {tensor.dtype for tensor in checkpoint.values()} == {torch.float32}
    assert read(output / "aim_profile.json")["precision"] == "bf16"
    assert read(output / "config.json")["dtype"] == "bfloat16"


def test_training_info_tells_what_was_trained_and_how_it_went(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    output = train(tiny_model, rows_file, tmp_path / "out", "--eval-split", "0.2")
    info = read(output / "training_info.json")
    results, settings = info["results"], info["training_config"]
    text = (output / "loss_history.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    losses = [line["loss"] for line in lines]
    assert (info["method"], info["model_id"]) == ("lora", str(tiny_model))
    assert (settings["learning_rate"], settings["lora_rank"]) == (5e-3, 16)
    assert results["train_loss"] == pytest.approx(sum(losses) / 4)
    assert results["final_loss"] == pytest.approx(losses[-1])
    assert results["eval_loss"] == lines[-1]["eval_loss"]
    assert results["tokens_total"] == sum(line["tokens"] for line in lines)
    assert (results["global_step"], results["total_steps"], results["samples_total"]) == (4, 4, 16)
    assert results["train_samples_per_second"] > 0
    assert info["dataset"]["train_examples"] == 16
    nats = [float(loss) for loss in info["reference"]["losses"].split()]
    assert len(nats) > 300, "each token of the texts but the first"
    assert 3 < sum(nats) / len(nats) < 9, "a model of 320 tokens that knows nothing of them"


def test_what_a_finished_run_told_stands_whatever_is_started_there(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """Its figures are scraped and shown; the same command has nothing to do, another is refused."""
    output = train(tiny_model, rows_file, tmp_path / "out")
    told = (output / "state" / "rank-0.json").read_bytes()
    train(tiny_model, rows_file, output)
    usual = ["--model-id", str(tiny_model), "--dataset-path", str(rows_file)]
    assert main([*usual, "--output-dir", str(output), "--learning-rate", "1e-3"]) == 2
    assert (output / "state" / "rank-0.json").read_bytes() == told
    shutil.rmtree(output / "state")
    train(tiny_model, rows_file, output)  # As in a pod that is made anew.
    again, before = read(output / "state" / "rank-0.json"), json.loads(told)
    assert again["state"] == "finished"
    for name in ("step", "tokensTotal", "samplesTotal", "nonfiniteLosses", "loss", "startedAt"):
        assert again[name] == pytest.approx(before[name], abs=1), name


def test_a_base_model_that_a_folder_holds_under_another_name_is_found_again(
    tiny_model: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever validates the run, from wherever they look at it."""
    monkeypatch.chdir(tiny_model.parent)
    where = ("--model-path", tiny_model.name)
    output = train(Path("org/base"), rows_file, tmp_path / "out", *where)
    info = read(output / "training_info.json")
    assert (info["model_id"], info["base_model_path"]) == ("org/base", str(tiny_model))
    assert read(output / "adapter_config.json")["base_model_name_or_path"] == "org/base"
    monkeypatch.chdir(tmp_path)
    judged = subject(output / "training_info.json", output, None, None, ValidationSettings())
    assert base_folder(judged) == tiny_model


@pytest.mark.parametrize("typed", ["{name}", "./{name}/", "link"])
def test_a_folder_has_one_name_however_it_was_typed(
    typed: str, tiny_model: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").symlink_to(tiny_model.parent)
    (tmp_path / "link").symlink_to(tiny_model)
    name = typed.format(name=f"model/{tiny_model.name}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    command = ["--model-id", name, "--dataset-path", str(rows_file), "--output-dir", "out"]
    assert main([*command, "--max-steps", "2", "--warmup-steps", "0"]) == 0
    output = tmp_path / "out"
    profile = read(output / "aim_profile.json")
    assert (profile["base_model_id"], read(output / "training_info.json")["model_id"]) == (
        str(tiny_model),
        str(tiny_model),
    )
    assert profile["profile_name"] == f"{tiny_model.name}-lora-fp32"
    info, about = output / "training_info.json", output / "aim_profile.json"
    for settings in (ValidationSettings(), ValidationSettings(model_id=name)):
        found = aim_profile.check(subject(info, output, None, about, settings))
        assert found.passed, found.message


def test_the_history_of_performance_agrees_with_the_totals(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    output = train(tiny_model, rows_file, tmp_path / "out")
    results = read(output / "training_info.json")["results"]
    (line,) = read_lines(output / "performance_history.jsonl", PerformanceLine)
    assert line.step == 4
    assert line.seconds == pytest.approx(results["train_runtime"], abs=0.001)
    assert line.tokens_per_second == pytest.approx(results["train_tokens_per_second"], rel=0.01)
    assert line.samples_per_second == pytest.approx(results["train_samples_per_second"], rel=0.01)
    assert line.host_memory_bytes is not None
    assert 50e6 < line.host_memory_bytes < 10e9
    assert line.gpu_memory_bytes is None


def test_the_profile_estimates_memory_from_the_model(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    output = train(tiny_model, rows_file, tmp_path / "out")
    profile = read(output / "aim_profile.json")
    assert profile["model_id"] == f"{tiny_model}-finetuned"
    assert profile["base_model_id"] == str(tiny_model)
    assert (profile["fine_tuning_method"], profile["precision"]) == ("lora", "fp32")
    assert profile["recommended_partition_gb"] == pytest.approx(1.25 * profile["memory_gb"])
    assert profile["memory_gb"] >= sum(profile["memory_breakdown_gb"].values()) > 0
    assert profile["parameters"].endswith("K")
    assert profile["lora_config"]["r"] == 16
    assert "quantization_info" not in profile


def test_the_live_state_ends_as_finished_with_the_figures(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    output = train(tiny_model, rows_file, tmp_path / "out", "--state-dir", str(tmp_path / "s"))
    state = read(tmp_path / "s" / "rank-0.json")
    assert (state["state"], state["step"], state["totalSteps"]) == ("finished", 4, 4)
    assert state["tokensPerSecond"] > 0
    assert state["checkpointsTotal"] == 4
    assert len(state["checkpointSizesBytes"]) == 4
    assert state["lastCheckpoint"] == "checkpoints/checkpoint-4"
    assert (state["precision"], state["checkpointIntervalSteps"]) == ("fp32", 1)
    assert state["startedAt"] <= state["resumedAt"] <= state["lastCheckpointAt"]
    assert state["mfuRatio"] is None
    assert state["gpus"] == []
    assert not (output / "state").exists()


def test_the_last_words_are_those_of_the_result(
    tiny_model: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNING_TERMINATION_LOG", str(tmp_path / "words"))
    output = train(tiny_model, rows_file, tmp_path / "out")
    words = read(tmp_path / "words")
    digest = hashlib.sha256((output / "manifest.json").read_bytes()).hexdigest()
    assert words["manifestSha256"] == digest
    assert (words["kind"], words["result"], words["step"]) == ("training", "finished", 4)
    assert words["checkpoint"] == "checkpoints/checkpoint-4"


def test_the_end_names_the_result_and_the_command_that_validates_it(
    tiny_model: Path, rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = train(tiny_model, rows_file, tmp_path / "out")
    told = capsys.readouterr().out
    assert f"The lora result is in {output}" in told
    assert "python3 -m finetuning.monitoring.validate_job" in told
    assert f"--training-info {output}/training_info.json" in told


def test_the_same_run_twice_leaves_the_same_weights(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    one = train(tiny_model, rows_file, tmp_path / "one")
    two = train(tiny_model, rows_file, tmp_path / "two")
    for name in ("adapter_model.safetensors", "adapter_config.json", "loss_history.jsonl"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
