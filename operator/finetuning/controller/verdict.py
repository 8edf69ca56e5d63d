"""The verdict on the trained model, from the validation Job and the last words of its container.

Nothing that is missing, garbled or contradictory ever counts as passed.
"""

import re

from finetuning.api.v1alpha1 import (
    CheckName,
    CheckStatus,
    FineTuningJob,
    FineTuningJobStatus,
    OnFailure,
    Phase,
    Reason,
    ValidatedModel,
    ValidationBaseline,
    ValidationBenchmark,
    ValidationPhase,
    ValidationRerun,
    ValidationStatus,
)
from finetuning.artifacts import VALIDATION_DIR, VALIDATION_REPORT_TEXT
from finetuning.artifacts.exits import ValidatorExit
from finetuning.artifacts.models import Check, CheckResult, ValidationResult, render_report
from finetuning.artifacts.plain import plain
from finetuning.controller import attempts, last_words, naming, observed, obstacles, remedies
from finetuning.controller.attempts import Attempt
from finetuning.controller.desired import sources
from finetuning.controller.observed import BatchJob, Container, Pod
from finetuning.controller.obstacles import Obstacle
from finetuning.controller.training_status import Seen, Standing

REPORT_LIMIT = 4096
CHECKS_LIMIT = 15
"""Of one report; a status has room for one more, which we may add."""

_CHECK_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_REASON_BEFORE = re.compile(f"^({'|'.join(Reason)}): ")
_BAD = (CheckResult.FAIL, CheckResult.ERROR, CheckResult.SKIP)
_REPORTING = (ValidatorExit.PASSED, ValidatorExit.NOT_PASSED, ValidatorExit.TRY_AGAIN)
"""Exit codes with which a report counts."""

_IMAGE_REMEDY = f"mend the chart's images, then give {naming.REVALIDATE_ANNOTATION} a new value"
"""Instead of kubelet's words, which tell less; the room is for one."""
_MORE_MEMORY = "it needs more memory (spec.validation.resources.limits.memory)"
REPORT_TRUNCATED = "ReportTruncated"
_CUT = (
    "the report was cut: kubelet keeps 12 KiB for all {} containers of its pod; it is whole in "
    f"{VALIDATION_DIR}/{VALIDATION_REPORT_TEXT}"
)


class NoVerdictError(Exception):
    """The validator's answer cannot be used; a word for scripts, and why in a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


def validation_status(seen: Seen, manifest: str | None = None) -> ValidationStatus:
    """The next state of status.validation; a verdict stands until there is a newer one.

    `manifest` is the sha256 of the manifest that the trainer wrote, when it has just ended.
    """
    old, attempt = seen.job.status.validation, attempts.missing(seen.job, seen.children)
    written = (old.manifest_sha256 if old is not None else "") or manifest or ""
    if attempt is None:
        return _without_attempt(old, written)
    new = _next(seen, attempt, written)
    if old is None or not attempts.is_over(old) or attempts.is_over(new):
        return new
    rerun = ValidationRerun(
        attempt=new.attempt, job_name=new.job_name, phase=new.phase, summary=new.summary
    )
    return old.model_copy(update={"rerun": rerun})


def _without_attempt(old: ValidationStatus | None, manifest: str) -> ValidationStatus:
    if old is not None and attempts.is_over(old):
        return old.model_copy(update={"rerun": None})
    return ValidationStatus(
        phase=ValidationPhase.SKIPPED,
        result=ValidationPhase.SKIPPED.value,
        reason=Reason.VALIDATION_SKIPPED.value,
        summary="validation is turned off",
        manifest_sha256=manifest,
    )


def _next(seen: Seen, attempt: Attempt, manifest: str) -> ValidationStatus:
    job, found = seen.job, attempt.job
    asked = attempts.question(job)
    begun = ValidationStatus(
        phase=ValidationPhase.PENDING,
        attempt=attempt.number,
        job_name=naming.validation_job(job.metadata.name, attempt.number),
        manifest_sha256=manifest,
        policy=asked.policy,
        revalidate=plain(found.revalidate, 63) if found is not None else asked.revalidate,
        observed_generation=(found and found.generation) or job.metadata.generation,
    )
    waited = _waited_for(job.status.validation, attempt.number)
    if found is not None and found.finished:
        return _judged(job, begun, found, seen.children.validation_pods, waited)
    if waited and found is not None and found.failing is not None:
        # Its Pod is being taken away, and with it goes what stood in its way.
        return changed(begun, reason=Reason.VALIDATION_PENDING.value, summary=waited)
    return changed(begun, **_underway(seen, found))


def _waited_for(old: ValidationStatus | None, attempt: int) -> str:
    """What the status says that stands in an attempt's way; empty when nothing did."""
    told = (old.rerun or old) if old is not None else None
    waits = told is not None and (told.attempt, told.phase) == (attempt, ValidationPhase.PENDING)
    return told.summary if told is not None and waits else ""


