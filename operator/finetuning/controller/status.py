"""The status of a job as a pure function of what is seen, and the patch that brings it about."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from finetuning.api.v1alpha1 import (
    ConditionType,
    FineTuningJob,
    FineTuningJobStatus,
    Phase,
    Reason,
)
from finetuning.artifacts import AIM_PROFILE, CHECKPOINT_PREFIX, CHECKPOINTS_DIR
from finetuning.artifacts.models import TrainingResult, TrainingState
from finetuning.artifacts.plain import shorter
from finetuning.controller import (
    attempts,
    conditions,
    last_words,
    naming,
    observed,
    obstacles,
    preflight,
    progress,
    publication,
    publications,
    readable,
    served,
    training_status,
    verdict,
)
from finetuning.controller.desired import sources
from finetuning.controller.observed import BatchJob, Children, Container, Pod
from finetuning.controller.training_status import Seen, Standing

_EMPTY: tuple[Any, ...] = ("", [], {})
_CHECKPOINT = re.compile(rf"(?:{CHECKPOINTS_DIR}/)?({CHECKPOINT_PREFIX}[0-9]{{1,10}})")


def parse(raw: Any) -> FineTuningJobStatus:
    """The status that was written before, as far as it can be read.

    A later version may have written what this one does not know. To count the rest as none as well
    would train a second time what has been trained.
    """
    told = raw or {}
    while True:
        try:
            return FineTuningJobStatus.model_validate(told)
        except ValidationError as error:
            told = readable.without(told, [each["loc"] for each in error.errors()])


def is_settled(job: FineTuningJob) -> bool:
    """All has been said, and the status speaks of the newest spec: no look changes anything."""
    old, found = job.status, job.status.validation
    if old.observed_generation != job.metadata.generation or _is_of_an_older_operator(old):
        return False
    if not training_status.is_trained(old):
        return old.phase is Phase.FAILED
    judged = found is not None and attempts.is_over(found) and found.rerun is None
    answered = judged and attempts.missing(job, Children()) is None
    return answered and publications.is_settled(job) and served.missing(job) is None


def _is_of_an_older_operator(status: FineTuningJobStatus) -> bool:
    return conditions.find(status.conditions, ConditionType.READY) is None


def is_written(status: Mapping[str, Any] | None) -> bool:
    """Whether an operator wrote it: the API server gives a new job the schema's own."""
    return bool((status or {}).get("phase"))


def status_of(seen: Seen, now: datetime) -> FineTuningJobStatus:
    """What the status should say now; a training that is over is left as it was."""
    if is_settled(seen.job):
        return seen.job.status
    over = training_status.is_over(seen.job.status)
    new = _observed(seen) if over else _of_training(seen)
    if training_status.is_trained(new):
        found = verdict.validation_status(seen, _manifest(seen))
        new = _gated(seen.job, new.model_copy(update={"validation": found}))
        copies = publication.publish_status(seen, new)
        new = obstacles.told(seen, new.model_copy(update={"publish": copies}))
        new = new.model_copy(update={"serving": served.serving_status(seen, new)})
    return _with_usage(seen, _with_conditions(seen, new, now))


def _with_usage(seen: Seen, new: FineTuningJobStatus) -> FineTuningJobStatus:
    """What was used goes along with other news: it is worth no write of its own."""
    if seen.used is None or not patch(seen.job.status, new):
        return new
    return new.model_copy(update={"usage": seen.used})


def _observed(seen: Seen) -> FineTuningJobStatus:
    update = {"observed_generation": seen.job.metadata.generation}
    return seen.job.status.model_copy(update=update)


def _gated(job: FineTuningJob, trained: FineTuningJobStatus) -> FineTuningJobStatus:
    """What the verdict means for the phase, by spec.validation.onFailure."""
    stand = verdict.gate(job, trained)
    if stand is None:
        told = trained.reason in {Reason.TRAINING_SUCCEEDED, Reason.VALIDATING}
        message = trained.message if told else _trained_summary(trained)
        stand = Standing(Phase.SUCCEEDED, Reason.TRAINING_SUCCEEDED, message)
    update = {"phase": stand.phase, "reason": stand.reason.value, "message": stand.message}
    return trained.model_copy(update=update)


def _trained_summary(status: FineTuningJobStatus) -> str:
    loss = "." if status.train_loss is None else f"; final loss {status.train_loss}."
    return f"Trained {status.current_step or 0} steps{loss}"


def invalid(raw: Mapping[str, Any], message: str, now: datetime) -> FineTuningJobStatus:
    """A spec that cannot be served fails the job, unless its training has begun already."""
    old = parse(raw.get("status"))
    generation = raw["metadata"].get("generation", 1)
    update: dict[str, Any] = {"observed_generation": generation}
    found = [
        conditions.invalid_config(message),
        *conditions.stalled(Reason.INVALID_SPEC, message),
    ]
    if not old.training_job_name and not training_status.is_over(old):
        update |= {"phase": Phase.FAILED, "reason": Reason.INVALID_SPEC, "message": message}
        new = old.model_copy(update=update)
        found += conditions.outcome(new)
    else:
        new = old.model_copy(update=update)
    merged = conditions.merge(old.conditions, found, generation, now)
    return new.model_copy(update={"conditions": merged})


