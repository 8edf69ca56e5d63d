"""Models of the small files and messages by which the parts of a run talk to each other."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

SCHEMA_VERSION = 1
STATE_MAX_BYTES = 256 * 1024
MAX_GPUS = 64


def _float_from_wire(value: Any) -> Any:
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


def _float_to_wire(value: float) -> float | str:
    if value != value:  # noqa: PLR0124 - NaN is the one value that differs from itself
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


WireFloat = Annotated[
    float,
    BeforeValidator(_float_from_wire),
    PlainSerializer(_float_to_wire, return_type=float | str, when_used="json"),
]
"""A float whose NaN and infinities travel as strings, since JSON has none."""

Count = Annotated[int, Field(ge=0, le=2**53)]
"""A whole number that JSON readers, Prometheus and the API server all hold exactly."""

Amount = Annotated[float, Field(ge=0, le=2**53, allow_inf_nan=False)]
"""A finite figure; what a hostile file puts beyond any real one is refused."""


class Artifact(BaseModel):
    """camelCase on the wire; unknown keys are ignored so that versions can mix."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class RunState(StrEnum):
    """What the trainer is doing."""

    STARTING = "starting"
    TRAINING = "training"
    EVALUATING = "evaluating"
    SAVING = "saving"
    FINISHED = "finished"
    FAILED = "failed"
    PAUSED = "paused"

    @property
    def is_terminal(self) -> bool:
        return self in (RunState.FINISHED, RunState.FAILED, RunState.PAUSED)


class GpuState(Artifact):
    """One GPU as the process that owns it sees it; absent means unknown."""

    index: int = Field(ge=0, lt=MAX_GPUS)
    name: str | None = Field(default=None, max_length=128)
    uuid: str | None = Field(default=None, max_length=64)
    utilization_percent: float | None = Field(default=None, ge=0, le=100)
    pci_address: str | None = Field(default=None, max_length=32)
    memory_used_bytes: Count | None = None
    memory_total_bytes: Count | None = None
    peak_memory_bytes: Count | None = None
    power_watts: Amount | None = None
    temperature_celsius: float | None = Field(default=None, ge=-100, le=500)
    energy_joules: Amount | None = None


class GpuFigures(Artifact):
    """The GPUs of a run between two reports of the trainer: state/gpus.json."""

    updated_at: Amount
    gpus: list[GpuState] = Field(max_length=MAX_GPUS)


class TrainingState(Artifact):
    """The live state of a run: state/rank-0.json, and the sidecar's /status.

    Loss in nats per token, rates per second of wall clock over the last logging interval, times in
    Unix seconds, `mfu_ratio` the share of the GPU's peak that the model's arithmetic reaches,
    `energy_joules` what the GPUs of the run have used since this process took them, where all of
    them can tell. None means not known yet: a run that is starting may be one that goes on, and
    what it has counted so far is in a checkpoint that it has not read.
    """

    schema_version: Count = SCHEMA_VERSION
    seq: Count = 0
    updated_at: Amount
    process_started_at: Amount | None = None
    started_at: Amount | None = None
    resumed_at: Amount | None = None
    finished_at: Amount | None = None
    state: RunState = RunState.STARTING
    reason: str = Field(default="", max_length=128)
    message: str = Field(default="", max_length=1024)
    step: Count | None = None
    total_steps: Count | None = None
    epoch: Amount | None = None
    total_epochs: Count | None = None
    loss: WireFloat | None = None
    loss_epoch: Amount | None = None
    """`epoch` when the loss was told: of the steps since then there is none yet."""
    eval_loss: WireFloat | None = None
    grad_norm: WireFloat | None = None
    learning_rate: Amount | None = None
    samples_per_second: Amount | None = None
    tokens_per_second: Amount | None = None
    tokens_total: Count | None = None
    samples_total: Count | None = None
    nonfinite_losses: Count | None = None
    estimated_remaining_seconds: Amount | None = None
    checkpoints_total: Count | None = None
    checkpoint_sizes_bytes: list[Count] | None = Field(default=None, max_length=4096)
    last_checkpoint: str | None = Field(default=None, max_length=256)
    last_checkpoint_at: Amount | None = None
    checkpoint_interval_steps: Count | None = None
    precision: str = Field(default="", pattern=r"^[a-z0-9]{0,16}$")
    mfu_ratio: float | None = Field(default=None, ge=0, le=1)
    energy_joules: Amount | None = None
    gpus: list[GpuState] = Field(default_factory=list, max_length=MAX_GPUS)


