"""The verdict on the trained model, from the validation Job and the last words of its container.

Nothing that is missing, garbled or contradictory ever counts as passed.
"""

import re

from finetuning.api.v1alpha1 import CheckStatus, FineTuningJob, ValidationPhase, ValidationStatus
from finetuning.artifacts import VALIDATION_DIR, VALIDATION_REPORT_TEXT
from finetuning.artifacts.models import Check, CheckResult, ValidationResult, render_report
from finetuning.controller import last_words, naming
from finetuning.controller.desired import sources
from finetuning.controller.last_words import plain
from finetuning.controller.observed import BatchJob, Container, Pod
from finetuning.controller.training_status import Seen, trouble

REQUIRED_CHECKS = ("training_loss", "model_output", "checkpoint_integrity", "aim_profile")
"""What a validation in the cluster must have passed, whatever the report itself requires."""

REPORT_LIMIT = 4096
_CHECK_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_OVER = (ValidationPhase.PASSED, ValidationPhase.FAILED, ValidationPhase.ERROR)


class NoVerdictError(Exception):
    """The validator's answer cannot be used; says why."""


def is_over(status: ValidationStatus | None) -> bool:
    return status is not None and status.phase in (*_OVER, ValidationPhase.SKIPPED)


def validation_status(seen: Seen, manifest: str | None = None) -> ValidationStatus:
    """The next state of status.validation; what is over stays as it is.

    `manifest` is the sha256 of the manifest that the trainer wrote, when it has just ended.
    """
    job = seen.job
    old = job.status.validation
    if old is not None and is_over(old):
        return old
    if not job.spec.validation.enabled:
        return ValidationStatus(phase=ValidationPhase.SKIPPED, summary="validation is turned off")
    begun = old or ValidationStatus(
        phase=ValidationPhase.PENDING,
        job_name=naming.names(job.metadata.name).validation,
        manifest_sha256=manifest or "",
    )
    found = seen.children.validation
    if found is not None and found.finished:
        return _judged(job, begun, found, seen.children.validation_pods)
    return begun.model_copy(update=_underway(seen))


def _underway(seen: Seen) -> dict[str, object]:
    """Running from the start unless something stands against it: the Pod's start is no news."""
    problem, pods = seen.validation_problem, seen.children.validation_pods
    if problem is not None:
        phase = ValidationPhase.ERROR if problem.final else ValidationPhase.PENDING
        return {"phase": phase, "summary": plain(problem.message, 128)}
    found = trouble(pods[0], seen.hint) if pods else None
    words = f"{found[0]}: {found[1]}" if found else seen.hint
    if words:
        return {"phase": ValidationPhase.PENDING, "summary": plain(words, 128)}
    return {"phase": ValidationPhase.RUNNING, "summary": "checks are running"}


def _judged(
    job: FineTuningJob, begun: ValidationStatus, found: BatchJob, pods: tuple[Pod, ...]
) -> ValidationStatus:
    ended = (pod.container(naming.VALIDATION_CONTAINER) for pod in pods)
    container = next((each for each in ended if each and each.exit_code is not None), None)
    mark = found.failed or found.complete
    times = {
        "start_time": container.started_at if container else begun.start_time,
        "completion_time": found.completion_time or (mark.since if mark else None),
    }
    try:
        result = _result(found, container, begun.manifest_sha256)
    except NoVerdictError as error:
        outcome: dict[str, object] = {
            "phase": ValidationPhase.ERROR,
            "summary": plain(str(error), 128),
        }
    else:
        outcome = _outcome(job, result)
    return begun.model_copy(update={**times, **outcome})


def _result(found: BatchJob, container: Container | None, manifest: str) -> ValidationResult:
    """The report made fit to be shown; raises NoVerdictError."""
    if found.failed is not None and found.failed.reason == "DeadlineExceeded":
        raise NoVerdictError("the validation ran longer than its deadline")
    if container is None:
        raise NoVerdictError("the validation pod left no report")
    reported = last_words.validation_result(container)
    if reported is None:
        raise NoVerdictError(_no_report(container))
    result = _cleaned(reported)
    if container.exit_code not in {0, 1}:
        raise NoVerdictError(f"the validator ended with exit code {container.exit_code}")
    if result.ok != (container.exit_code == 0):
        raise NoVerdictError(f"the report contradicts exit code {container.exit_code}")
    if manifest and result.manifest_sha256 and manifest != result.manifest_sha256:
        raise NoVerdictError("the model changed between training and validation")
    return result


def _no_report(container: Container) -> str:
    if container.exit_reason == "OOMKilled":
        return "OOMKilled: the validator needs more memory (spec.resources.limits.memory)"
    line = last_words.last_line(container)
    return f"no report, exit code {container.exit_code}. {line}".rstrip()


def _cleaned(reported: ValidationResult) -> ValidationResult:
    """Own the list of required checks: the report came from a container, not from us."""
    by_name: dict[str, Check] = {}
    for check in reported.checks:
        if _CHECK_NAME.fullmatch(check.name) is None or check.name in by_name:
            raise NoVerdictError("the report has a broken or repeated check name")
        by_name[check.name] = _clean(check)
    for name in REQUIRED_CHECKS:
        by_name.setdefault(name, _missing(name))
    order = [*REQUIRED_CHECKS, *(name for name in by_name if name not in REQUIRED_CHECKS)]
    checks = [by_name[name] for name in order]
    return ValidationResult(checks=checks, manifest_sha256=reported.manifest_sha256)


def _clean(check: Check) -> Check:
    return Check(
        name=check.name,
        result=check.result,
        required=check.name in REQUIRED_CHECKS or check.required,
        score=check.score,
        reason=plain(check.reason, 64),
        message=plain(check.message, 256),
    )


def _missing(name: str) -> Check:
    return Check(
        name=name, result=CheckResult.ERROR, reason="Missing", message="The check did not report."
    )


def _outcome(job: FineTuningJob, result: ValidationResult) -> dict[str, object]:
    report = f"{VALIDATION_DIR}/{VALIDATION_REPORT_TEXT}"
    return {
        "phase": ValidationPhase.PASSED if result.ok else ValidationPhase.FAILED,
        "summary": f"{result.passed}/{result.total} checks passed",
        "passed": result.passed,
        "total": result.total,
        "checks": [_shown(check) for check in result.checks],
        "report": render_report(result)[:REPORT_LIMIT],
        "report_path": sources.output(job).uri(report),
        "manifest_sha256": result.manifest_sha256 or "",
    }


def _shown(check: Check) -> CheckStatus:
    return CheckStatus(
        name=check.name,
        result=check.result.value,
        required=check.required,
        score=check.score,
        reason=check.reason,
        message=check.message,
    )


def failed_checks(status: ValidationStatus) -> str:
    """The required checks that did not pass, with what they said."""
    bad = [check for check in status.checks if check.required and check.result != CheckResult.PASS]
    return "; ".join(f"{check.name}: {check.message}" for check in bad)
