"""How far the training is: asked of the metrics sidecar while it runs, never more than a GET."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from finetuning.artifacts.models import STATE_MAX_BYTES, RunState, TrainingResult, TrainingState
from finetuning.controller import naming

if TYPE_CHECKING:
    from datetime import datetime

    import aiohttp

    from finetuning.api.v1alpha1 import FineTuningJobStatus

TIMEOUT_SECONDS = 2.0


async def fetch(
    session: aiohttp.ClientSession, ip: str, port: int = naming.METRICS_PORT
) -> TrainingState | None:
    """The sidecar's live state; None when there is none yet, or nobody answers."""
    # Local runs use this module as well, where no aiohttp need be installed.
    import aiohttp  # noqa: PLC0415

    host = f"[{ip}]" if ":" in ip else ip
    url = f"http://{host}:{port}/status"
    limit = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with session.get(url, timeout=limit, allow_redirects=False) as response:
            data = await response.content.read(STATE_MAX_BYTES + 1)
            # A body may come in pieces; what is larger than allowed is no state at all.
            while len(data) <= STATE_MAX_BYTES and not response.content.at_eof():
                data += await response.content.read(STATE_MAX_BYTES + 1 - len(data))
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None
    return parse(data) if response.status == 200 else None  # noqa: PLR2004 - OK


def parse(data: bytes) -> TrainingState | None:
    if len(data) > STATE_MAX_BYTES:
        return None
    try:
        return TrainingState.model_validate_json(data)
    except ValidationError:
        return None


def worth_showing(old: FineTuningJobStatus, live: TrainingState) -> bool:
    """A new throughput alone is not: status would be written for ever without any progress.

    Nor is a start: a run that resumes would fall back to 0 % until it has read its checkpoint.
    """
    return live.state is not RunState.STARTING and (
        live.step != old.current_step
        or live.total_steps != old.total_steps
        or rounded(live.eval_loss, 4) != old.eval_loss
    )


def fields(found: TrainingState | TrainingResult) -> dict[str, Any]:
    """The status fields that a live state and a final result have in common."""
    return {
        "current_step": found.step,
        "total_steps": found.total_steps,
        "current_epoch": None if found.epoch is None else math.ceil(found.epoch),
        "total_epochs": found.total_epochs,
        "train_loss": rounded(found.loss, 4),
        "eval_loss": rounded(found.eval_loss, 4),
        "tokens_per_second": rounded(found.tokens_per_second, 1),
        "samples_per_second": rounded(found.samples_per_second, 2),
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


def duration(seconds: float) -> str:
    """Two units are enough: 45s, 3m20s, 2h5m, 3d4h."""
    whole = max(0, round(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{whole % 60}s" if minutes else f"{whole}s"


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start and end else None
