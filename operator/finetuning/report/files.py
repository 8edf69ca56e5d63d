"""What is known about a run, from the files of its output folder; none of them is trusted."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from finetuning.api.v1alpha1 import FineTuningJobStatus, Phase
from finetuning.artifacts import (
    AIM_PROFILE,
    DATA_REPORT,
    LOSS_HISTORY,
    MANIFEST,
    PERFORMANCE_HISTORY,
    RUN_INFO,
    SAMPLES,
    STATE_DIR,
    STATE_FILE,
    TRAINING_INFO,
    VALIDATION_DIR,
    VALIDATION_REPORT_JSON,
)
from finetuning.artifacts.data_report import DataReport
from finetuning.artifacts.files import UnreadableFileError, read_bounded, read_json
from finetuning.artifacts.history import HistoryLine, PerformanceLine, SampleLine, read_lines
from finetuning.artifacts.manifest import Manifest, read_manifest, sha256_of
from finetuning.artifacts.models import Artifact, TrainingState, ValidationResult
from finetuning.controller.progress import duration
from finetuning.local import live_state
from finetuning.local.lock import LOCK, is_held

STATUS_FILE = "status.json"
_SMALL_FILE = 4 << 20
_MOST_STEPS = 10**12
_Model = TypeVar("_Model", bound=BaseModel)
_Found = TypeVar("_Found")


class Answer(Artifact):
    """A question to the model, before and after; part of the validation's details."""

    prompt: str
    answer: str | None = None
    base_answer: str | None = None
    expected_keywords: list[str] = Field(default_factory=list)


@dataclass
class RunFiles:
    """Everything that could be read; what could not is named in `missing`."""

    name: str
    status: FineTuningJobStatus | None = None
    state: TrainingState | None = None
    is_left: bool = False
    """Whether the `finetuning run` that had it is gone."""
    pulse: float | None = None
    """When the trainer last said that it lives, in Unix seconds."""
    info: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)
    data: DataReport | None = None
    history: list[HistoryLine] = field(default_factory=list)
    performance: list[PerformanceLine] = field(default_factory=list)
    samples: list[SampleLine] = field(default_factory=list)
    validation: ValidationResult | None = None
    answers: list[Answer] = field(default_factory=list)
    manifest: Manifest | None = None
    manifest_sha256: str = ""
    missing: dict[str, str] = field(default_factory=dict)
    """File → why it could not be read."""

    def part(self, name: str) -> Mapping[str, Any]:
        """An object of training_info.json; empty when it is none."""
        found = self.info.get(name)
        return found if isinstance(found, Mapping) else {}


def read(folder: Path) -> RunFiles:
    """Read what there is; never fails because of what is in a file."""
    run = RunFiles(name=folder.resolve().name or "run")
    look = _Reader(folder, run.missing)
    run.status = look.model(STATUS_FILE, FineTuningJobStatus)
    run.is_left = (folder / LOCK).exists() and not is_held(folder)
    if run.status is None:
        # A local run keeps its live state elsewhere.
        run.state = look.model(f"{STATE_DIR}/{STATE_FILE}", TrainingState)
        run.pulse = live_state.pulse(folder / STATE_DIR)
    # The one follows the other when a run has finished.
    run.info = look.mapping(TRAINING_INFO) or look.mapping(RUN_INFO)
    run.profile = look.mapping(AIM_PROFILE)
    run.data = look.model(DATA_REPORT, DataReport)
    run.history = look.lines(LOSS_HISTORY, HistoryLine)
    run.performance = look.lines(PERFORMANCE_HISTORY, PerformanceLine)
    run.samples = look.attempt(SAMPLES, _samples) or []
    name = f"{VALIDATION_DIR}/{VALIDATION_REPORT_JSON}"
    run.validation = look.model(name, ValidationResult)
    run.answers = list(_answers(look.mapping(name))) if run.validation else []
    run.manifest = look.attempt(MANIFEST, lambda _: read_manifest(folder))
    if run.manifest is not None:
        run.manifest_sha256 = sha256_of(folder / MANIFEST)
    return run