class TrainingResult(Artifact):
    """The trainer's last words: its termination message, at most 3 KiB.

    Paths are relative to the output folder.
    """

    kind: str = Field(default="training", pattern=r"^training$")
    result: RunState
    reason: str = Field(default="", max_length=128)
    message: str = Field(default="", max_length=1024)
    step: Count = 0
    total_steps: Count | None = None
    planned_steps: Count | None = None
    """More than the total where the run has stopped early; of a finished one alone."""
    epoch: Amount | None = None
    total_epochs: Count | None = None
    loss: WireFloat | None = None
    eval_loss: WireFloat | None = None
    tokens_per_second: Amount | None = None
    samples_per_second: Amount | None = None
    train_seconds: Amount | None = None
    energy_joules: Amount | None = None
    """As in the live state: of this process alone."""
    checkpoint: str | None = Field(default=None, max_length=256)
    manifest_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class CheckResult(StrEnum):
    """Outcome of one validation check."""

    PASS = "Pass"  # noqa: S105 - not a password
    FAIL = "Fail"
    SKIP = "Skip"
    ERROR = "Error"


class Check(Artifact):
    """One validation check's outcome; the score is finite or absent."""

    name: str = Field(min_length=1, max_length=64)
    result: CheckResult
    required: bool = True
    score: float | None = Field(default=None, allow_inf_nan=False)
    threshold: float | None = Field(default=None, allow_inf_nan=False)
    """What the score was held against."""
    reason: str = Field(default="", max_length=64)
    message: str = Field(default="", max_length=256)
    seconds: Amount | None = None
    warned: list[Annotated[str, Field(max_length=64)]] | None = Field(default=None, max_length=16)
    """Reasons of findings that do not decide."""

    @property
    def passed(self) -> bool:
        return self.result is CheckResult.PASS


class JudgedFiles(Artifact):
    """The model that was judged, by its manifest."""

    files: Count
    size_bytes: Count


class BaseComparison(Artifact):
    """Losses on the held-out rows, in nats per token."""

    rows: Count
    base: Amount
    tuned: Amount
    standard_error: Amount | None = None
    """Of the difference."""
    verdict: str = Field(pattern=r"^(better|same|worse)$")


class BenchmarkResult(Artifact):
    """A task's score of both models."""

    task: str = Field(max_length=128)
    metric: str = Field(max_length=64)
    base: float = Field(allow_inf_nan=False)
    tuned: float = Field(allow_inf_nan=False)
    z: float | None = Field(default=None, allow_inf_nan=False)
    """Of tuned less base."""
    verdict: str = Field(pattern=r"^(better|same|worse)$")


class CopiedModel(Artifact):
    """A copy of the model that is complete and was read back."""

    kind: str = Field(pattern=r"^[a-z0-9]{1,8}$")
    location: str = Field(min_length=1, max_length=512)
    digest: str = Field(default="", max_length=128)
    """Of what seals the copy."""
    files: Count = 0
    size_bytes: Count = 0
    sent_files: Count = 0
    """Those that were not there before."""


class PublishResult(Artifact):
    """The publishing Job's termination message."""

    kind: str = Field(default="publish", pattern=r"^publish$")
    copies: list[CopiedModel] = Field(default_factory=list, max_length=8)
    manifest_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    reason: str = Field(default="", max_length=64)
    """Why there are not more copies; empty when all were made."""
    message: str = Field(default="", max_length=512)


class ValidationResult(Artifact):
    """The validation Job's termination message and the head of its JSON report."""

    kind: str = Field(default="validation", pattern=r"^validation$")
    checks: list[Check] = Field(max_length=16)
    manifest_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    report_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the text file."""
    model: JudgedFiles | None = None
    baseline: BaseComparison | None = None
    benchmarks: list[BenchmarkResult] | None = Field(default=None, max_length=8)
    validator_version: str = Field(default="", max_length=32)

    @property
    def required(self) -> list[Check]:
        return [check for check in self.checks if check.required]

    @property
    def passed(self) -> int:
        return sum(check.passed for check in self.required)

    @property
    def total(self) -> int:
        return len(self.required)

    @property
    def ok(self) -> bool:
        """A report without a required check proves nothing."""
        return self.total > 0 and self.passed == self.total


def render_report(result: ValidationResult) -> str:
    """The report as text, in the specification's form; a pure function of the checks."""
    lines = ["=== Fine-Tuning Validation Report ===", ""]
    for check in result.checks:
        lines += _check_lines(check)
    lines.append(f"Summary: {result.passed}/{result.total} checks passed")
    return "\n".join(lines)


_MARKS = {
    CheckResult.PASS: "✓ PASS",
    CheckResult.FAIL: "✗ FAIL",
    CheckResult.SKIP: "- SKIP",
    CheckResult.ERROR: "! ERROR",
}


def _check_lines(check: Check) -> list[str]:
    aside = "" if check.required else " (only reported: it does not count)"
    lines = [f"{_MARKS[check.result]} - {check.name}", f"  {check.message}{aside}"]
    if check.score is not None:
        lines.append(f"  Score: {check.score:.4f}")
    return [*lines, ""]
