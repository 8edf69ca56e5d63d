"""Flags, file and environment: what wins, and how a wrong value is refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cost import cpu_seconds, import_of_pydantic

from finetuning.api.hyperparameters import Hyperparameters, LoraConfig, QuantizationConfig
from finetuning.api.run_config import RunConfig
from finetuning.base.errors import ConfigError
from finetuning.base.options import FLAGS, Options, command_line, parse
from finetuning.base.unknown_flags import _ELSEWHERE

NEEDED = ["--model-id", "org/model", "--dataset-path", "rows.jsonl"]
ENV = "FINETUNING_RUN_CONFIG"


def options(*flags: str, env: dict[str, Any] | None = None, path: Path | None = None) -> Options:
    environ = {ENV: json.dumps(env)} if env else {}
    config = ["--config", str(path)] if path else []
    return parse([*flags, *config], environ)


def refusal(*flags: str, env: dict[str, Any] | None = None, path: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        options(*flags, env=env, path=path)
    return str(caught.value)


def file(tmp_path: Path, data: Any) -> Path:
    path = tmp_path / "run.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def test_the_command_of_the_specification_is_read_as_written() -> None:
    command = (
        "--model-id Qwen/Qwen2.5-7B-Instruct --dataset-path templates/example_dataset.jsonl "
        "--output-dir ./output --method lora --enable-metrics --metrics-port 8000"
    )
    found = options(*command.split())
    assert found.config.model_id == "Qwen/Qwen2.5-7B-Instruct"
    assert found.config.dataset.path == "templates/example_dataset.jsonl"
    assert found.config.output_dir == "./output"
    assert found.config.method == "lora"
    assert found.metrics_port == 8000


def test_metrics_are_off_until_they_are_asked_for() -> None:
    assert options(*NEEDED).metrics_port is None
    assert options(*NEEDED, "--metrics-port", "9000").metrics_port is None


def test_a_flag_beats_the_file_which_beats_the_environment_which_beats_the_default(
    tmp_path: Path,
) -> None:
    env = {
        "modelId": "from/env",
        "dataset": {"path": "env.jsonl"},
        "hyperparameters": {"epochs": 7, "batchSize": 7, "learningRate": 0.7},
    }
    path = file(tmp_path, {"hyperparameters": {"batch_size": 8, "learning_rate": 0.8}})
    found = options("--learning-rate", "0.9", env=env, path=path).config
    settings = found.hyperparameters
    assert found.model_id == "from/env"
    assert (settings.epochs, settings.batch_size, settings.learning_rate) == (7, 8, 0.9)
    assert settings.seed == Hyperparameters().seed


def test_what_the_operator_encodes_is_what_the_trainer_decodes() -> None:
    config = RunConfig.model_validate(
        {
            "job_name": "a",
            "model_id": "m/$(HOME)",
            "dataset": {"path": "p", "eval_split": 0.1},
            "hyperparameters": {"bf16": True, "max_steps": 3},
            "lora_config": {"r": 4, "target_modules": ["q_proj"]},
            "quantization_config": {"load_in_4bit": False},
        }
    )
    assert parse([], {ENV: config.encode()}).config == config


def test_the_prototypes_configuration_file_is_read(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        {
            "model_id": "Qwen/Qwen2.5-7B-Instruct",
            "method": "lora",
            "dataset": {"path": "/workspace/data/train.jsonl", "format": "jsonl"},
            "hyperparameters": {"learning_rate": 2e-4, "logging_steps": 10, "fp16": True},
            "lora_config": {"r": 8, "target_modules": ["q_proj"], "bias": "none"},
            "output_dir": "/workspace/output",
        },
    )
    found = options(path=path).config
    assert (found.output_dir, found.lora_config.r) == ("/workspace/output", 8)
    assert found.hyperparameters.logging_steps == 10


@pytest.mark.parametrize(
    ("hyperparameters", "lora", "flags", "expected"),
    [
        ({"lora_rank": 4, "lora_alpha": 8}, {}, [], (4, 8)),
        ({"loraRank": 4}, {"r": 6}, [], (6, 32)),
        ({"lora_rank": 4}, {}, ["--lora-rank", "2"], (2, 32)),
        ({}, {}, ["--lora-alpha", "64"], (16, 64)),
    ],
)
def test_the_older_spelling_of_the_adapter_counts_where_the_newer_is_silent(
    tmp_path: Path,
    hyperparameters: dict[str, int],
    lora: dict[str, int],
    flags: list[str],
    expected: tuple[int, int],
) -> None:
    path = file(tmp_path, {"hyperparameters": hyperparameters, "lora_config": lora})
    found = options(*NEEDED, *flags, path=path).config.lora_config
    assert (found.r, found.lora_alpha) == expected


def test_every_setting_has_a_flag() -> None:
    paths = {flag.path for flags in FLAGS.values() for flag in flags}
    for prefix, model in (
        ("hyperparameters", Hyperparameters),
        ("lora_config", LoraConfig),
        ("quantization_config", QuantizationConfig),
    ):
        wanted = {(prefix, name) for name in model.model_fields}
        older = {("hyperparameters", "lora_rank"), ("hyperparameters", "lora_alpha")}
        assert wanted - older <= paths


def test_lists_may_be_given_with_blanks_or_commas() -> None:
    found = options(*NEEDED, "--target-modules", "a,b", "c").config.lora_config
    assert found.target_modules == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--model-id is required", "--dataset-path is required"]),
        ([*NEEDED, "--method", "lorra"], ["--method", "'lorra'", "'lora', 'qlora' or 'full'"]),
        ([*NEEDED, "--lora-rank", "-1"], ["--lora-rank", "'-1'", "greater than or equal to 1"]),
        ([*NEEDED, "--batch-size", "few"], ["--batch-size", "'few'", "valid integer"]),
        ([*NEEDED, "--learning-rate", "nan"], ["--learning-rate", "finite number"]),
        ([*NEEDED, "--eval-split", "0.9"], ["--eval-split", "at most 0.5"]),
        ([*NEEDED, "--metrics-port", "0"], ["--metrics-port", "'0'", "1 to 65535"]),
        ([*NEEDED, "--config", "/nowhere.json"], ["--config /nowhere.json", "No such file"]),
        ([*NEEDED, "--target-modules", "a/b"], ["--target-modules", "'a/b'"]),
        ([*NEEDED, "--lr-scheduler-type", "step"], ["--lr-scheduler-type", "'inverse_sqrt'"]),
        ([*NEEDED, "--loraplus-lr-ratio", "0.5"], ["--loraplus-lr-ratio", "'0.5'", "equal to 1"]),
        ([*NEEDED, "--warmup-ratio", "1"], ["--warmup-ratio", "'1'", "less than 1"]),
        ([*NEEDED, "--neftune-noise-alpha", "0"], ["--neftune-noise-alpha", "greater than 0"]),
        (
            [*NEEDED, "--early-stopping-patience", "2"],
            ["--early-stopping-patience needs rows", "set --eval-split"],
        ),
        (
            [*NEEDED, "--load-best-model-at-end"],
            ["--load-best-model-at-end needs rows", "set --eval-split"],
        ),
        (
            [*NEEDED, "--early-stopping-threshold", "1"],
            ["--early-stopping-threshold does nothing without --early-stopping-patience"],
        ),
        (
            [*NEEDED, "--method", "full", "--use-dora"],
            ["--use-dora is an option of the adapter", "set --method to lora or qlora"],
        ),
        (
            [*NEEDED, "--lr-scheduler-type", "cosine_with_min_lr"],
            ["--min-lr-rate and --lr-scheduler-type cosine_with_min_lr need each other"],
        ),
        (
            [*NEEDED, "--lr-scheduler-type", "constant", "--warmup-ratio", "0.1"],
            ["--warmup-ratio does nothing with --lr-scheduler-type constant"],
        ),
        ([*NEEDED, "--beta", "0.2"], ["--beta is the strength of --objective dpo", "drop --beta"]),
        (
            [*NEEDED, "--objective", "dpo", "--packing"],
            ["--packing true does not go with --objective dpo"],
        ),
        (
            [*NEEDED, "--dataset-columns", "promt=q"],
            ["--dataset-columns: unknown name 'promt'; known: ", "prompt"],
        ),
        ([*NEEDED, "--objective", "ppo"], ["--objective", "'ppo'", "'sft' or 'dpo'"]),
        (
            [*NEEDED, "--target-modules", "all-linear", "q_proj"],
            ["--target-modules: all-linear stands alone"],
        ),
        (
            [*NEEDED, "--modules-to-save", "q_proj"],
            ["--modules-to-save and --target-modules name the same layer"],
        ),
    ],
)
def test_a_wrong_flag_is_refused_by_its_name(flags: list[str], words: list[str]) -> None:
    message = refusal(*flags)
    assert all(word in message for word in words), message


def test_a_wrong_value_in_the_environment_is_refused_by_its_place() -> None:
    env = {"modelId": "m", "dataset": {"path": "p"}, "hyperparameters": {"epochs": 0}}
    assert "$FINETUNING_RUN_CONFIG: hyperparameters.epochs: 0 is not allowed" in refusal(env=env)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{", "not valid JSON"),
        ("[1]", "found a JSON list; give one object"),
        ({"hyperparameters": {"epoch": 1}}, "did you mean 'epochs'?"),
        ({"lora_config": {"bias": "all"}}, "unknown setting 'lora_config.bias'"),
        ({"trust_remote_code": True}, "unknown setting 'trust_remote_code'"),
        ({"hyperparameters": 3}, "hyperparameters: 3 is not allowed"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name(tmp_path: Path, data: Any, words: str) -> None:
    message = refusal(*NEEDED, path=file(tmp_path, data))
    assert words in message
    assert str(tmp_path / "run.json") in message


def test_an_unknown_flag_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([*NEEDED, "--learning-rat", "1"], {})
    assert caught.value.code == 2
    assert "--learning-rat" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batch_size", "4"], "--batch-size is written with hyphens"),
        (
            ["--per_device_train_batch_size=4"],
            "for --per-device-train-batch-size give --batch-size",
        ),
        (["--learning-rat", "1"], "for --learning-rat give --learning-rate"),
        (["--load-in-8bit"], "give --method qlora, which is 4 bit"),
        (["--packing", "true"], "takes no true: --name sets it, --no-name clears it"),
        (["--zzz"], "unrecognized arguments: --zzz; see --help for the flags there are"),
    ],
)
def test_an_unknown_flag_is_told_what_would_be_right(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([*NEEDED, *flags], {})
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_flags_are_proposed_that_are_there() -> None:
    known = {flag for action in command_line()._actions for flag in action.option_strings}
    proposed = {each.split()[0] for each in _ELSEWHERE.values() if each.startswith("--")}
    assert proposed <= known
    assert not known & _ELSEWHERE.keys()


APP = (sys.executable, "-m", "finetuning.base.app")


def test_help_is_grouped_and_shows_examples() -> None:
    done = subprocess.run([*APP, "--help"], capture_output=True, text=True, check=True)
    for words in ("model and data:", "adapter (lora, qlora):", "--lora-rank N", "examples:"):
        assert words in done.stdout


def test_help_costs_little_more_than_reading_the_options() -> None:
    assert cpu_seconds(*APP, "--help") < 4 * import_of_pydantic()


@pytest.mark.parametrize("flag", ["--model-id", "--dataset-path"])
def test_an_empty_name_is_not_the_current_folder(flag: str) -> None:
    assert f"{flag}: '' is not allowed" in refusal(*NEEDED, flag, "")
