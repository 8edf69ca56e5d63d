"""model_output: real models, each loaded by the function that loads them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.unit.sidecar.judging import QUESTION, RunOf, asking, edit, subject_of

from finetuning.monitoring.validators.checks import model_output, model_process
from finetuning.monitoring.validators.checks.model_facts import Facts
from finetuning.monitoring.validators.checks.model_verdict import RULES
from finetuning.monitoring.validators.checks.probe import (
    FourBits,
    ProbeReport,
    ProbeRequest,
)
from finetuning.monitoring.validators.outcome import first_finding


@pytest.mark.long
@pytest.mark.training
def test_a_full_model_in_several_files_passes(run_of: RunOf) -> None:
    found = model_output.check(subject_of(run_of("sharded"), prompts=asking("Lima")))
    assert found.passed, found.message
    assert found.score == 1.0
    assert found.message == "Model answers 1/1 prompts; differs from the base model"
    assert found.details["largestLogitDifference"] > 0
    (answer,) = found.details["answers"]
    assert answer["answer"].startswith("The capital is Lima .")
    assert answer["baseAnswer"].startswith("I think it is Quito .")


def as_trained(folder: Path) -> None:
    """Nothing is changed."""


def change_tensors(path: Path, change: Callable[[dict[str, np.ndarray[Any, Any]]], None]) -> None:
    tensors = {name: value.copy() for name, value in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def nan_weights(folder: Path) -> None:
    change_tensors(
        folder / "model.safetensors", lambda tensors: tensors["model.norm.weight"].fill(np.nan)
    )


def missing_tensor(folder: Path) -> None:
    change_tensors(
        folder / "model.safetensors",
        lambda tensors: tensors.__delitem__("model.layers.1.mlp.up_proj.weight"),
    )


def missing_adapter_tensor(folder: Path) -> None:
    change_tensors(
        folder / "adapter_model.safetensors",
        lambda tensors: tensors.__delitem__(min(tensors)),
    )


def foreign_adapter(folder: Path) -> None:
    def rename(tensors: dict[str, np.ndarray[Any, Any]]) -> None:
        for name in list(tensors):
            tensors[name.replace("q_proj", "qkv_proj")] = tensors.pop(name)

    change_tensors(folder / "adapter_model.safetensors", rename)


def another_kind_of_adapter(folder: Path) -> None:
    edit(folder / "adapter_config.json", peft_type="PREFIX_TUNING")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def code_beside_the_model(folder: Path) -> None:
    proof = folder / "code-was-run"
    (folder / "evil.py").write_text(f"open({str(proof)!r}, 'w')\nclass Model: ...\n")
    own = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Model"}
    edit(folder / "config.json", auto_map=own)


def code_for_an_unknown_model(folder: Path) -> None:
    code_beside_the_model(folder)
    edit(folder / "config.json", model_type="unheard-of")


def tokens_of_the_machines(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", vocab="/proc/self/environ")


CASES: dict[str, tuple[str, Callable[[Path], None], str, str]] = {
    "trained adapter": ("lora", as_trained, "", ""),
    "full model": ("full", as_trained, "", ""),
    "the base itself": ("base", as_trained, "SameAsBase", "base model"),
    "NaN in the weights": ("full", nan_weights, "LogitsNotFinite", QUESTION),
    "missing tensor": ("full", missing_tensor, "ModelLoadFailed", "layers.1.mlp.up_proj"),
    "missing adapter tensor": ("lora", missing_adapter_tensor, "ModelLoadFailed", "1 tensors"),
    "foreign adapter": ("lora", foreign_adapter, "ModelLoadFailed", "The adapter does not load"),
    "prefix tuning": ("lora", another_kind_of_adapter, "ModelLoadFailed", "PREFIX_TUNING"),
    "no tokenizer": ("full", no_tokenizer, "ModelLoadFailed", "The tokenizer does not load"),
    "named tokens": ("full", tokens_of_the_machines, "ModelLoadFailed", "vocab names the file"),
    "code beside": ("full", code_beside_the_model, "", ""),
    "code needed": ("full", code_for_an_unknown_model, "ModelLoadFailed", "does not load"),
}

BATCH = """
import os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from finetuning.monitoring.validators.checks.model_process import answer_to
from finetuning.monitoring.validators.checks.probe import ProbeRequest
for line in sys.stdin:
    print(answer_to(ProbeRequest.model_validate_json(line)).model_dump_json(), file=answers)
