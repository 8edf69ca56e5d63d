"""How far the training is, in the figures and words of the status."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetuning.api.v1alpha1 import FineTuningJobStatus
    from finetuning.artifacts.models import TrainingResult, TrainingState

TIMEOUT_SECONDS = 2.0


def worth_showing(old: FineTuningJobStatus, live: TrainingState) -> bool:
    """A new throughput alone is not: status would be written for ever without any progress.

    Nor is a state without figures: a run that resumes has none until it has read its checkpoint.
    """
    return live.step is not None and (
        live.step != old.current_step
        or live.total_steps != old.total_steps
        or loss(live.eval_loss) != old.eval_loss
    )


def fields(found: TrainingState | TrainingResult) -> dict[str, Any]:
    """The status fields that a live state and a final result have in common."""
    return {
        "current_step": found.step,
        "total_steps": found.total_steps,
        "current_epoch": None if found.epoch is None else math.ceil(found.epoch),
        "total_epochs": found.total_epochs,
        "train_loss": loss(found.loss),
        "eval_loss": loss(found.eval_loss),
        "tokens_per_second": rounded(found.tokens_per_second, 1),
        "samples_per_second": rounded(found.samples_per_second, 2),
    }


def lost(found: TrainingState | TrainingResult) -> dict[str, None]:
    """Losses that are no number: what was shown before is theirs no longer."""
    told = {"train_loss": found.loss, "eval_loss": found.eval_loss}
    return {
        name: None for name, value in told.items() if value is not None and not math.isfinite(value)
    }


def percent(step: int | None, total: int | None) -> str:
    """Never 100 % before the model is saved: that figure belongs to success."""
    if step is None or not total:
        return ""
    return f"{min(99, 100 * step // total)}%"


def remaining(live: TrainingState) -> str:
    seconds = live.estimated_remaining_seconds
    return duration(seconds) if seconds is not None and math.isfinite(seconds) else ""


def rounded(value: float | None, digits: int) -> float | None:
    """What is not finite is unknown: JSON and the API server have no NaN."""
    return round(value, digits) if value is not None and math.isfinite(value) else None


def loss(value: float | None) -> float | None:
    """Four decimals, or four digits of what is smaller: a small loss is not none."""
    small = value is not None and 0 < abs(value) < 1
    digits = 3 - math.floor(math.log10(abs(value))) if small and value else 4
    return rounded(value, digits)


def duration(seconds: float) -> str:
    """Two units are enough: 45s, 3m20s, 2h5m, 3d4h."""
    whole = max(0, round(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{whole % 60}s" if minutes else f"{whole}s"
