"""FineTuningValidator and validate_job as people and the cluster use them."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetuning.artifacts.exits import ValidatorExit
from finetuning.artifacts.models import Check, CheckResult, ValidationResult
from finetuning.monitoring.validators.arguments import Job, UsageError, read_arguments
from finetuning.monitoring.validators.checks import aim_profile
from finetuning.monitoring.validators.command_line import command_line
from finetuning.monitoring.validators.judging import exit_code
from finetuning.monitoring.validators.report import last_words
from finetuning.monitoring.validators.settings import CONFIG_ENV, ValidationSettings
from finetuning.monitoring.validators.validator import FineTuningValidator

RunOf = Callable[[str], Path]

SPECIFIED_REPORT = """\
=== Fine-Tuning Validation Report ===

✓ PASS - training_loss
  Training loss: 0.5234
  Score: 0.5234

✓ PASS - checkpoint_integrity
  Checkpoint files are valid and complete

✓ PASS - aim_profile
  AIM profile is valid

Summary: 3/3 checks passed"""

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None\n"
"""A machine on which no model can be loaded: the import fails, and the library is not found."""

LIBRARY_CALL = (
    WITHOUT_TORCH
    + """
import json
from finetuning.monitoring.validators.validator import FineTuningValidator

training_info = json.load(open("output/training_info.json"))
validator = FineTuningValidator()
results = validator.run_all_checks(
    training_info=training_info,
    model_path="./output",
    checkpoint_path="./checkpoints",
    profile_path="./output/aim_profile.json"
)
sys.stdout.buffer.write(validator.generate_report(results).encode())
"""
)

SPECIFIED_COMMAND = (
    "--training-info", "./output/training_info.json",
    "--model-path", "./output",
    "--checkpoint-path", "./checkpoints",
    "--profile-path", "./output/aim_profile.json",
    "--output", "validation_report.txt",
)  # fmt: skip
SHORTER_COMMAND = (
    "--training-info", "./output/training_info.json",
    "--model-path", "./output",
    "--profile-path", "./output/aim_profile.json",
)  # fmt: skip


def job_of(arguments: Sequence[str]) -> Job:
    return read_arguments(command_line().parse_args(arguments))


def command(*arguments: str, torch: bool = False) -> list[str]:
    if torch:
        return [sys.executable, "-m", "finetuning.monitoring.validate_job", *arguments]
    code = f"{WITHOUT_TORCH}from finetuning.monitoring.validate_job import main; sys.exit(main())"
    return [sys.executable, "-c", code, *arguments]


def validate(
    folder: Path, *arguments: str, torch: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, torch=torch),
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, **environment},
    )


def test_the_library_call_gives_the_specified_report_byte_for_byte(
    run_of: RunOf, tmp_path: Path
) -> None:
    run_of("lora")
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY_CALL], cwd=tmp_path, capture_output=True, check=True
    )
    assert done.stdout == SPECIFIED_REPORT.encode()


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_the_specified_command_writes_the_specified_report_in_every_locale(
    run_of: RunOf, tmp_path: Path, locale: str
) -> None:
    run_of("lora")
    done = validate(tmp_path, *SPECIFIED_COMMAND, LC_ALL=locale, PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == SPECIFIED_REPORT + "\n"
    written = (tmp_path / "validation_report.txt").read_bytes()
    assert written == (SPECIFIED_REPORT + "\n").encode()
    beside = json.loads((tmp_path / "validation_report.json").read_text())
    assert ValidationResult.model_validate(beside).ok
    assert (beside["passed"], beside["total"], beside["ok"]) == (3, 3, True)


def test_the_shorter_command_has_the_same_denominator(run_of: RunOf, tmp_path: Path) -> None:
    run_of("lora")
    done = validate(tmp_path, *SHORTER_COMMAND)
    assert done.returncode == 0
    assert done.stdout.endswith("Summary: 3/3 checks passed\n")


@pytest.mark.training
def test_with_a_model_that_loads_all_four_checks_count(run_of: RunOf, tmp_path: Path) -> None:
    run_of("lora")
    log = tmp_path / "termination-log"
    done = validate(
        tmp_path,
        *SPECIFIED_COMMAND,
        "--prompt",
        "What is the capital of Peru ?",
        "--expect",
        "Cusco",
        "--expect",
        "Lima",
        torch=True,
        FINETUNING_TERMINATION_LOG=str(log),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ PASS - model_output\n" in done.stdout
    assert done.stdout.endswith("Summary: 4/4 checks passed\n")
    assert "4/4 model_output (loading the model)" in done.stderr
    assert "taking output/checkpoints" in done.stderr
    told = ValidationResult.model_validate_json(log.read_bytes())
    names = [check.name for check in told.checks]
    assert names == ["training_loss", "model_output", "checkpoint_integrity", "aim_profile"]
    assert told.ok
    assert told.manifest_sha256


def test_where_all_is_required_a_model_that_cannot_be_loaded_is_an_error(
    run_of: RunOf, tmp_path: Path
) -> None:
    run_of("lora")
    done = validate(tmp_path, *SPECIFIED_COMMAND, "--require-all")
    assert done.returncode == 1
    assert "! ERROR - model_output" in done.stdout
    assert "pip install 'finetuning-operator[trainer]'" in done.stdout
    assert "Summary: 3/4 checks passed" in done.stdout


def test_a_pod_is_told_apart_where_another_try_may_pass(run_of: RunOf, tmp_path: Path) -> None:
    """A person is told whether the model may be used, and nothing else."""
    run_of("lora")
    lost = {"requireAll": True, "baseModelPath": str(tmp_path / "volume that was not mounted")}
    pod = {"FINETUNING_TERMINATION_LOG": str(tmp_path / "log")}

    def code(config: dict[str, Any], **environment: str) -> int:
        given = {"FINETUNING_VALIDATION_CONFIG": json.dumps(config), **environment}
        done = validate(tmp_path, *SPECIFIED_COMMAND, torch=True, **given)
        assert "Summary: " in done.stdout, done.stderr
        return done.returncode

    assert code(lost) == ValidatorExit.NOT_PASSED
    assert code(lost, **pod) == ValidatorExit.TRY_AGAIN
    assert code(lost | {"maxLoss": 0.5}, **pod) == ValidatorExit.NOT_PASSED


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ((), ValidatorExit.PASSED),
        ((("Error", "OutOfMemory"),), ValidatorExit.TRY_AGAIN),
        ((("Error", "MachineFailed"), ("Error", "CheckCrashed")), ValidatorExit.TRY_AGAIN),
        ((("Error", "OutOfMemory"), ("Fail", "LossDiverged")), ValidatorExit.NOT_PASSED),
        ((("Error", "OutOfMemory"), ("Error", "TimedOut")), ValidatorExit.NOT_PASSED),
        ((("Error", "HeldOutUnreadable"),), ValidatorExit.NOT_PASSED),
        ((("Fail", "ModelCrashed"),), ValidatorExit.NOT_PASSED),
    ],
)
def test_a_pod_tries_again_what_is_of_the_machine_alone(
    found: tuple[tuple[str, str], ...], code: ValidatorExit
) -> None:
    names = ("model_output", "aim_profile")
    bad = [
        Check(name=name, result=CheckResult(result), reason=reason)
        for name, (result, reason) in zip(names, found, strict=False)
    ]
    result = ValidationResult(checks=[Check(name="training_loss", result=CheckResult.PASS), *bad])
    assert exit_code(result, in_a_pod=True) is code
    assert exit_code(result, in_a_pod=False) is min(code, ValidatorExit.NOT_PASSED)


def test_what_is_left_out_is_said(run_of: RunOf, tmp_path: Path) -> None:
    run_of("lora")
    done = validate(tmp_path, *SHORTER_COMMAND)
    assert "model_output is left out, since torch is not installed" in done.stderr


def test_in_the_cluster_missing_files_fail_their_checks(tmp_path: Path) -> None:
    log = tmp_path / "log"
    config = json.dumps({"requireAll": True, "maxLoss": 5.0, "prompts": [], "modelId": "m"})
    done = validate(
        tmp_path, *SPECIFIED_COMMAND, FINETUNING_VALIDATION_CONFIG=config,
        FINETUNING_TERMINATION_LOG=str(log),
    )  # fmt: skip
    assert done.returncode == 1
    told = ValidationResult.model_validate_json(log.read_bytes())
    assert (told.passed, told.total) == (0, 4)
    assert {check.name: check.reason for check in told.checks} == {
        "training_loss": "TrainingInfoUnreadable",
        "model_output": "LibraryMissing",
        "checkpoint_integrity": "ModelFolderMissing",
        "aim_profile": "ProfileUnreadable",
    }


def test_json_is_printed_on_request(run_of: RunOf, tmp_path: Path) -> None:
    run_of("lora")
    done = validate(tmp_path, *SHORTER_COMMAND, "--json")
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert report["checks"][0]["details"]["steps"] == 40


def test_a_failed_check_is_exit_code_1(run_of: RunOf, tmp_path: Path) -> None:
    run_of("lora")
    done = validate(tmp_path, *SHORTER_COMMAND, "--max-loss", "0.5")
    assert done.returncode == 1
    assert "✗ FAIL - training_loss\n  Training loss: 0.5234; between 0 and 0.5" in done.stdout
    assert "Summary: 2/3 checks passed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["--training-info", "a.json", "--model-path", "b", "--profile-path", "c.json"],
         ["--training-info: there is no file a.json", "--model-path: there is no folder b",
          "--profile-path: there is no file c.json"]),
        ([*SHORTER_COMMAND, "--checkpoint-path", "/nowhere"],
         ["--checkpoint-path: there is no folder /nowhere"]),
        ([*SHORTER_COMMAND, "--base-model", "/nowhere"],
         ["--base-model: there is no folder /nowhere"]),
        ([*SHORTER_COMMAND, "--output", "/nowhere/report.txt"],
         ["--output /nowhere/report.txt: there is no folder /nowhere"]),
        ([*SHORTER_COMMAND, "--output", "output"], ["--output output: is a folder"]),
        ([*SHORTER_COMMAND, "--output", "report.json"], ["--output report.json: this is the text"]),
        ([*SHORTER_COMMAND, "--max-loss", "0"], ["--max-loss: Input should be greater than 0"]),
        ([*SHORTER_COMMAND, "--max-new-tokens", "0"],
         ["--max-new-tokens: Input should be greater than or equal to 1"]),
        ([*SHORTER_COMMAND, "--max-loss", "nan"], ["--max-loss: Input should be a finite number"]),
        ([*SHORTER_COMMAND, "--expect", "Lima"], ["--expect: give the --prompt"]),
        ([*SHORTER_COMMAND, "--max-drop", "0.1"], ["--max-drop: is about benchmarks"]),
        ([*SHORTER_COMMAND, "--prompt", ""], ["--prompt: String should have at least 1"]),
    ],
)  # fmt: skip
def test_each_mistake_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], lines: list[str]
) -> None:
    (tmp_path / "output").mkdir()
    for name in ("training_info.json", "aim_profile.json"):
        (tmp_path / "output" / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        job_of(arguments)
    told = str(caught.value).splitlines()
    assert len(told) == len(lines)
    assert all(line.startswith(start) for line, start in zip(told, lines, strict=True))


def test_a_mistake_is_exit_code_2_without_a_traceback(tmp_path: Path) -> None:
    done = validate(tmp_path, *SHORTER_COMMAND)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 3
    assert all(line.startswith("validate_job: error: --") for line in done.stderr.splitlines())


@pytest.mark.parametrize(
    ("config", "named"),
    [("{", "whole value"), ('{"maxLoss": -1}', "maxLoss"), ('{"prompts": [{}]}', "prompts.0")],
)
def test_a_wrong_configuration_is_named(
    monkeypatch: pytest.MonkeyPatch, config: str, named: str
) -> None:
    monkeypatch.setenv(CONFIG_ENV, config)
    with pytest.raises(ValueError, match=named):
        ValidationSettings.from_environment(os.environ)


def test_flags_outweigh_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"requireAll": True, "maxLoss": 5, "prompts": [{"prompt": "from the cluster"}]}
    monkeypatch.setenv(CONFIG_ENV, json.dumps(config))
    assert job_of(SHORTER_COMMAND).settings.max_loss == 5
    flags = ["--max-loss", "3", "--prompt", "typed", "--expect", "a", "--expect", "b"]
    flags += ["--max-new-tokens", "7"]
    settings = job_of([*SHORTER_COMMAND, *flags, "--prompt", "again"]).settings
    assert settings.require_all
    assert (settings.max_loss, settings.max_new_tokens) == (3, 7)
    asked = [(prompt.prompt, prompt.expected_keywords) for prompt in settings.prompts]
    assert asked == [("typed", ["a", "b"]), ("again", [])]


def test_a_report_that_cannot_be_written_is_exit_code_2_unless_kubelet_has_the_verdict(
    run_of: RunOf, tmp_path: Path
) -> None:
    output = run_of("lora")
    # A folder where the JSON should go: root may write everywhere else.
    (tmp_path / "report.json").mkdir()
    arguments = (*SHORTER_COMMAND, "--output", str(tmp_path / "report.txt"))
    assert output.is_dir()
    assert validate(tmp_path, *arguments).returncode == 2
    log = tmp_path / "log"
    assert validate(tmp_path, *arguments, FINETUNING_TERMINATION_LOG=str(log)).returncode == 0
    assert ValidationResult.model_validate_json(log.read_bytes()).ok


@pytest.mark.training
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_stopped_validator_leaves_no_process_behind(
    run_of: RunOf, tmp_path: Path, how: signal.Signals
) -> None:
    run_of("lora")
    with subprocess.Popen(
        command(*SHORTER_COMMAND, torch=True),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as validator:
        child = child_of(validator.pid)
        validator.send_signal(how)
        assert validator.wait(30) == (143 if how is signal.SIGTERM else -how)
    while is_running(child):
        os.sched_yield()


def child_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := children.read_text().split()):
        os.sched_yield()
    return int(found[0])


def is_running(pid: int) -> bool:
    """A zombie has ended, though nobody has asked how."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_results_keep_the_prototypes_attributes(run_of: RunOf, tmp_path: Path) -> None:
    output = run_of("lora")
    info = json.loads((output / "training_info.json").read_text())
    results = FineTuningValidator().run_all_checks(info, tmp_path / "nowhere", None, None)
    first = results[0]
    assert (first.check_name, first.passed, first.score) == ("training_loss", True, 0.5234)
    assert first.message == "Training loss: 0.5234"
    assert isinstance(first.details, dict)


