"""A line of the loss history under the names that trackers group by, which are transformers'."""

from collections.abc import Mapping
from typing import Any

from finetuning.artifacts.history import HistoryLine

TAGS = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "epoch": "train/epoch",
    "tokens": "train/tokens",
    "eval_loss": "eval/loss",
}


def figures(line: HistoryLine) -> dict[str, float]:
    """The figures of one step by tag; what the step has not is left out."""
    found = {tag: getattr(line, name) for name, tag in TAGS.items()}
    return {tag: float(value) for tag, value in found.items() if value is not None}


def as_texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Settings in words; those that are not set are left out."""
    return {name: _text(value) for name, value in params.items() if value not in (None, [])}


def _text(value: Any) -> str:
    return ", ".join(str(each) for each in value) if isinstance(value, list) else str(value)
