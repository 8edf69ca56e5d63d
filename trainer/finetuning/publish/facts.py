"""What is known about a finished run, from its own files, none of which has to be believed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetuning.artifacts import (
    ADAPTER_CONFIG,
    AIM_PROFILE,
    DATA_REPORT,
    TRAINING_INFO,
    VALIDATION_DIR,
    VALIDATION_REPORT_JSON,
)
from finetuning.artifacts.data_report import DataReport
from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.artifacts.models import ValidationResult

REPORT_MAX_BYTES = 64 << 20

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """The files about a run; a part that is missing or broken is empty."""

    info: Json
    adapter: Json
    profile: Json
    data: DataReport | None
    verdict: ValidationResult | None
    """On these very files; None when there is none."""
    verdict_problem: str
    """Why there is none."""
    manifest_sha256: str

    @property
    def passed(self) -> bool:
        return self.verdict is not None and self.verdict.ok

    @property
    def base_model(self) -> str:
        """The id by which the run names it."""
        return str(self.info.get("model_id") or "")


def read(run: Path, digest: str) -> Facts:
    """`digest` is the sha256 of the run's manifest, which a verdict must be about."""
    verdict, problem = _verdict(run / VALIDATION_DIR / VALIDATION_REPORT_JSON, digest)
    return Facts(
        info=_object(run / TRAINING_INFO),
        adapter=_object(run / ADAPTER_CONFIG),
        profile=_object(run / AIM_PROFILE),
        data=_data(run / DATA_REPORT),
        verdict=verdict,
        verdict_problem=problem,
        manifest_sha256=digest,
    )


def part(facts: Json, name: str) -> Json:
    """A section of a file; empty when it is none."""
    found = facts.get(name)
    return found if isinstance(found, dict) else {}


def _object(path: Path) -> Json:
    try:
        found = read_json(path)
    except UnreadableFileError:
        return {}
    return found if isinstance(found, dict) else {}


def _data(path: Path) -> DataReport | None:
    try:
        return DataReport.model_validate(read_json(path))
    except (UnreadableFileError, ValidationError):
        return None


def _verdict(path: Path, digest: str) -> tuple[ValidationResult | None, str]:
    if not path.exists():
        return None, "there is no such report"
    try:
        found = ValidationResult.model_validate(read_json(path, REPORT_MAX_BYTES))
    except (UnreadableFileError, ValidationError):
        return None, "is no validation report"
    if found.manifest_sha256 != digest:
        return None, "is about other files than these"
    return found, ""
