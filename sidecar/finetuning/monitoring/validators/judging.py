"""The run of validate_job: arguments to checks, their verdict to people, kubelet and files."""

import argparse
import os
import sys
from pathlib import Path

from finetuning.artifacts import MANIFEST, TERMINATION_LOG_ENV
from finetuning.artifacts.exits import ValidatorExit
from finetuning.artifacts.files import write_atomic
from finetuning.artifacts.manifest import read_manifest, sha256_of
from finetuning.artifacts.models import CheckResult, JudgedFiles, ValidationResult, render_report
from finetuning.monitoring.validators.arguments import Job, UsageError, read_arguments
from finetuning.monitoring.validators.checks import model_output
from finetuning.monitoring.validators.outcome import CheckOutcome
from finetuning.monitoring.validators.reasons import CHECKS, may_pass
from finetuning.monitoring.validators.report import html_text, json_text, last_words, result_of
from finetuning.monitoring.validators.subject import find_checkpoints
from finetuning.monitoring.validators.validator import FineTuningValidator


def judge(args: argparse.Namespace) -> ValidatorExit:
    """Of what was typed; what is wrong with it is said here."""
    try:
        job = read_arguments(args)
    except UsageError as error:
        for line in str(error).splitlines():
            _say(f"error: {line}")
        return ValidatorExit.INVALID
    _announce(job)
    outcomes = FineTuningValidator(job.settings, _Progress(job)).run_all_checks(
        job.training_info, job.model_path, job.checkpoint_path, job.profile_path
    )
    result = result_of(outcomes, _manifest_digest(job), _judged_files(job))
    return _deliver(job, result, outcomes)


def _deliver(job: Job, result: ValidationResult, outcomes: list[CheckOutcome]) -> ValidatorExit:
    """Print, tell kubelet, write the files; a verdict that kubelet has stands without the files."""
    text, details = render_report(result), json_text(result, outcomes)
    # Whatever the locale says: the report's marks are not ASCII.
    sys.stdout.buffer.write(f"{details if job.as_json else text}\n".encode())
    sys.stdout.flush()
    told = _tell_kubelet(result)
    try:
        if job.output is not None:
            write_atomic(job.output, f"{text}\n".encode())
            write_atomic(job.output.with_suffix(".json"), f"{details}\n".encode())
            page = html_text(result, outcomes)
            write_atomic(job.output.with_suffix(".html"), page.encode(errors="replace"))
    except OSError as error:
        _say(f"error: --output {job.output}: {error.strerror}")
        if not told:
            return ValidatorExit.INVALID
    return exit_code(result, in_a_pod=told)


def exit_code(result: ValidationResult, *, in_a_pod: bool) -> ValidatorExit:
    """People are told whether the model may be used; a pod's Job whether to try again besides."""
    if result.ok:
        return ValidatorExit.PASSED
    bad = [check for check in result.required if not check.passed]
    passing = all(each.result is CheckResult.ERROR and may_pass(each.reason) for each in bad)
    return ValidatorExit.TRY_AGAIN if in_a_pod and bad and passing else ValidatorExit.NOT_PASSED


class _Progress:
    """A line on stderr when a check begins and when it ends: loading a model takes long."""

    def __init__(self, job: Job) -> None:
        whole = job.settings.require_all or model_output.can_load(job.model_path)
        self._total = len(CHECKS) if whole else len(CHECKS) - 1
        self._count = 0

    def __call__(self, name: str, found: CheckOutcome | None, seconds: float) -> None:
        if found is None:
            self._count += 1
            hint = " (loading the model)" if name == model_output.NAME else ""
            _say(f"{self._count}/{self._total} {name}{hint} ...")
        else:
            _say(f"{self._count}/{self._total} {name}: {found.result} ({seconds:.1f} s)")


def _announce(job: Job) -> None:
    checkpoints = find_checkpoints(job.checkpoint_path, job.model_path)
    if checkpoints != job.checkpoint_path and job.checkpoint_path is not None:
        _say(f"--checkpoint-path {job.checkpoint_path}: taking {checkpoints}")
    if not job.settings.require_all and not model_output.can_load(job.model_path):
        library = model_output.missing_library()
        why = f"{library} is not installed" if library else f"{job.model_path} holds no model"
        _say(f"model_output is left out, since {why}; --require-all makes it count")


def _manifest_digest(job: Job) -> str | None:
    """Binds the verdict to the very files that were judged."""
    path = job.model_path / MANIFEST
    return sha256_of(path) if path.is_file() and not path.is_symlink() else None


def _judged_files(job: Job) -> JudgedFiles | None:
    try:
        sizes = [entry.size for entry in read_manifest(job.model_path).files.values()]
        return JudgedFiles(files=len(sizes), size_bytes=sum(sizes))
    except ValueError:
        return None  # checkpoint_integrity says what is wrong with it.


def _tell_kubelet(result: ValidationResult) -> bool:
    """In place: in a pod the file is a mount, over which nothing can be renamed."""
    path = os.environ.get(TERMINATION_LOG_ENV)
    if not path:
        return False
    try:
        Path(path).write_bytes(last_words(result))
    except OSError as error:
        _say(f"the termination message {path} cannot be written: {error.strerror}")
        return False
    return True


def _say(text: str) -> None:
    print(f"validate_job: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a command line