def changed(status: ValidationStatus, **update: object) -> ValidationStatus:
    """A copy, with the result as `kubectl get` shows it."""
    new = status.model_copy(update=update)
    result = f"{new.passed}/{new.total}" if new.total else new.phase.value
    return new.model_copy(update={"result": result})


def _underway(seen: Seen, found: BatchJob | None) -> dict[str, object]:
    """Running from the start unless something stands against it: the Pod's start is no news."""
    waits = obstacles.of_validation(seen, found)
    if waits is not None:
        phase = ValidationPhase.ERROR if waits.final else ValidationPhase.PENDING
        summary = plain(_in_the_way(seen.job, waits), 128)
        return {"phase": phase, "reason": waits.reason.value, "summary": summary}
    return {
        "phase": ValidationPhase.RUNNING,
        "reason": Reason.VALIDATION_RUNNING.value,
        "summary": "checks are running",
    }


def _in_the_way(job: FineTuningJob, waits: Obstacle) -> str:
    """The field and the object where one is missing; the room is for little more."""
    match waits.reason:
        case Reason.IMAGE_PULL_FAILED:
            return f"{waits.reason}: {_IMAGE_REMEDY}"
        case Reason.UNSCHEDULABLE | Reason.CONTAINER_CONFIG_ERROR | Reason.PODS_FORBIDDEN:
            return remedies.brief(job, waits.words)
        case _:
            return waits.words


def _judged(
    job: FineTuningJob,
    begun: ValidationStatus,
    found: BatchJob,
    pods: tuple[Pod, ...],
    waited: str,
) -> ValidationStatus:
    """`waited` is what stood in its way when the status was written last."""
    container = observed.ended(pods, naming.VALIDATION_CONTAINER)
    mark = found.failed or found.complete
    times = {
        "start_time": container.started_at if container else None,
        "completion_time": found.completion_time or (mark.since if mark else None),
    }
    try:
        result = _result(job, found, container, pods, waited)
    except NoVerdictError as error:
        outcome: dict[str, object] = {
            "phase": ValidationPhase.ERROR,
            "reason": error.reason,
            "summary": plain(str(error), 128),
        }
    else:
        outcome = _outcome(job, _bound(result, begun.manifest_sha256))
        outcome |= _out_of_memory(outcome, found, container)
        outcome["manifest_sha256"] = begun.manifest_sha256 or result.manifest_sha256 or ""
    image = plain(container.image, 256) if container else ""
    return changed(begun, image=image, **times, **outcome)


def _result(
    job: FineTuningJob,
    found: BatchJob,
    container: Container | None,
    pods: tuple[Pod, ...],
    waited: str,
) -> ValidationResult:
    """The report made fit to be shown; raises NoVerdictError."""
    if found.failed is not None and found.failed.reason == Reason.DEADLINE_EXCEEDED:
        limit = job.spec.validation.timeout_seconds
        text = f"the validation ran longer than spec.validation.timeoutSeconds ({limit} s)"
        if waited:
            # Both fit into the summary only without what can be guessed.
            text = f"timeoutSeconds ({limit} s) is over; {_REASON_BEFORE.sub('', waited)}"
        raise NoVerdictError(Reason.DEADLINE_EXCEEDED.value, text)
    if container is None:
        raise _no_container(found, pods)
    reported = last_words.validation_result(container)
    if reported is None:
        raise _no_report(found, container, pods)
    result = _cleaned(reported, job.spec.validation.checks)
    if container.exit_code not in _REPORTING:
        text = f"the validator ended with exit code {container.exit_code}"
        raise NoVerdictError("ValidatorFailed", text)
    if result.ok != (container.exit_code == 0):
        text = f"the report contradicts exit code {container.exit_code}"
        raise NoVerdictError("ReportInvalid", text)
    return result


