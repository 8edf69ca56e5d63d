"""What a check found, and how rules become one outcome."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import Field

from finetuning.artifacts.models import Artifact, Check, CheckResult
from finetuning.artifacts.plain import harmless, plain
from finetuning.monitoring.validators.reasons import remedy_for

MESSAGE_LIMIT = 256
_LARGEST = 1e300

Facts = TypeVar("Facts")
Numbers = dict[str, float]


class Warned(Artifact):
    """Something worth a look that does not decide."""

    reason: str
    message: str
    remedy: str = ""


class CheckOutcome(Check):
    """A check's result with what it saw; these further fields go to the JSON and HTML reports."""

    remedy: str = ""
    numbers: Numbers = Field(default_factory=dict)
    warnings: list[Warned] = Field(default_factory=list)
    details: dict[str, Any] = Field(default_factory=dict)

    @property
    def check_name(self) -> str:
        return self.name


@dataclass(frozen=True)
class Finding:
    """What is wrong: FAIL speaks of the model, ERROR of a check that could not be made.

    `numbers` are what was measured and what it was held against, by name.
    """

    reason: str
    message: str
    result: CheckResult = CheckResult.FAIL
    numbers: Numbers = field(default_factory=dict)


@dataclass(frozen=True)
class Passed:
    """What a check says when nothing is wrong."""

    message: str


Rule = Callable[[Facts], Finding | None]


def first_finding(rules: Iterable[Rule[Facts]], facts: Facts) -> Finding | None:
    """The first rule that is broken decides, so the order goes from cause to consequence."""
    return next((found for rule in rules if (found := rule(facts))), None)


def all_findings(rules: Iterable[Rule[Facts]], facts: Facts) -> list[Finding]:
    """Every rule that is broken: for those that only warn."""
    return [found for rule in rules if (found := rule(facts))]


def outcome(
    name: str,
    verdict: Finding | Passed,
    *,
    score: float | None = None,
    threshold: float | None = None,
    details: dict[str, Any] | None = None,
    warnings: Sequence[Finding] = (),
) -> CheckOutcome:
    """Bounded text and finite numbers: neither JSON nor the API server takes anything else."""
    bad = verdict if isinstance(verdict, Finding) else None
    return CheckOutcome(
        name=name,
        result=bad.result if bad else CheckResult.PASS,
        reason=bad.reason if bad else "",
        message=shortened(verdict.message),
        score=score if score is not None and math.isfinite(score) else None,
        threshold=threshold,
        remedy=remedy_for(bad.reason) if bad else "",
        numbers=_held(bad.numbers) if bad else {},
        warned=[found.reason for found in warnings] or None,
        warnings=[_warned(found) for found in warnings],
        details=_writable(details or {}),
    )


def _warned(found: Finding) -> Warned:
    return Warned(
        reason=found.reason, message=shortened(found.message), remedy=remedy_for(found.reason)
    )


def _held(numbers: Numbers) -> Numbers:
    """Those that a float holds: a file may well say 10 to the 400th."""
    return {key: float(value) for key, value in numbers.items() if abs(value) <= _LARGEST}


def _writable(value: Any) -> Any:
    """The same without what JSON, UTF-8 and a screen cannot hold, and without credentials."""
    if isinstance(value, str):
        return harmless(value)
    if isinstance(value, dict):
        return {harmless(str(key)): _writable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shortened(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """One line of at most `limit` characters: every message of the validator comes through here."""
    return plain(text, limit)