"""


@pytest.fixture(scope="module")
def probed(
    models: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, ProbeReport]]:
    """Every case through the function that loads models; one process, because torch takes long."""
    folders: dict[str, Path] = {}
    requests: list[str] = []
    for name, (kind, spoil, _, _) in CASES.items():
        folder = tmp_path_factory.mktemp("case") / "output"
        shutil.copytree(models / kind, folder)
        spoil(folder)
        folders[name] = folder
        request = ProbeRequest(
            model_path=str(folder),
            is_adapter=(folder / "adapter_config.json").exists(),
            base=str(models / "base"),
            prompts=[QUESTION],
            max_new_tokens=96,
        )
        requests.append(request.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-c", BATCH],
        input="\n".join(requests),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    reports = [ProbeReport.model_validate_json(line) for line in done.stdout.splitlines()]
    return {
        name: (folder, report)
        for (name, folder), report in zip(folders.items(), reports, strict=True)
    }


@pytest.mark.long
@pytest.mark.training
@pytest.mark.parametrize("case", CASES)
def test_a_real_model_is_told_by_what_it_does(
    probed: dict[str, tuple[Path, ProbeReport]], case: str
) -> None:
    folder, report = probed[case]
    _, _, reason, words = CASES[case]
    finding = first_finding(RULES, Facts(report, asking()))
    if reason:
        assert finding is not None
        assert finding.reason == reason
        assert words in finding.message
    else:
        assert finding is None
    assert not (folder / "code-was-run").exists()


WITH_AND_WITHOUT_4_BITS = """
import os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from finetuning.artifacts.spared import load, without_bitsandbytes
from finetuning.monitoring.validators.checks.model_process import answer_to
from finetuning.monitoring.validators.checks.probe import ProbeRequest
request = ProbeRequest.model_validate_json(sys.stdin.read())
load("transformers.modeling_utils")
with without_bitsandbytes():
    print(answer_to(request).model_dump_json(), file=answers)
print(answer_to(request).model_dump_json(), file=answers)
"""


@pytest.mark.long
@pytest.mark.training
def test_the_trainers_texts_are_scored_on_4_bits_where_there_are_any(models: Path) -> None:
    request = ProbeRequest(
        model_path=str(models / "lora"),
        is_adapter=True,
        base=str(models / "base"),
        prompts=[QUESTION],
        max_new_tokens=8,
        reference=True,
        base_reference=True,
        four_bits=FourBits(quant_type="nf4", double_quant=True, weights="bfloat16"),
    )
    done = subprocess.run(
        [sys.executable, "-c", WITH_AND_WITHOUT_4_BITS],
        input=request.model_dump_json(),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    without, there = map(ProbeReport.model_validate_json, done.stdout.splitlines())
    assert (without.reference_in_4_bits, there.reference_in_4_bits) == (False, True)
    assert len(without.base_reference) == len(there.base_reference) == len(there.reference) > 0
    assert without.reference != there.reference
    assert without.base_reference != there.base_reference
    assert without.answers == there.answers, "what is served is the whole base model"


def test_a_lack_of_memory_that_says_nothing_is_told_by_its_name() -> None:
    """Python's own error has no text."""

    def too_large() -> None:
        raise MemoryError

    with pytest.raises(model_process._StageError) as raised, model_process._stage("model"):
        too_large()
    report = ProbeReport(failure=model_process._failure(raised.value))
    finding = first_finding(RULES, Facts(report, asking()))
    assert finding is not None
    assert (finding.reason, finding.message) == ("OutOfMemory", "Not enough memory: MemoryError")