def _out_of_memory(
    outcome: dict[str, object], found: BatchJob, container: Container | None
) -> dict[str, object]:
    """A validator whose process with the model was killed still reports, not knowing by whom."""
    killed = container is not None and container.exit_reason == Reason.OOM_KILLED
    if not killed or outcome["phase"] is not ValidationPhase.ERROR:
        return {}
    told = f"OOMKilled{_tried(found)}: {_MORE_MEMORY}"
    return {"reason": Reason.OOM_KILLED.value, "summary": told}


def _tried(found: BatchJob) -> str:
    return f" ({found.failed_pods} pods)" if found.failed_pods > 1 else ""


def _no_container(found: BatchJob, pods: tuple[Pod, ...]) -> NoVerdictError:
    """Evicted, or deleted with all that it had said."""
    words = _of_kubelet(pods) or f"{found.failed_pods} of its pods were lost"
    return NoVerdictError("PodLost", f"the validation pod left no report: {words}")


def _no_report(found: BatchJob, container: Container, pods: tuple[Pod, ...]) -> NoVerdictError:
    tried = _tried(found)
    if container.exit_reason == Reason.OOM_KILLED:
        return NoVerdictError(Reason.OOM_KILLED.value, f"OOMKilled{tried}: {_MORE_MEMORY}")
    if last_words.is_cut(container):
        many = max(len(pod.containers) for pod in pods)
        return NoVerdictError(REPORT_TRUNCATED, _CUT.format(many))
    words = _of_kubelet(pods) or last_words.last_line(container)
    text = f"no report, exit code {container.exit_code}{tried}. {words}".rstrip()
    return NoVerdictError("NoReport", text)


def _of_kubelet(pods: tuple[Pod, ...]) -> str:
    """Why a pod had to go, such as Evicted; empty for pods that ended by themselves."""
    told = (": ".join(part for part in (pod.reason, pod.message) if part) for pod in pods)
    return next((each for each in told if each), "")


def _cleaned(reported: ValidationResult, required: list[CheckName]) -> ValidationResult:
    """Own the list of required checks: the report came from a container, not from us."""
    by_name: dict[str, Check] = {}
    for check in reported.checks:
        if _CHECK_NAME.fullmatch(check.name) is None or check.name in by_name:
            raise NoVerdictError("ReportInvalid", "the report has a broken or repeated check name")
        by_name[check.name] = _clean(check, required)
    for name in required:
        by_name.setdefault(name, _missing(name))
    ours = [name for name in CheckName if name in by_name]
    order = [*ours, *(name for name in by_name if name not in ours)]
    if len(order) > CHECKS_LIMIT:
        raise NoVerdictError("ReportInvalid", f"the report has more than {CHECKS_LIMIT} checks")
    checks = [by_name[name] for name in order]
    return reported.model_copy(update={"checks": checks})


def _bound(result: ValidationResult, written: str) -> ValidationResult:
    """The files that were judged must be those that the training wrote, whatever was checked."""
    if not written or result.manifest_sha256 == written:
        return result
    changed_since = Check(
        name=CheckName.CHECKPOINT_INTEGRITY.value,
        result=CheckResult.FAIL,
        reason="ManifestChanged",
        message="manifest.json is not the one that the training wrote: the model changed between "
        "training and validation",
    )
    checks = [changed_since if each.name == changed_since.name else each for each in result.checks]
    if changed_since not in checks:
        checks.append(changed_since)
    return result.model_copy(update={"checks": checks})


def _clean(check: Check, required: list[CheckName]) -> Check:
    """A check of ours counts as the policy says, any other as the report says."""
    ours = check.name in set(CheckName)
    return Check(
        name=check.name,
        result=check.result,
        required=check.name in required if ours else check.required,
        score=check.score,
        threshold=check.threshold,
        reason=plain(check.reason, 64),
        message=plain(check.message, 256),
        seconds=check.seconds,
        warned=[plain(reason, 64) for reason in check.warned or ()],
    )


def _missing(name: str) -> Check:
    return Check(
        name=name, result=CheckResult.ERROR, reason="Missing", message="The check did not report."
    )


