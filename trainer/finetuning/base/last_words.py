"""The termination message: small, in place, and true also for a run that had finished before."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetuning.artifacts import (
    CHECKPOINTS_DIR,
    MANIFEST,
    TERMINATION_LOG_ENV,
    TERMINATION_MESSAGE_LIMIT,
)
from finetuning.artifacts.manifest import sha256_of
from finetuning.artifacts.models import RunState, TrainingResult
from finetuning.artifacts.trainer_state import TrainerState
from finetuning.base.checkpoints import latest_state, path_of
from finetuning.base.live import LiveState

log = logging.getLogger(__name__)


def say(result: TrainingResult, live: LiveState | None, *, unless_said: bool = False) -> None:
    """Write the message to $FINETUNING_TERMINATION_LOG; the run's own outcome never hangs on it.

    `unless_said` leaves what another process of the same container has written: it knows better.
    """
    path = os.environ.get(TERMINATION_LOG_ENV)
    if not path or (unless_said and said()):
        return
    if live is not None:
        energy = live.state.energy_joules
        result = _with_progress(result, live).model_copy(update={"energy_joules": energy})
    try:
        _write(path, encode(result))
    except OSError as error:
        log.warning("The termination message %s cannot be written: %s", path, error)


def _write(path: str, data: bytes) -> None:
    """In place: in a pod the file is a mount, over which nothing can be renamed.

    It is never empty in between, when the process may be killed.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.truncate(handle, os.write(handle, data))
    finally:
        os.close(handle)


def said() -> TrainingResult | None:
    """What another process of this container has left, if anything that can be read."""
    path = os.environ.get(TERMINATION_LOG_ENV)
    if not path:
        return None
    with suppress(OSError, ValidationError):
        return TrainingResult.model_validate_json(Path(path).read_bytes())
    return None


def clear() -> None:
    """Forget what an earlier start has left where the file outlives it, as outside a pod."""
    path = os.environ.get(TERMINATION_LOG_ENV)
    if path and Path(path).is_file():
        with suppress(OSError):
            os.truncate(path, 0)


def encode(result: TrainingResult, limit: int = TERMINATION_MESSAGE_LIMIT) -> bytes:
    """Compact JSON of at most `limit` bytes; the message gives way."""
    data = result.model_dump_json(by_alias=True, exclude_none=True).encode()
    if len(data) <= limit:
        return data
    shorter = result.message[: max(0, len(result.message) - (len(data) - limit) - 1)]
    return encode(result.model_copy(update={"message": shorter}), limit)


def finished_result(info: dict[str, Any], output: Path) -> TrainingResult:
    """The last words of a finished run, from its training_info.json."""
    results = info.get("results", {})
    step = results.get("global_step", 0)
    return TrainingResult(
        result=RunState.FINISHED,
        step=step,
        total_steps=results.get("total_steps"),
        planned_steps=results.get("planned_steps"),
        epoch=results.get("epoch"),
        total_epochs=results.get("total_epochs"),
        loss=results.get("final_loss"),
        eval_loss=results.get("eval_loss"),
        tokens_per_second=results.get("train_tokens_per_second"),
        samples_per_second=results.get("train_samples_per_second"),
        train_seconds=results.get("train_runtime"),
        checkpoint=path_of(step),
        manifest_sha256=sha256_of(output / MANIFEST),
    )


def figures_in(info: dict[str, Any]) -> dict[str, Any]:
    """What the live state shows of a finished run, from its training_info.json."""
    results = info.get("results", {})
    counted = ("tokens_total", "samples_total", "nonfinite_losses", "checkpoints_total")
    names = (*counted, "checkpoint_sizes_bytes")
    told = {name: results.get(name) for name in names} | {"started_at": info.get("started_at")}
    return {name: value for name, value in told.items() if value is not None}


def result_of(state: TrainerState, outcome: RunState, checkpoint: str | None) -> TrainingResult:
    """The last words of a run that ended as planned or was paused."""
    seconds = state.train_seconds
    return TrainingResult(
        result=outcome,
        step=state.global_step,
        total_steps=state.max_steps,
        epoch=state.epoch,
        total_epochs=state.num_train_epochs,
        loss=state.loss,
        eval_loss=state.eval_loss,
        tokens_per_second=state.tokens_total / seconds if seconds else None,
        samples_per_second=state.samples_total / seconds if seconds else None,
        train_seconds=seconds,
        checkpoint=checkpoint,
    )


def paused_early(output: Path) -> TrainingResult:
    """The last words of a run that was stopped before its first step; an earlier one may count."""
    state = latest_state(output / CHECKPOINTS_DIR)
    if not state.global_step:
        return TrainingResult(result=RunState.PAUSED)
    return result_of(state, RunState.PAUSED, path_of(state.global_step))


def figures_of(result: TrainingResult) -> dict[str, Any]:
    """What the live state shows of the end; figures that are not known stay as they were."""
    names = {"step", "total_steps", "epoch", "total_epochs", "loss", "eval_loss"}
    return result.model_dump(include=names, exclude_none=True)


def _with_progress(result: TrainingResult, live: LiveState) -> TrainingResult:
    """A failed run tells how far it came."""
    if result.result is not RunState.FAILED:
        return result
    state = live.state
    return result.model_copy(
        update={
            "step": state.step or 0,
            "total_steps": state.total_steps,
            "epoch": state.epoch,
            "total_epochs": state.total_epochs,
            "loss": state.loss,
            "checkpoint": state.last_checkpoint,
        }
    )
