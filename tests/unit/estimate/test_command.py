"""`finetuning estimate` as it is typed."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetuning.cli.__main__ import main

QWEN = "Qwen/Qwen2.5-7B-Instruct"
TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 320,
}


def job(folder: Path, model: dict[str, Any] | None = None, **spec: Any) -> str:
    body = {
        "apiVersion": "aim.amd.com/v1alpha1",
        "kind": "FineTuningJob",
        "metadata": {"name": "my-job"},
        "spec": {
            "baseModel": model or {"modelId": QWEN},
            "dataset": {"source": "hf://org/data"},
            **spec,
        },
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    return str(path)


def test_a_job_that_fits_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", job(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "my-job: lora of Qwen/Qwen2.5-7B-Instruct (7.62 B parameters), fp16, 4 x 2048" in text
    assert "It fits." in text
    assert "Largest batchSize at maxSeqLength 2048: " in text


def test_a_job_that_does_not_fit_ends_with_1_and_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", job(tmp_path, method="full"), "--gpu", "mi300x-cpx-nps4"]) == 1
    text = capsys.readouterr().out
    assert "It does not fit." in text
    assert "  - set method to qlora" in text
    assert "Smallest GPU for it as it is: MI300A" in text


def test_each_of_several_gpus_holds_the_whole_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many: dict[str, Any] = {"workers": 2, "resources": {"limits": {"amd.com/gpu": 4}}}
    peaks = []
    alone: dict[str, Any] = {}
    for spec in (alone, many):
        assert main(["estimate", job(tmp_path, **spec), "--json"]) == 0
        peaks.append(json.loads(capsys.readouterr().out)["partsBytes"])
    assert peaks[1]["gradients"] > 0, "they wait in buckets for those of the others"
    assert {**peaks[1], "gradients": 0} == {**peaks[0], "gradients": 0}
    assert main(["estimate", job(tmp_path, **many)]) == 0
    assert ", gradient checkpointing, on each of 8 GPUs\n" in capsys.readouterr().out


def test_json_has_the_same_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", job(tmp_path), "--json", "--gpu", "MI210"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["fits"] is True
    assert data["parameters"] == 7_615_616_512
    assert data["gpuMemoryBytes"] == 64 << 30
    assert sum(data["partsBytes"].values()) == data["peakBytes"] <= data["usableBytes"]


def test_the_partition_is_that_of_the_resource_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = job(tmp_path, resources={"limits": {"amd.com/cpx_nps4": 1}})
    assert main(["estimate", manifest, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["gpu"] == "MI300X-CPX-NPS4"


@pytest.mark.parametrize("how", ["--model", "--claims"])
def test_the_shape_is_read_from_a_folder(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(TINY), encoding="utf-8")
    manifest = job(tmp_path, {"modelId": "me/mine", "source": "pvc://models/tiny"})
    where = str(folder) if how == "--model" else f"models={tmp_path / 'models'}"
    assert main(["estimate", manifest, how, where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 110_912


@pytest.mark.parametrize(
    ("model", "argv", "text"),
    [
        ({"modelId": "me/mine"}, [], "spec.baseModel.modelId: the shape of me/mine is not known"),
        ({"modelId": QWEN}, ["--gpu", "H100"], "--gpu H100: no such GPU; known are MI210"),
        ({"modelId": QWEN}, ["--model", "nowhere"], "nowhere: No such file or directory"),
        ({"modelId": "-x"}, [], "spec.baseModel.modelId"),
    ],
)
def test_wrong_input_ends_with_2_and_one_line(
    model: dict[str, Any],
    argv: list[str],
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["estimate", job(tmp_path, model), *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert text in captured.err
    assert captured.err.count("\n") == 1


def test_the_example_in_the_documentation_is_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"bf16": True, "batchSize": 8, "gradientCheckpointing": False}
    manifest = Path(job(tmp_path, method="full", hyperparameters=settings))
    named = manifest.read_text(encoding="utf-8").replace("my-job", "big")
    manifest.write_text(named, encoding="utf-8")
    assert main(["estimate", str(manifest), "--gpu", "MI300X"]) == 1
    docs = Path(__file__).parents[3] / "docs" / "command-line.md"
    assert f"```text\n{capsys.readouterr().out}```" in docs.read_text(encoding="utf-8")
