"""An adapter merged into its base computes what both compute together."""

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.documented import ROOT, commands
from tests.unit.publish.conftest import judge
from tests.unit.trainer.conftest import tiny_model, tokenizer

from finetuning.artifacts.base_weights import BaseWeights
from finetuning.artifacts.manifest import problem_with, seal
from finetuning.publish.__main__ import main

__all__ = ["tiny_model", "tokenizer"]

pytestmark = [
    pytest.mark.training,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run's folder with an adapter that changes much, and what the model says with it."""
    import torch  # noqa: PLC0415 - collecting tests should not cost its seconds
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    wish = LoraConfig(r=4, use_dora=True, target_modules=["q_proj", "down_proj"])
    tuned = get_peft_model(base, wish).eval()
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    run = tmp_path_factory.mktemp("adapter")
    tuned.save_pretrained(run)
    settings = json.loads((run / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(tiny_model)
    (run / "adapter_config.json").write_text(json.dumps(settings))
    (run / "tokenizer.json").write_bytes((tiny_model / "tokenizer.json").read_bytes())
    (run / "training_info.json").write_text(json.dumps({"model_id": "example/tiny"}))
    (run / "README.md").unlink(missing_ok=True)
    seal(run, [path.name for path in run.iterdir()])
    judge(run)
    return run, tuned(torch.tensor([[3, 5, 7, 9]])).logits.detach()


def test_the_merged_model_is_complete_and_computes_the_same(
    adapter: tuple[Path, Any], tiny_model: Path
) -> None:
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    run, expected = adapter
    command = ["--model-path", str(run), "--form", "both"]
    assert main(command) == 0
    merged = run / "publish" / "merged"
    assert problem_with(merged) is None
    assert (merged / "config.json").read_bytes() == (tiny_model / "config.json").read_bytes()
    assert (merged / "tokenizer.json").read_bytes() == (run / "tokenizer.json").read_bytes()
    model = AutoModelForCausalLM.from_pretrained(merged).eval()
    found = model(torch.tensor([[3, 5, 7, 9]])).logits.detach()
    base = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    untuned = base(torch.tensor([[3, 5, 7, 9]])).logits.detach()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (untuned - expected).abs().max() > 0.01, "the adapter changes nothing"

    made = (merged / "model.safetensors").stat().st_mtime_ns
    assert main(command) == 0
    assert (merged / "model.safetensors").stat().st_mtime_ns == made, "merged once"


def test_the_documented_command_merges_what_a_local_run_has_left(
    adapter: tuple[Path, Any], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a run's adapter names its base model by an id, and the weights are in a folder."""
    page = (ROOT / "docs/publishing.md").read_text()
    (command,) = [each for each in commands(page) if "--form Merged" in each]
    run = shutil.copytree(adapter[0], tmp_path / "runs/tiny-lora")
    shutil.rmtree(run / "publish", ignore_errors=True)
    settings = json.loads((run / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "finetuning-examples/tiny-qwen2"
    (run / "adapter_config.json").write_text(json.dumps(settings))
    (run / "manifest.json").unlink()
    seal(run, [path.name for path in run.iterdir() if path.is_file()])
    judge(run)
    shutil.copytree(tiny_model, tmp_path / "runs/claims/tiny-model/tiny-qwen2")
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[3:]) == 0
    assert problem_with(run / "publish" / "merged") is None


def test_a_pod_trusts_what_its_own_job_has_merged_alone(
    adapter: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the training has left in its place is sealed as well, and was judged by nobody."""
    work = tmp_path / "work"
    command = ["--model-path", str(adapter[0]), "--form", "merged", "--work-path", str(work)]
    assert main(command) == 0
    weights = work / "merged" / "model.safetensors"
    right = weights.read_bytes()
    weights.write_bytes(right[:-4] + b"evil")
    seal(work / "merged", [path.name for path in (work / "merged").iterdir()])
    monkeypatch.setenv("FINETUNING_PUBLISHER", "uid-1")
    assert main(command) == 0
    assert weights.read_bytes() == right
    made = weights.stat().st_mtime_ns
    assert main(command) == 0
    assert weights.stat().st_mtime_ns == made, "another try of the same Job"
    shutil.move(work / "merged", tmp_path / "elsewhere")
    (work / "merged").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("FINETUNING_PUBLISHER", "uid-2")
    assert main(command) == 0
    assert not (work / "merged").is_symlink()
    assert (tmp_path / "elsewhere" / "model.safetensors").read_bytes() == right


def test_a_base_that_the_adapter_was_not_made_for_is_refused(
    adapter: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = adapter
    given = ["--base-model", str(tmp_path), "--work-path", str(tmp_path / "work")]
    assert main(["--model-path", str(run), "--form", "merged", *given]) == 2
    assert f"{tmp_path}: needs weights as *.safetensors" in capsys.readouterr().err
    assert list((tmp_path / "work").iterdir()) == []


def test_a_base_in_4_bit_is_refused_before_it_is_loaded(
    adapter: tuple[Path, Any], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = adapter
    base = shutil.copytree(tiny_model, tmp_path / "base")
    settings = json.loads((base / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(settings))
    given = ["--base-model", str(base), "--work-path", str(tmp_path / "work")]
    assert main(["--model-path", str(run), "--form", "merged", *given]) == 2
    assert f"{base}: its weights are quantised already" in capsys.readouterr().err


def test_a_base_that_changed_since_the_training_is_refused(
    adapter: tuple[Path, Any], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(adapter[0], tmp_path / "run")
    base = shutil.copytree(tiny_model, tmp_path / "base")
    told = BaseWeights.of(base)
    assert told is not None
    (run / "training_info.json").write_text(json.dumps({"base_weights": told.model_dump()}))
    seal(run, json.loads((run / "manifest.json").read_text())["files"])
    judge(run)
    weights = (base / "model.safetensors").read_bytes()
    other = bytes(byte ^ 1 for byte in weights[-4096:])
    (base / "model.safetensors").write_bytes(weights[:-4096] + other)
    given = ["--base-model", str(base), "--work-path", str(tmp_path / "work")]
    assert main(["--model-path", str(run), "--form", "merged", *given]) == 2
    assert f"{base}: has other weights than the run was trained on" in capsys.readouterr().err
    given[1] = str(tiny_model)
    assert main(["--model-path", str(run), "--form", "merged", *given]) == 0


def test_a_base_brings_no_link_to_the_keys_of_the_publisher(
    adapter: tuple[Path, Any], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = adapter
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "generation_config.json").unlink(missing_ok=True)
    (base / "generation_config.json").symlink_to("/proc/self/environ")
    given = ["--base-model", str(base), "--work-path", str(tmp_path / "work")]
    assert main(["--model-path", str(run), "--form", "merged", *given]) == 2
    assert "generation_config.json: is a link out of the volume" in capsys.readouterr().err
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "tokenizer.json"])
def test_what_changed_after_its_verdict_is_not_merged(
    adapter: tuple[Path, Any],
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    run = shutil.copytree(adapter[0], tmp_path / "run")
    data = bytearray((run / name).read_bytes())
    data[-2] ^= 1
    (run / name).write_bytes(data)
    given = ["--base-model", str(tiny_model), "--work-path", str(tmp_path / "work")]
    assert main(["--model-path", str(run), "--form", "merged", *given]) == 2
    assert f"{run / name}: is not what was sealed" in capsys.readouterr().err
    assert not (tmp_path / "work" / "merged").exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--base-model", "org/model"], "or give a local folder with --base-model"),
        (["--base-model", "/no/such/folder"], "--base-model /no/such/folder: no such folder"),
        (["--base-model", "no id"], "--base-model no id: neither a local folder nor a Hub id"),
    ],
)
def test_a_base_that_is_not_found_is_told_with_the_flag_that_names_it_here(
    adapter: tuple[Path, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    says: str,
) -> None:
    run, _ = adapter
    work = ["--work-path", str(tmp_path / "work")]
    assert main(["--model-path", str(run), "--form", "merged", *given, *work]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert not re.search("--model-|--revision", said)
