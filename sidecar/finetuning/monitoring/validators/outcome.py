"""What a check found, and how rules become one outcome."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import Field

from finetuning.artifacts.models import Check, CheckResult

MESSAGE_LIMIT = 256

Facts = TypeVar("Facts")


class CheckOutcome(Check):
    """A check's result with what it saw; `details` go to the JSON report only."""

    details: dict[str, Any] = Field(default_factory=dict)

    @property
    def check_name(self) -> str:
        return self.name


@dataclass(frozen=True)
class Finding:
    """What is wrong: FAIL speaks of the model, ERROR of a check that could not be made."""

    reason: str
    message: str
    result: CheckResult = CheckResult.FAIL


@dataclass(frozen=True)
class Passed:
    """What a check says when nothing is wrong."""

    message: str


def first_finding(
    rules: Iterable[Callable[[Facts], Finding | None]], facts: Facts
) -> Finding | None:
    """The first rule that is broken decides, so the order goes from cause to consequence."""
    return next((found for rule in rules if (found := rule(facts))), None)


def outcome(
    name: str,
    verdict: Finding | Passed,
    *,
    score: float | None = None,
    details: dict[str, Any] | None = None,
) -> CheckOutcome:
    """Bounded text and a finite score: neither JSON nor the API server takes anything else."""
    return CheckOutcome(
        name=name,
        result=verdict.result if isinstance(verdict, Finding) else CheckResult.PASS,
        reason=verdict.reason if isinstance(verdict, Finding) else "",
        message=shortened(verdict.message),
        score=score if score is not None and math.isfinite(score) else None,
        details=details or {},
    )


def shortened(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
