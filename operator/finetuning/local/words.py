"""What a run says in plain text: a line of progress, and what is left to say at its end."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from finetuning.api.v1alpha1 import (
    FineTuningJob,
    FineTuningJobStatus,
    Phase,
    PublishPhase,
    ValidationPhase,
)
from finetuning.artifacts.models import RunState, TrainingState
from finetuning.controller import attempts, publications
from finetuning.controller.training_status import is_trained
from finetuning.local.outcome import is_good

_BLOCKS = "▁▂▃▄▅▆▇█"
_UNSEEN_AFTER = timedelta(seconds=10)
"""An operator that is well looks at a new job within a second."""


_ACTIVITIES = {
    RunState.STARTING: "loading model and data",
    RunState.EVALUATING: "evaluating",
    RunState.SAVING: "saving",
}


def activity(status: FineTuningJobStatus, live: TrainingState | None) -> str:
    """What the trainer does besides training; empty while it trains."""
    if live is None or status.phase is not Phase.RUNNING:
        return ""
    return _ACTIVITIES.get(live.state, "")


def figures(status: FineTuningJobStatus, live: TrainingState | None) -> list[str]:
    """Step, epoch, loss, learning rate, throughput and time left, as far as they are known."""
    return [*position(status), *learning(status, live), *time_left(status)]


def position(status: FineTuningJobStatus) -> list[str]:
    found = [
        _of("step", status.current_step, status.total_steps),
        _of("epoch", status.current_epoch, status.total_epochs),
    ]
    return [text for text in found if text]


def learning(status: FineTuningJobStatus, live: TrainingState | None) -> list[str]:
    found = []
    if status.train_loss is not None:
        found.append(f"loss {status.train_loss:.4f}")
    if status.eval_loss is not None:
        found.append(f"eval loss {status.eval_loss:.4f}")
    if status.phase is Phase.RUNNING and live is not None and live.learning_rate is not None:
        found.append(f"lr {live.learning_rate:.2e}")
    if status.tokens_per_second is not None:
        found.append(f"{status.tokens_per_second:,.0f} tokens/s")
    return found


def time_left(status: FineTuningJobStatus) -> list[str]:
    return [f"{status.estimated_remaining} left"] if status.estimated_remaining else []


def _of(name: str, current: int | None, total: int | None) -> str:
    if current is None:
        return ""
    return f"{name} {current}/{total}" if total is not None else f"{name} {current}"


def headline(status: FineTuningJobStatus) -> str:
    """Phase and why, as far as it says more than the figures do."""
    found = status.validation
    if is_trained(status) and status.phase is not Phase.FAILED and found is not None:
        return f"{status.phase}: {status.message} Validation {found.phase}: {found.summary}"
    return f"{status.phase}: {status.message or status.reason}"


def unseen(job: FineTuningJob) -> str:
    """What keeps a job that no operator takes up; empty for one that was looked at, or is new."""
    created = job.metadata.creation_timestamp
    if job.status.observed_generation or job.status.message or created is None:
        return ""
    if datetime.now(UTC) - created < _UNSEEN_AFTER:
        return ""
    return f"no operator has looked at it; finetuning doctor -n {job.metadata.namespace} says why"


def awaited(status: FineTuningJobStatus) -> str:
    """What a trained job is not done with, and what holds that up; empty when nothing is left."""
    verdict, copies = status.validation, status.publish
    if not is_trained(status) or verdict is None:
        return ""
    if (again := verdict.rerun) is not None:
        return f"validation {again.phase}: {again.summary}"
    if not attempts.is_over(verdict):
        return f"validation {verdict.phase}: {verdict.summary}"
    if copies is not None and not publications.is_over(copies):
        return f"publishing {copies.phase}: {copies.message}"
    return ""


def trouble(status: FineTuningJobStatus) -> str:
    """What failed and why, in one line; empty when nothing did."""
    verdict = status.validation
    if status.phase is Phase.FAILED:
        return f"{status.reason}: {status.message}"
    if verdict is not None and verdict.phase in {ValidationPhase.FAILED, ValidationPhase.ERROR}:
        return f"validation {verdict.phase}: {verdict.summary}"
    copies = status.publish
    if copies is not None and copies.phase is PublishPhase.FAILED:
        return f"publishing {copies.phase}: {copies.reason}: {copies.message}"
    return ""


def progress_line(status: FineTuningJobStatus, live: TrainingState | None) -> str:
    return f"{status.phase:<9} {status.progress or '0%':>4}  " + "  ".join(figures(status, live))


def spark(losses: Sequence[float], width: int) -> str:
    """The curve in blocks, each the mean of its share of the values."""
    count = min(width, len(losses))
    if not count:
        return ""
    edges = [len(losses) * index // count for index in range(count + 1)]
    parts = [losses[a:b] for a, b in pairwise(edges)]
    means = [sum(part) / len(part) for part in parts]
    low, span = min(means), max(means) - min(means)
    if span == 0:
        return _BLOCKS[0] * count
    return "".join(_BLOCKS[round((mean - low) / span * (len(_BLOCKS) - 1))] for mean in means)


def farewell(
    status: FineTuningJobStatus, output: Path, logs: Path, manifest: Path, command: str
) -> Iterator[str]:
    """The report, where things are, and what to type next."""
    verdict = status.validation
    if verdict is not None and verdict.report:
        yield from ("", verdict.report)
    yield ""
    if is_trained(status):
        yield _row("Model", shown(output))
    elif status.checkpoint_path:
        yield _row("Checkpoint", shown(Path(status.checkpoint_path)))
    if verdict is not None and verdict.report:
        yield _row("Report", shown(Path(verdict.report_path)))
    for copy in status.publish.copies if status.publish else ():
        yield _row("Published", copy.location)
    yield _row("Status", shown(output / "status.json"))
    yield _row("Logs", f"{shown(logs)}/")
    yield from _next(status, manifest, command)


def _next(status: FineTuningJobStatus, manifest: Path, command: str) -> Iterator[str]:
    if trouble(status):
        yield _row("Again", command)
    elif not is_good(status):
        yield _row("Continue", command)
    elif manifest != Path("-"):
        yield _row("Next", f"kubectl apply -f {manifest}   (the same job on a cluster)")


def _row(name: str, value: str) -> str:
    return f"{name:<11}{value}"


def shown(path: Path) -> str:
    """Relative where that is shorter to read."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
