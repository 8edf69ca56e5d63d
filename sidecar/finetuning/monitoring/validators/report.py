"""The verdict as it leaves: JSON and HTML with details, and a short termination message."""

import json
from collections.abc import Sequence
from typing import Any

from finetuning.artifacts import TERMINATION_MESSAGE_LIMIT
from finetuning.artifacts.models import Check, ValidationResult
from finetuning.monitoring.validators.html_report import render_html
from finetuning.monitoring.validators.outcome import CheckOutcome, shortened


def full_report(result: ValidationResult, outcomes: Sequence[CheckOutcome]) -> dict[str, Any]:
    """A ValidationResult at its head; each check has its details as well."""
    head = result.model_dump(mode="json", by_alias=True)
    head["checks"] = [check.model_dump(mode="json", by_alias=True) for check in outcomes]
    return {**head, "passed": result.passed, "total": result.total, "ok": result.ok}


def json_text(result: ValidationResult, outcomes: Sequence[CheckOutcome]) -> str:
    report = full_report(result, outcomes)
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)


def html_text(result: ValidationResult, outcomes: Sequence[CheckOutcome]) -> str:
    return render_html(full_report(result, outcomes))


def last_words(result: ValidationResult, limit: int = TERMINATION_MESSAGE_LIMIT) -> bytes:
    """Compact JSON of at most `limit` bytes; the longest message gives way first."""
    checks = [Check.model_validate(check.model_dump()) for check in result.checks]
    while len(data := _compact(result, checks)) > limit:
        longest = max(checks, key=lambda check: len(check.message.encode()))
        if not longest.message:
            break
        text = shortened(longest.message, len(longest.message) // 2) if longest.message[1:] else ""
        checks[checks.index(longest)] = longest.model_copy(update={"message": text})
    return data


def _compact(result: ValidationResult, checks: list[Check]) -> bytes:
    shorter = result.model_copy(update={"checks": checks})
    return shorter.model_dump_json(by_alias=True, exclude_none=True).encode()
