"""The verdict as it leaves: JSON and HTML with details, and a short termination message."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from finetuning.artifacts import TERMINATION_MESSAGE_LIMIT
from finetuning.artifacts.models import (
    BaseComparison,
    BenchmarkResult,
    Check,
    JudgedFiles,
    ValidationResult,
    render_report,
)
from finetuning.monitoring.validators.html_report import render_html
from finetuning.monitoring.validators.outcome import CheckOutcome, shortened

_LARGEST_LOSS = 1e6
"""Nats per token; beyond is no comparison."""

_DISTRIBUTION = "finetuning-operator"


def result_of(
    outcomes: Sequence[CheckOutcome],
    manifest_sha256: str | None = None,
    model: JudgedFiles | None = None,
) -> ValidationResult:
    """The verdict of these outcomes; the report's own sha256 is of the text file with its end."""
    result = ValidationResult(
        checks=list(outcomes),
        manifest_sha256=manifest_sha256,
        model=model,
        baseline=_baseline(outcomes),
        benchmarks=_benchmarks(outcomes),
        validator_version=_version(),
    )
    digest = hashlib.sha256(f"{render_report(result)}\n".encode()).hexdigest()
    return result.model_copy(update={"report_sha256": digest})


def _baseline(outcomes: Sequence[CheckOutcome]) -> BaseComparison | None:
    """From the details of model_output, where rows were compared and all figures are finite."""
    told = next((found for each in outcomes if (found := each.details.get("heldOut"))), None)
    if not told or told["baseLoss"] is None or max(told["loss"], told["baseLoss"]) > _LARGEST_LOSS:
        return None
    return BaseComparison(
        rows=told["rows"],
        base=told["baseLoss"],
        tuned=told["loss"],
        standard_error=told["lossDifferenceStandardError"],
        verdict=told["verdict"],
    )


def _benchmarks(outcomes: Sequence[CheckOutcome]) -> list[BenchmarkResult] | None:
    told = next((found for each in outcomes if (found := each.details.get("benchmarks"))), ())
    return [BenchmarkResult.model_validate(each) for each in told if each["verdict"]] or None


def _version() -> str:
    try:
        return version(_DISTRIBUTION)[:32]
    except PackageNotFoundError:
        return ""


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
    """Compact JSON of at most `limit` bytes.

    Warnings and times give way first, then the longest message, and the benchmarks last.
    """
    checks = [Check.model_validate(check.model_dump()) for check in result.checks]
    if len(_compact(result, checks)) > limit:
        checks = [c.model_copy(update={"warned": None, "seconds": None}) for c in checks]
    while len(data := _compact(result, checks)) > limit:
        longest = max(checks, key=lambda check: len(check.message.encode()))
        if not longest.message:
            break
        text = shortened(longest.message, len(longest.message) // 2) if longest.message[1:] else ""
        checks[checks.index(longest)] = longest.model_copy(update={"message": text})
    if len(data) > limit:
        return _compact(result.model_copy(update={"benchmarks": None}), checks)
    return data


def _compact(result: ValidationResult, checks: list[Check]) -> bytes:
    shorter = result.model_copy(update={"checks": checks})
    return shorter.model_dump_json(by_alias=True, exclude_none=True).encode()
