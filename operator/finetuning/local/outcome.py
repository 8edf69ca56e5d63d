"""The status of a local run: the operator's own, with folders in place of claims."""

from datetime import datetime
from pathlib import Path

from finetuning.api.v1alpha1 import (
    FineTuningJob,
    FineTuningJobStatus,
    Phase,
    PublishPhase,
    Reason,
    ValidationPhase,
)
from finetuning.artifacts.exits import ExitCode
from finetuning.artifacts.models import TrainingState
from finetuning.controller import conditions, served, verdict
from finetuning.controller import status as operator_status
from finetuning.controller.desired import sources
from finetuning.controller.observed import Children
from finetuning.controller.training_status import Problem, Seen
from finetuning.local.batch import LocalJob

CONTINUE = "Run the same command again to continue."


def children(
    training: LocalJob, validation: LocalJob | None, publishing: LocalJob | None = None
) -> Children:
    """What a cluster would show of the Jobs."""
    return Children(
        training=training.view(),
        validation=validation.view() if validation else None,
        training_pods=training.pods(),
        validation_pods=validation.pods() if validation else (),
        publishing=publishing.view() if publishing else None,
        publishing_pods=publishing.pods() if publishing else (),
    )


def next_status(
    job: FineTuningJob, found: Children, live: TrainingState | None, metrics: str, now: datetime
) -> FineTuningJobStatus:
    """What the operator would write; a stop that was asked for is a suspended job."""
    suspended = found.training is not None and found.training.suspend
    # Without a cluster nothing is created that serves the model.
    output = job.spec.output.model_copy(update={"serve": served.offering(job.spec.output.serve)})
    spec = job.spec.model_copy(update={"suspend": suspended, "output": output})
    seen = Seen(
        job=job.model_copy(update={"spec": spec}),
        children=found,
        live=live,
        monitoring=Problem(Reason.MONITORING_DISABLED, f"No cluster; scrape {metrics}"),
    )
    status = operator_status.status_of(seen, now)
    stopped = found.validation is not None and found.validation.suspend
    return _put_off(status, now) if stopped else status


def _put_off(status: FineTuningJobStatus, now: datetime) -> FineTuningJobStatus:
    """Checks that were interrupted are not running: they are still to come."""
    if status.validation is None:
        return status
    put_off = verdict.changed(
        status.validation,
        phase=ValidationPhase.PENDING,
        reason=Reason.VALIDATION_PENDING.value,
        summary="the checks were interrupted",
    )
    new = status.model_copy(update={"validation": put_off})
    found = [*conditions.validated(put_off), *conditions.readiness(new)]
    held = conditions.merge(status.conditions, found, status.observed_generation or 1, now)
    return new.model_copy(update={"conditions": held})


def localized(status: FineTuningJobStatus, job: FineTuningJob, output: Path) -> FineTuningJobStatus:
    """With paths that can be typed here, and the way to go on after a pause."""
    claim = sources.output(job).uri()

    def here(path: str) -> str:
        return f"{output}{path.removeprefix(claim)}" if path.startswith(claim) else path

    paths = ("checkpoint_path", "model_path", "aim_profile_path")
    update: dict[str, object] = {name: here(getattr(status, name)) for name in paths}
    update["message"] = status.message.replace(claim, str(output))
    if found := status.validation:
        model = found.model and found.model.model_copy(update={"path": here(found.model.path)})
        judged: dict[str, object] = {"report_path": here(found.report_path), "model": model}
        update["validation"] = found.model_copy(update=judged)
    if status.phase is Phase.PAUSED:
        update["message"] = CONTINUE
        update["conditions"] = [
            each.model_copy(update={"message": CONTINUE} if each.message == status.message else {})
            for each in status.conditions
        ]
    return status.model_copy(update=update)


def exit_code(status: FineTuningJobStatus, training_exit: int | None, signal: int | None) -> int:
    """0 trained and not found wanting, 1 failed, 2 bad input, 128 + signal when interrupted."""
    if is_good(status):
        return 0
    if signal is not None and status.phase is not Phase.FAILED:
        return 128 + signal
    if status.phase is Phase.PAUSED:
        return ExitCode.INTERRUPTED
    if status.phase is Phase.FAILED and training_exit == ExitCode.INVALID:
        return ExitCode.INVALID
    return ExitCode.FAILED


def is_good(status: FineTuningJobStatus) -> bool:
    """Trained, validated and published, or told not to."""
    found = status.validation.phase if status.validation else None
    return (
        status.phase is Phase.SUCCEEDED
        and found in (ValidationPhase.PASSED, ValidationPhase.SKIPPED)
        and (status.publish is None or status.publish.phase is PublishPhase.PUBLISHED)
    )
