"""torch.compile changes how long steps take, and nothing else that can be seen of a run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.trainer.conftest import Pair
from tests.unit.trainer.warm import WarmTrainer

from finetuning.api.hyperparameters import Precision
from finetuning.base.compiled import compile_layers, require_compiler
from finetuning.base.device import Device
from finetuning.base.errors import ConfigError

pytestmark = pytest.mark.training

COMPILER = pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler to compile with")
FLAGS = (
    *("--no-fp16", "--learning-rate", "5e-3", "--warmup-steps", "2", "--batch-size", "2"),
    *("--max-steps", "10", "--save-steps", "2"),
)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where a run finds what another one has compiled; no processes beside it."""
    folder = tmp_path_factory.mktemp("kernels")
    return {"TORCHINDUCTOR_CACHE_DIR": str(folder), "TORCHINDUCTOR_COMPILE_THREADS": "1"}


def losses(output: Path) -> list[float]:
    """Of each step, and of the held-out rows where they were asked."""
    lines = (output / "loss_history.jsonl").read_text(encoding="utf-8").splitlines()
    found = [(line["loss"], line.get("eval_loss")) for line in map(json.loads, lines)]
    return [loss for both in found for loss in both if loss is not None]


def compare(
    warm: WarmTrainer, data: Path, flags: tuple[object, ...], kernels: dict[str, str]
) -> None:
    """Train plainly and compiled, beside the data: the losses and names are the same."""
    plain, compiled = data.with_name("plain"), data.with_name("compiled")
    assert warm.run(*flags, plain)[0] == 0
    code, said = warm.run(*flags, compiled, "--torch-compile", **kernels)
    assert code == 0, said
    assert "The first step has compiled the layers: " in said
    assert losses(compiled) == pytest.approx(losses(plain), abs=1e-4)
    assert weight_names(compiled) == weight_names(plain)


@COMPILER
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_compiled_adapter_has_the_losses_and_names_of_a_plain_one(
    warm: WarmTrainer, tiny_model: Path, rows_file: Path, kernels: dict[str, str]
) -> None:
    common = ("--model-id", tiny_model, "--dataset-path", rows_file, *FLAGS, "--method", "lora")
    flags = (*common, "--no-gradient-checkpointing", "--output-dir")
    compare(warm, rows_file, flags, kernels)


ALONE = {
    "qlora": "--method qlora",
    "packing": "--method full --packing --max-seq-length 64",
    "dpo": "--objective dpo --learning-rate 1e-3",
}
TOGETHER = {
    "copies": "--method full --gradient-accumulation-steps 2",
    "shards": "--method full --gradient-accumulation-steps 2 --fsdp",
}


@COMPILER
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("variant", ALONE)
def test_a_compiled_run_has_the_losses_of_a_plain_one(  # noqa: PLR0917 - fixtures
    variant: str,
    warm: WarmTrainer,
    tiny_model: Path,
    rows_file: Path,
    pairs_file: Path,
    kernels: dict[str, str],
) -> None:
    data = pairs_file if variant == "dpo" else rows_file
    common = ("--model-id", tiny_model, "--dataset-path", data, *FLAGS, *ALONE[variant].split())
    flags = (*common, "--max-steps", 3, "--output-dir")
    compare(warm, data, flags, kernels)


@COMPILER
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("variant", TOGETHER)
def test_two_compiled_processes_have_the_losses_of_plain_ones(
    variant: str, pair: Pair, tiny_model: Path, rows_file: Path, kernels: dict[str, str]
) -> None:
    common = ("--model-id", tiny_model, "--dataset-path", rows_file, *FLAGS)
    flags = (*common, *TOGETHER[variant].split(), "--max-steps", 3, "--output-dir")
    plain, compiled = rows_file.with_name("plain"), rows_file.with_name("compiled")
    assert pair(*flags, plain)[0] == [0, 0]
    codes, said = pair(*flags, compiled, "--torch-compile", **kernels)
    assert codes == [0, 0], said
    assert "The first step has compiled the layers: " in said[0]
    assert losses(compiled) == pytest.approx(losses(plain), abs=1e-4)
    assert weight_names(compiled) == weight_names(plain)


@COMPILER
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_compiled_run_that_is_killed_ends_with_the_losses_of_a_plain_one(
    warm: WarmTrainer, tiny_model: Path, rows_file: Path, kernels: dict[str, str]
) -> None:
    common = ("--model-id", tiny_model, "--dataset-path", rows_file, *FLAGS, "--method", "full")
    flags = (*common, "--eval-split", "0.2", "--eval-steps", "3", "--output-dir")
    plain, compiled = rows_file.with_name("plain"), rows_file.with_name("compiled")
    assert warm.run(*flags, plain)[0] == 0
    again = (*flags, compiled, "--torch-compile")
    assert warm.run(*again, kill_in="finetuning.base.step.collate:9", **kernels)[0] == -9
    code, said = warm.run(*again, **kernels)
    assert code == 0, said
    assert "Continuing from checkpoint-" in said
    assert losses(compiled) == pytest.approx(losses(plain), abs=1e-4)
    assert weight_names(compiled) == weight_names(plain)


def weight_names(output: Path) -> dict[str, list[str]]:
    """Of the result and of each checkpoint."""
    from safetensors import safe_open  # noqa: PLC0415 - loads torch

    names = {}
    for path in sorted(output.rglob("*.safetensors")):
        with safe_open(path, "pt") as file:
            names[str(path.relative_to(output))] = sorted(file.keys())
    return names


def test_without_a_compiler_one_line_says_what_to_do_and_no_model_is_loaded(
    warm: WarmTrainer, tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    data = ("--model-id", tiny_model, "--dataset-path", rows_file, "--output-dir", tmp_path / "out")
    code, said = warm.run(*data, "--torch-compile", CXX="no-such-compiler")
    assert code == 2
    assert (
        "error: --torch-compile: there is no no-such-compiler here, and torch compiles for the CPU "
        "with it: use an image that has one, name another in $CXX, or leave out --torch-compile"
    ) in said
    assert "Loaded" not in said
    assert "Traceback" not in said


@pytest.mark.long
def test_a_compiler_that_fails_ends_the_first_step_with_one_line(
    tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    # Torch reads CXX when it is loaded, so a process of its own.
    data = ("--model-id", tiny_model, "--dataset-path", rows_file, "--output-dir", tmp_path / "out")
    command = [sys.executable, "-m", "finetuning.base.app", *map(str, data), "--torch-compile"]
    fresh = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    environ = {**os.environ, **fresh, "CXX": "false"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "error: --torch-compile: a layer of this model cannot be compiled here (" in done.stderr
    assert done.stderr.rstrip().endswith("; leave out --torch-compile")
    assert "Traceback" not in done.stderr


def test_a_model_that_names_no_layers_is_refused() -> None:
    from transformers import (  # noqa: PLC0415 - collecting the tests should not load it
        PretrainedConfig,
        PreTrainedModel,
    )

    class Plain(PreTrainedModel):  # type: ignore[misc]  # the library has no types
        config_class = PretrainedConfig

    model = Plain(PretrainedConfig(model_type="plain"))
    with pytest.raises(ConfigError, match="models of the type plain do not name their layers"):
        compile_layers(model)


def test_a_gpu_needs_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch  # noqa: PLC0415 - collecting the tests should not cost the seconds it takes

    monkeypatch.setenv("CC", "sh")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    gpu = Device(torch.device("cuda", 0), "an MI300X", Precision.BF16)
    with pytest.raises(ConfigError, match=r"Triton is not installed, and torch compiles for an MI"):
        require_compiler(gpu)