def _outcome(job: FineTuningJob, result: ValidationResult) -> dict[str, object]:
    report = f"{VALIDATION_DIR}/{VALIDATION_REPORT_TEXT}"
    failed, errors, skipped = (_count(result, each) for each in _BAD)
    phase, reason = ValidationPhase.PASSED, Reason.CHECKS_PASSED
    if not result.ok:
        # A check that broke off says nothing about the model: it is not blamed for it.
        blamed = failed > 0
        phase = ValidationPhase.FAILED if blamed else ValidationPhase.ERROR
        reason = Reason.CHECKS_FAILED if blamed else Reason.VALIDATOR_ERROR
    return {
        "phase": phase,
        "reason": reason.value,
        "summary": f"{result.passed}/{result.total} checks passed",
        "passed": result.passed,
        "failed": failed,
        "skipped": skipped,
        "errors": errors,
        "total": result.total,
        "checks": [_shown(check) for check in result.checks],
        "report": render_report(result)[:REPORT_LIMIT],
        "report_path": sources.output(job).uri(report),
        "report_sha256": result.report_sha256 or "",
        "model": _model(job, result),
        "baseline": _baseline(job, result),
        "benchmarks": _benchmarks(result),
        "validator_version": plain(result.validator_version, 32),
    }


def _model(job: FineTuningJob, result: ValidationResult) -> ValidatedModel | None:
    if (found := result.model) is None:
        return None
    path = sources.output(job).uri("")
    return ValidatedModel(path=path, files=found.files, size_bytes=found.size_bytes)


def _baseline(job: FineTuningJob, result: ValidationResult) -> ValidationBaseline | None:
    if (found := result.baseline) is None:
        return None
    return ValidationBaseline(
        model_id=job.spec.base_model.model_id,
        rows=found.rows,
        base=found.base,
        tuned=found.tuned,
        delta=found.tuned - found.base,
        standard_error=found.standard_error,
        verdict=found.verdict,
    )


def _benchmarks(result: ValidationResult) -> list[ValidationBenchmark]:
    """One for each task: the API server takes no name twice."""
    found = {plain(each.task, 128): each for each in result.benchmarks or ()}
    return [
        ValidationBenchmark(
            task=task,
            metric=plain(each.metric, 64),
            base=each.base,
            tuned=each.tuned,
            z=each.z,
            verdict=each.verdict,
        )
        for task, each in found.items()
    ]


def _count(result: ValidationResult, kind: CheckResult) -> int:
    return sum(check.result is kind for check in result.required)


def _shown(check: Check) -> CheckStatus:
    return CheckStatus(
        name=check.name,
        result=check.result.value,
        required=check.required,
        score=check.score,
        threshold=check.threshold,
        reason=check.reason,
        message=check.message,
        duration_seconds=check.seconds,
        warnings=check.warned or [],
    )


def in_words(status: ValidationStatus) -> str:
    """Summary, why there is no verdict, and what the checks said that did not pass."""
    bad = [check for check in status.checks if check.required and check.result != CheckResult.PASS]
    why = [f"{check.name}: {check.message}" for check in bad]
    lost = status.phase is ValidationPhase.ERROR and not status.total
    summary = f"{status.reason}: {status.summary}" if lost and status.reason else status.summary
    return plain("; ".join([summary, *why]), 1024)


def gate(job: FineTuningJob, trained: FineTuningJobStatus) -> Standing | None:
    """Where a trained job stands as long as its model has not passed; None when it may be used."""
    policy, found = job.spec.validation, trained.validation
    if not policy.enabled or policy.on_failure is OnFailure.REPORT or found is None:
        return None
    match found.phase:
        case ValidationPhase.PENDING | ValidationPhase.RUNNING:
            return Standing(Phase.RUNNING, Reason.VALIDATING, trained.message)
        case ValidationPhase.FAILED:
            words = f"The model did not pass and is kept in {trained.model_path}"
            return Standing(Phase.FAILED, Reason.VALIDATION_FAILED, _why(words, found))
        case ValidationPhase.ERROR:
            words = f"The model could not be judged and is kept in {trained.model_path}"
            return Standing(Phase.FAILED, Reason.VALIDATOR_ERROR, _why(words, found))
        case _:
            return None


def _why(words: str, found: ValidationStatus) -> str:
    return plain(f"{words}: {in_words(found)}", 1024)
