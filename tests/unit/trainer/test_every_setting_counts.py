"""Each setting of the API changes something that can be seen from outside the trainer."""

# ruff: noqa: PLC0415 - collecting the tests should not cost the seconds that torch takes

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel  # noqa: TC002 - for mypy and people alike

from finetuning.api.hyperparameters import Hyperparameters, LoraConfig, QuantizationConfig
from finetuning.artifacts.history import SampleLine, read_lines
from finetuning.artifacts.manifest import sha256_of
from finetuning.base.app import main

pytestmark = pytest.mark.training

BASELINE = (
    *("--learning-rate", "5e-3", "--warmup-steps", "2", "--epochs", "2", "--eval-split", "0.2"),
    *("--no-gradient-checkpointing", "--no-fp16"),
)

CASES: dict[tuple[str, str], tuple[str, list[str], list[str]]] = {
    # setting: method, the flags that change it, what must change then
    ("hyperparameters", "learning_rate"): (
        "lora",
        ["--learning-rate", "1e-3"],
        ["rates", "losses"],
    ),
    ("hyperparameters", "batch_size"): ("lora", ["--batch-size", "2"], ["tokens", "losses"]),
    ("hyperparameters", "epochs"): ("lora", ["--epochs", "1"], ["steps", "epoch"]),
    ("hyperparameters", "max_seq_length"): ("lora", ["--max-seq-length", "24"], ["tokens", "cut"]),
    ("hyperparameters", "warmup_steps"): ("lora", ["--warmup-steps", "4"], ["rates", "losses"]),
    ("hyperparameters", "gradient_accumulation_steps"): (
        "lora",
        ["--gradient-accumulation-steps", "2"],
        ["steps", "tokens"],
    ),
    ("hyperparameters", "gradient_checkpointing"): (
        "lora",
        ["--gradient-checkpointing"],
        ["layer_calls"],
    ),
    ("hyperparameters", "fp16"): ("lora", ["--fp16"], ["told_fp16"]),
    ("hyperparameters", "bf16"): ("lora", ["--bf16"], ["precision", "losses"]),
    ("hyperparameters", "seed"): ("lora", ["--seed", "1"], ["losses", "tokens"]),
    ("hyperparameters", "max_steps"): ("lora", ["--max-steps", "3"], ["steps", "rates"]),
    ("hyperparameters", "lr_scheduler_type"): (
        "lora",
        ["--lr-scheduler-type", "cosine"],
        ["rates", "losses"],
    ),
    ("hyperparameters", "weight_decay"): ("lora", ["--weight-decay", "0.9"], ["losses"]),
    ("hyperparameters", "max_grad_norm"): ("lora", ["--max-grad-norm", "0.01"], ["losses"]),
    ("hyperparameters", "logging_steps"): ("lora", ["--logging-steps", "4"], ["lines_logged"]),
    ("hyperparameters", "save_steps"): ("lora", ["--save-steps", "3"], ["checkpoints"]),
    ("hyperparameters", "save_total_limit"): ("lora", ["--save-total-limit", "1"], ["checkpoints"]),
    ("hyperparameters", "eval_steps"): ("lora", ["--eval-steps", "3"], ["evaluated_at"]),
    ("hyperparameters", "packing"): ("lora", ["--packing"], ["steps", "tokens", "losses"]),
    ("hyperparameters", "warmup_ratio"): ("lora", ["--warmup-ratio", "0.5"], ["rates", "losses"]),
    ("hyperparameters", "min_lr_rate"): ("lora", ["--min-lr-rate", "0.5"], ["rates", "losses"]),
    ("hyperparameters", "early_stopping_patience"): (
        "lora",
        ["--early-stopping-patience", "1"],
        ["steps", "planned"],
    ),
    ("hyperparameters", "early_stopping_threshold"): (
        "lora",
        ["--early-stopping-threshold", "9"],
        ["steps", "planned"],
    ),
    ("hyperparameters", "load_best_model_at_end"): (
        "lora",
        ["--load-best-model-at-end"],
        ["weights"],
    ),
    ("hyperparameters", "neftune_noise_alpha"): (
        "lora",
        ["--neftune-noise-alpha", "5"],
        ["losses"],
    ),
    ("hyperparameters", "sample_generations"): ("lora", ["--sample-generations", "2"], ["asked"]),
    ("hyperparameters", "sample_max_new_tokens"): (
        "lora",
        ["--sample-max-new-tokens", "3"],
        ["answers"],
    ),
    ("lora_config", "r"): ("lora", ["--lora-rank", "2"], ["losses", "trained_parameters"]),
    ("lora_config", "lora_alpha"): ("lora", ["--lora-alpha", "1"], ["losses"]),
    ("lora_config", "target_modules"): (
        "lora",
        ["--target-modules", "all-linear"],
        ["losses", "trained_parameters"],
    ),
    ("lora_config", "lora_dropout"): ("lora", ["--lora-dropout", "0.5"], ["losses"]),
    ("lora_config", "use_rslora"): ("lora", ["--use-rslora"], ["losses"]),
    ("lora_config", "use_dora"): ("lora", ["--use-dora"], ["losses", "trained_parameters"]),
    ("lora_config", "loraplus_lr_ratio"): ("lora", ["--loraplus-lr-ratio", "16"], ["losses"]),
    ("lora_config", "modules_to_save"): (
        "lora",
        ["--modules-to-save", "norm"],
        ["losses", "trained_parameters"],
    ),
    ("quantization_config", "load_in_4bit"): ("qlora", ["--no-load-in-4bit"], ["losses"]),
    ("quantization_config", "bnb_4bit_compute_dtype"): (
        "qlora",
        ["--bnb-4bit-compute-dtype", "bfloat16"],
        ["losses"],
    ),
    ("quantization_config", "bnb_4bit_use_double_quant"): (
        "qlora",
        ["--no-bnb-4bit-use-double-quant"],
        ["losses"],
    ),
    ("quantization_config", "bnb_4bit_quant_type"): (
        "qlora",
        ["--bnb-4bit-quant-type", "fp4"],
        ["losses"],
    ),
}
BESIDE: dict[tuple[str, str], tuple[str, ...]] = {
    ("hyperparameters", "min_lr_rate"): (
        *("--lr-scheduler-type", "cosine_with_min_lr"),
        *("--min-lr-rate", "0.1"),
    ),
    ("hyperparameters", "sample_max_new_tokens"): ("--sample-generations", "1"),
    # Too fast to learn: the held-out loss rises.
    ("hyperparameters", "early_stopping_patience"): ("--learning-rate", "1", "--eval-steps", "1"),
    ("hyperparameters", "load_best_model_at_end"): ("--learning-rate", "1", "--eval-steps", "1"),
    ("hyperparameters", "early_stopping_threshold"): (
        *("--early-stopping-patience", "1"),
        *("--eval-steps", "2"),
    ),
}
"""Flags of both runs, without which the setting could not show."""