class _Reader:
    """Reads files of a folder; notes which could not be read, and why."""

    def __init__(self, folder: Path, missing: dict[str, str]) -> None:
        self._folder, self._missing = folder, missing

    def attempt(self, name: str, read: Callable[[Path], _Found]) -> _Found | None:
        path = self._folder / name
        try:
            return read(path)
        except (OSError, UnreadableFileError, ValidationError, RecursionError) as error:
            self._missing[name] = _why(error, path)
            return None

    def model(self, name: str, kind: type[_Model]) -> _Model | None:
        return self.attempt(
            name, lambda path: kind.model_validate_json(read_bounded(path, _SMALL_FILE))
        )

    def mapping(self, name: str) -> Mapping[str, Any]:
        found = self.attempt(name, _json_object)
        return found if found is not None else {}

    def lines(self, name: str, kind: Any) -> list[Any]:
        found = self.attempt(name, lambda path: list(read_lines(path, kind)))
        if not found:
            there = (self._folder / name).exists()
            why = "holds nothing that can be read" if there else "is not there"
            self._missing.setdefault(name, why)
        return _in_order(found or [])


def _samples(path: Path) -> list[SampleLine]:
    """Empty where none were wished for, which is no loss."""
    found = list(read_lines(path, SampleLine))
    if path.exists() and not found:
        raise UnreadableFileError("holds nothing that can be read")
    return found


def _json_object(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise UnreadableFileError("is no JSON object")
    return found


def _why(error: Exception, path: Path) -> str:
    """Without the folder's place on the machine that the page was made on."""
    if not path.exists():
        return "is not there"
    if isinstance(error, ValidationError):
        return "does not hold what it should"
    return str(error).removeprefix(f"{path}: ")


def _in_order(lines: list[Any]) -> list[Any]:
    """One line a step, the last one said: what was done again counts as it was done last."""
    by_step = {line.step: line for line in lines if line.step < _MOST_STEPS}
    return [by_step[step] for step in sorted(by_step)]


def _answers(report: Mapping[str, Any]) -> Iterator[Answer]:
    for check in report.get("checks") or ():
        details = check.get("details") if isinstance(check, dict) else None
        found = details.get("answers") if isinstance(details, dict) else None
        for each in found if isinstance(found, list) else ():
            try:
                yield Answer.model_validate(each)
            except ValidationError:
                continue


def phase(run: RunFiles) -> Phase | None:
    """By the status, else by what the trainer itself left; None when nothing tells."""
    if run.status is not None:
        return run.status.phase
    if run.state is not None and run.state.state.is_terminal:
        return {"finished": Phase.SUCCEEDED, "failed": Phase.FAILED}.get(
            run.state.state, Phase.PAUSED
        )
    if run.manifest is not None and run.info:
        return Phase.SUCCEEDED
    return Phase.RUNNING if run.state is not None else None


def stopped(run: RunFiles, now: float) -> str:
    """Why a run that should be at work is not; empty where nothing speaks against it."""
    if phase(run) not in {Phase.PENDING, Phase.RUNNING}:
        return ""
    if run.status is not None:
        return "its process is gone" if run.is_left else ""
    silent = live_state.silence(run.state, run.pulse, now) if run.state is not None else None
    return f"no sign of life for {duration(silent)}" if silent is not None else ""


def number(value: Any) -> float | None:
    """A finite figure of a file that may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def moment(value: Any) -> datetime | None:
    """Unix seconds as a moment."""
    seconds = number(value)
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None
    except (OverflowError, ValueError, OSError):
        return None


def brief(value: Any, limit: int = 400) -> str:
    """Any value of a JSON file in a few words."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return brief(", ".join(brief(each, 60) for each in value[:50]), limit)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else text[: limit - 1] + "…"
