"""What a container said before it ended: its termination message, which nobody has to believe.

It was written by code of the user's choice: it is parsed with bounds, cleaned of control
characters and of what looks like a credential, and shortened.
"""

import json
from functools import lru_cache

from pydantic import ValidationError

from finetuning.artifacts.models import PublishResult, TrainingResult, ValidationResult
from finetuning.artifacts.plain import plain
from finetuning.controller.observed import Container

MESSAGE_LIMIT = 4096
"""kubelet keeps this many bytes of a message; more was not written by a kubelet."""

KEPT = 256
"""Texts of a trainer that are asked for at every look until its verdict is there."""


def training_result(container: Container) -> TrainingResult | None:
    """The trainer's result; None when there is none that can be read."""
    text = container.exit_message
    return _training_result(text) if text and len(text) <= MESSAGE_LIMIT else None


@lru_cache(maxsize=KEPT)
def _training_result(text: str) -> TrainingResult | None:
    try:
        return TrainingResult.model_validate_json(text)
    except ValidationError:
        return None


def validation_result(container: Container) -> ValidationResult | None:
    """The validator's result; None when there is none that can be read."""
    text = container.exit_message
    if not text or len(text.encode()) > MESSAGE_LIMIT:
        return None
    try:
        return ValidationResult.model_validate_json(text)
    except ValidationError:
        return None


def publish_result(container: Container) -> PublishResult | None:
    """The publisher's result; None when there is none that can be read."""
    text = container.exit_message
    if not text or len(text.encode()) > MESSAGE_LIMIT:
        return None
    try:
        return PublishResult.model_validate_json(text)
    except ValidationError:
        return None


def is_cut(container: Container) -> bool:
    """Whether it is the beginning of a result: kubelet keeps 12 KiB for all containers of a Pod."""
    text = container.exit_message[:MESSAGE_LIMIT]
    if not text.startswith('{"kind":'):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return True
    return False


def last_line(container: Container) -> str:
    """The end of whatever it said: for a crash the message of the exception."""
    if is_cut(container):
        return ""
    lines = [line for line in container.exit_message[-MESSAGE_LIMIT:].splitlines() if line.strip()]
    return plain(lines[-1], 400) if lines else ""