def _of_training(seen: Seen) -> FineTuningJobStatus:
    job, training = seen.job, seen.children.training
    stand = training_status.standing(seen)
    update: dict[str, Any] = {
        "phase": stand.phase,
        "reason": stand.reason.value,
        "message": shorter(stand.message, conditions.MESSAGE_LIMIT),
        "observed_generation": job.metadata.generation,
        **_run_fields(seen, stand),
    }
    if training is not None:
        update["training_job_name"] = training.meta.name
        # The last pod of a failed job was not followed by another.
        last = 1 if stand.phase is Phase.FAILED else 0
        update["restarts"] = max(0, training_status.tries(job, training) - last)
    if stand.phase is not Phase.RUNNING or has_last_words(seen.children.training_pods):
        update["estimated_remaining"] = ""
    if stand.phase in {Phase.PENDING, Phase.PAUSED}:
        update |= {"tokens_per_second": None, "samples_per_second": None}
    if stand.phase in {Phase.SUCCEEDED, Phase.FAILED}:
        update["completion_time"] = _ended_at(training)
    return job.status.model_copy(update=update)


def _run_fields(seen: Seen, stand: Standing) -> dict[str, Any]:
    """Times, progress and paths: from the last words when it is over, else from the sidecar."""
    fields: dict[str, Any] = {}
    if seen.job.status.start_time is None:
        fields["start_time"] = observed.began(seen.children.training_pods, seen.job.spec.workers)
    result = _last_words(seen.children.training_pods)
    if stand.phase is Phase.SUCCEEDED:
        fields |= _final(seen.job, result)
    elif result is not None:
        # Also while its Pod closes: one that the Job deletes takes its last words along.
        fields |= _at_a_stop(seen.job, result)
    elif stand.phase is Phase.RUNNING:
        fields |= _live(seen)
    elif stand.phase is Phase.FAILED or stand.reason is Reason.RESTARTING:
        fields |= _left(seen)
    return fields


def _live(seen: Seen) -> dict[str, Any]:
    live, old = seen.live, seen.job.status
    if live is None or not progress.worth_showing(old, live):
        return {}
    return {
        **_reached(seen.job, live, live.last_checkpoint),
        "estimated_remaining": progress.remaining(live),
    }


def _left(seen: Seen) -> dict[str, Any]:
    """Of a trainer that was killed: how far it was by its sidecar, which outlives it a little.

    At the step that is known already it may have saved another checkpoint.
    """
    live, reached = seen.live, seen.job.status.current_step or 0
    if live is None or live.step is None or live.step < reached:
        return {}
    return _reached(seen.job, live, live.last_checkpoint)


def _at_a_stop(job: FineTuningJob, result: TrainingResult) -> dict[str, Any]:
    """A failed or paused run keeps the figures that it reached."""
    if not result.step and job.status.current_step:
        # The last try ended before it had read its checkpoint: what an earlier one reached stands.
        return {}
    return _reached(job, result, result.checkpoint)


def _reached(
    job: FineTuningJob, found: TrainingState | TrainingResult, checkpoint: str | None
) -> dict[str, Any]:
    return {
        **_figures(found),
        **_share(found),
        **_checkpoint(job, checkpoint),
    }


def _share(found: TrainingState | TrainingResult) -> dict[str, str]:
    """Nothing where it is not known: what was shown before stands."""
    percent = progress.percent(found.step, found.total_steps)
    return {"progress": percent} if percent else {}


def _final(job: FineTuningJob, result: TrainingResult | None) -> dict[str, Any]:
    output = sources.output(job)
    fields: dict[str, Any] = {
        "progress": "100%",
        "model_path": output.uri(),
        "aim_profile_path": output.uri(AIM_PROFILE),
    }
    if result is not None:
        fields |= _figures(result) | _checkpoint(job, result.checkpoint)
        fields["message"] = _summary(result)
    return fields


def _summary(result: TrainingResult) -> str:
    planned, loss = result.planned_steps or 0, progress.loss(result.loss)
    early = planned > result.step
    steps = f"Trained {result.step} steps" + (f" of {planned} planned" if early else "")
    took = f" in {progress.duration(result.train_seconds)}" if result.train_seconds else ""
    why = ", since the loss on held-out rows no longer fell" if early else ""
    told = "" if loss is None else f"; final loss {loss}"
    return f"{steps}{took}{why}{told}."


def _figures(found: TrainingState | TrainingResult) -> dict[str, Any]:
    """What is not known leaves the status as it was; a loss that is no number does not."""
    known = {name: value for name, value in progress.fields(found).items() if value is not None}
    return known | progress.lost(found)


def _checkpoint(job: FineTuningJob, found: str | None) -> dict[str, str]:
    """The newest checkpoint, if the trainer names one of its own folder."""
    own = _CHECKPOINT.fullmatch(found or "")
    if own is None:
        return {}
    return {"checkpoint_path": sources.output(job).uri(f"{CHECKPOINTS_DIR}/{own[1]}")}


