"""What the trainer tells the process of one tracker: an order, and in the end the outcome."""

from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from finetuning.api.hyperparameters import ReportTo
from finetuning.artifacts import TRACKING_DIR

FLUSH_SECONDS = 30
"""What a tracker has after the end of the run to take the last steps."""
PAUSE_SECONDS = 5
"""The same when the run is to go on: a pod that must leave has little time, and the rest is sent
by its successor."""


class Outcome(StrEnum):
    """How a run ended, as far as a tracker has words for it."""

    FINISHED = "finished"
    PAUSED = "paused"
    FAILED = "failed"

    @property
    def seconds(self) -> int:
        """What a tracker has after it was told."""
        return PAUSE_SECONDS if self is Outcome.PAUSED else FLUSH_SECONDS


class Order(BaseModel):
    """Which run is to be told to which tracker; a line of JSON on the process's standard input."""

    tracker: ReportTo
    output: Path
    job_name: str
    after_step: int
    """The run continues after this step; 0 when it begins."""
    params: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.output / TRACKING_DIR