ELSEWHERE = {
    # Older spellings of loraConfig; test_options.py shows that they become those.
    ("hyperparameters", "lora_rank"),
    ("hyperparameters", "lora_alpha"),
    # They need rows of another shape; test_dpo.py shows what they change.
    ("hyperparameters", "objective"),
    ("hyperparameters", "beta"),
    # One process has nothing to share out; test_processes.py and test_measured.py have two.
    ("hyperparameters", "fsdp"),
    # It takes a minute, and changes no figure; test_compiled.py shows both.
    ("hyperparameters", "torch_compile"),
    # test_tracking.py reads with each tracker's own reader what it was told.
    ("hyperparameters", "report_to"),
}


@dataclass(frozen=True)
class Seen:
    """What a run leaves for others to see."""

    losses: list[float]
    rates: list[float]
    tokens: list[int]
    steps: int
    planned: int
    epoch: float
    weights: str
    evaluated_at: list[int]
    checkpoints: list[str]
    cut: int
    trained_parameters: int
    precision: str
    lines_logged: int
    told_fp16: bool
    layer_calls: int
    asked: int
    answers: list[str]


class Trainer:
    """Runs the trainer in this process and collects what can be seen of it."""

    def __init__(
        self, model: Path, data: Path, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        self._arguments = ("--model-id", str(model), "--dataset-path", str(data))
        self._folder = folder
        self._caplog = caplog

    def run(self, name: str, *flags: str) -> Seen:
        output = self._folder / name
        self._caplog.clear()
        with _counted_layers() as calls:
            code = main([*self._arguments, "--output-dir", str(output), *BASELINE, *flags])
        assert code == 0
        return self._seen(output, len(calls))

    def _seen(self, output: Path, layer_calls: int) -> Seen:
        text = (output / "loss_history.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        info = json.loads((output / "training_info.json").read_text(encoding="utf-8"))
        answers = [line.answer for line in read_lines(output / "samples.jsonl", SampleLine)]
        told = [record.getMessage() for record in self._caplog.records]
        return Seen(
            losses=[line["loss"] for line in lines],
            rates=[line["learning_rate"] for line in lines],
            tokens=[line["tokens"] for line in lines],
            steps=len(lines),
            planned=info["results"]["total_steps"],
            epoch=info["results"]["epoch"],
            weights=sha256_of(output / "adapter_model.safetensors"),
            evaluated_at=[line["step"] for line in lines if "eval_loss" in line],
            checkpoints=sorted(path.name for path in (output / "checkpoints").iterdir()),
            cut=info["dataset"]["cut_examples"],
            trained_parameters=info["results"]["trained_parameters"],
            precision=info["environment"]["precision"],
            lines_logged=sum(" tokens/s " in line for line in told),
            told_fp16=any("fp16 needs a GPU" in line for line in told),
            layer_calls=layer_calls,
            asked=len(answers),
            answers=answers,
        )


@contextmanager
def _counted_layers() -> Iterator[list[None]]:
    """Counts forward passes of layers: recomputing them is what checkpointing does."""
    from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP

    original = Qwen2MLP.forward
    calls: list[None] = []

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        return original(self, *args, **kwargs)

    Qwen2MLP.forward = forward
    try:
        yield calls
    finally:
        Qwen2MLP.forward = original


_baselines: dict[tuple[str, ...], Seen] = {}


@pytest.fixture
def trainer(
    tiny_model: Path, rows_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Trainer:
    caplog.set_level("INFO")
    return Trainer(tiny_model, rows_file, tmp_path, caplog)


def baseline(trainer: Trainer, method: str, *beside: str) -> Seen:
    """The few that many cases are compared with: trained once each."""
    if (method, *beside) not in _baselines:
        _baselines[method, *beside] = trainer.run("baseline", "--method", method, *beside)
    return _baselines[method, *beside]


@pytest.mark.parametrize("setting", CASES, ids=".".join)
def test_the_setting_changes_what_it_says(setting: tuple[str, str], trainer: Trainer) -> None:
    method, flags, evidence = CASES[setting]
    beside = BESIDE.get(setting, ())
    before = asdict(baseline(trainer, method, *beside))
    after = asdict(trainer.run("changed", "--method", method, *beside, *flags))
    unchanged = [name for name in evidence if before[name] == after[name]]
    assert not unchanged, f"{setting} left {unchanged} as they were"


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_same_settings_change_nothing(method: str, trainer: Trainer) -> None:
    again = trainer.run("again", "--method", method)
    assert asdict(again) == asdict(baseline(trainer, method))


def test_no_setting_is_forgotten_here() -> None:
    models: dict[str, type[BaseModel]] = {
        "hyperparameters": Hyperparameters,
        "lora_config": LoraConfig,
        "quantization_config": QuantizationConfig,
    }
    settings = {(prefix, name) for prefix, model in models.items() for name in model.model_fields}
    assert settings == {*CASES, *ELSEWHERE}