def _trainer(pods: tuple[Pod, ...]) -> Container | None:
    """The newest trainer that ever started, of a group the one that reports."""
    found = (pod.container(naming.TRAINING_CONTAINER) for pod in observed.leading(pods))
    return next((each for each in found if each is not None and each.started_at), None)


def _last_words(pods: tuple[Pod, ...]) -> TrainingResult | None:
    trainer = _trainer(pods)
    return last_words.training_result(trainer) if trainer is not None else None


def has_last_words(pods: tuple[Pod, ...]) -> bool:
    """Whether the newest trainer that ever started has ended and said how."""
    return _last_words(pods) is not None


def has_ended(pods: tuple[Pod, ...]) -> bool:
    """Whether the newest trainer that ever started runs no more."""
    trainer = _trainer(pods)
    return trainer is not None and trainer.exit_code is not None


def is_last_chance(pods: tuple[Pod, ...]) -> bool:
    """Whether there are last words that go with their Pod at any moment."""
    return has_last_words(pods) and any(pod.meta.deleting for pod in observed.leading(pods))


def _manifest(seen: Seen) -> str | None:
    result = _last_words(seen.children.training_pods)
    return result.manifest_sha256 if result is not None else None


def _ended_at(training: BatchJob | None) -> datetime | None:
    if training is None:
        return None
    mark = training.complete or training.failed
    return training.completion_time or (mark.since if mark else None)


def _with_conditions(seen: Seen, new: FineTuningJobStatus, now: datetime) -> FineTuningJobStatus:
    old, generation = seen.job.status, seen.job.metadata.generation
    kind = ConditionType.MONITORING_READY
    ends = [*conditions.outcome(new), *conditions.readiness(new)]
    found = [
        conditions.config_valid(new, seen.job.spec.base_model.revision),
        conditions.monitoring(seen.monitoring, conditions.find(old.conditions, kind)),
        *preflight.conditions(seen.job, seen.nodes),
        *preflight.output_shared(seen.job, seen.claim_modes),
        conditions.suspended(new),
        *ends,
        *conditions.withdrawn(old.conditions, ends, new),
        *conditions.validated(new.validation),
        *conditions.published(new.publish),
        *conditions.served(new.serving),
    ]
    merged = conditions.merge(old.conditions, found, generation, now)
    return new.model_copy(update={"conditions": merged})


_WIRED: dict[int, tuple[FineTuningJobStatus, dict[str, Any]]] = {}
"""By its identity: a status is asked for several times in a look, and the last one in the next."""
_WIRED_KEPT = 64


def wire(status: FineTuningJobStatus) -> dict[str, Any]:
    """As JSON, without what is unknown; made once of one object, which nobody changes."""
    known = _WIRED.get(id(status))
    if known is not None:
        return known[1]
    if len(_WIRED) >= _WIRED_KEPT:
        del _WIRED[next(iter(_WIRED))]
    data = _wire(status)
    _WIRED[id(status)] = status, data
    return data


def _wire(status: FineTuningJobStatus) -> dict[str, Any]:
    data: dict[str, Any] = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: _without_empty(part) for name, part in data.items() if part not in _EMPTY}


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_empty(part) for name, part in value.items() if part not in _EMPTY}
    if isinstance(value, list):
        return [_without_empty(part) for part in value]
    return value


def patch(old: FineTuningJobStatus | None, new: FineTuningJobStatus) -> dict[str, Any]:
    """The merge patch from one to the other; empty when there is nothing to write."""
    if new == old:
        return {}
    return _merge_patch(wire(old) if old is not None else {}, wire(new))


def _merge_patch(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        known = before.get(name)
        if isinstance(value, dict) and isinstance(known, dict):
            if inner := _merge_patch(known, value):
                changed[name] = inner
        elif known != value or name not in before:
            changed[name] = value
    return changed


def now() -> datetime:
    """The time as the API writes it: UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


_PROGRESS = {
    "message",
    "progress",
    "current_epoch",
    "total_epochs",
    "current_step",
    "total_steps",
    "train_loss",
    "eval_loss",
    "tokens_per_second",
    "samples_per_second",
    "estimated_remaining",
    "checkpoint_path",
    "usage",
}


def is_turn(old: FineTuningJobStatus, new: FineTuningJobStatus) -> bool:
    """A change that people and scripts wait for: it is written at once."""
    edited = old.observed_generation not in {None, new.observed_generation}
    if edited or old.phase is not new.phase:
        return True
    turned = attempts.is_turn(old.validation, new.validation)
    copied = publications.is_turn(old.publish, new.publish)
    return turned or copied or served.is_news(old.serving, new.serving)


def is_progress_only(old: FineTuningJobStatus, new: FineTuningJobStatus) -> bool:
    same = old.model_copy(update={name: getattr(new, name) for name in _PROGRESS})
    return wire(same) == wire(new)