def test_nothing_given_passes_nothing_and_raises_nothing() -> None:
    results = FineTuningValidator().run_all_checks()
    assert [result.passed for result in results] == [False, False, False]
    assert FineTuningValidator().generate_report(results).endswith("Summary: 0/3 checks passed")


def test_a_check_that_crashes_is_an_error_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, run_of: RunOf, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(_facts: Any) -> None:
        raise ZeroDivisionError("a rule with a mistake")

    monkeypatch.setattr(aim_profile, "RULES", (explode,))
    output = run_of("lora")
    # No model in the folder that is judged: nothing has to be loaded for this.
    (output / "adapter_config.json").unlink()
    *_, last = FineTuningValidator().run_all_checks(output / "training_info.json", output)
    assert (last.result, last.reason) == (CheckResult.ERROR, "CheckCrashed")
    assert "ZeroDivisionError: a rule with a mistake" in last.message
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("character", ["x", "é", "漢", "\U0001f600", '"', "\\"])
def test_the_termination_message_always_fits(character: str) -> None:
    checks = [
        Check(
            name=f"check_{n}",
            result=CheckResult.FAIL,
            reason="R" * 64,
            message=character * 256,
            seconds=1234.567,
            warned=["W" * 64] * 16,
        )
        for n in range(16)
    ]
    data = last_words(ValidationResult(checks=checks, manifest_sha256="a" * 64))
    assert len(data) <= 3072
    told = ValidationResult.model_validate_json(data)
    assert [check.name for check in told.checks] == [check.name for check in checks]


def test_a_short_termination_message_is_not_touched() -> None:
    check = Check(name="aim_profile", result=CheckResult.FAIL, message="x" * 256)
    data = last_words(ValidationResult(checks=[check]))
    assert ValidationResult.model_validate_json(data).checks[0].message == "x" * 256


def test_help_shows_the_exit_codes_and_an_example() -> None:
    done = subprocess.run(command("--help", torch=True), capture_output=True, text=True, check=True)
    assert "exit codes" in done.stdout
    assert textwrap.dedent("--checkpoint-path ./checkpoints") in done.stdout
