"""model_output: the model loads in a clean process, answers, and is not the base model any more."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from pydantic import ValidationError

from finetuning.artifacts import ADAPTER_CONFIG, DATA_REPORT, MODEL_DIR_FILES
from finetuning.artifacts.data_report import DataReport, RowShape
from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.artifacts.models import CheckResult
from finetuning.artifacts.reference import Reference
from finetuning.monitoring.validators.checks import benchmarks
from finetuning.monitoring.validators.checks.base_model import Base, find_base
from finetuning.monitoring.validators.checks.held_out_rows import HeldOutRows, read_rows
from finetuning.monitoring.validators.checks.loss_facts import gather
from finetuning.monitoring.validators.checks.model_facts import Facts, Taught
from finetuning.monitoring.validators.checks.model_failure import finding_of_end
from finetuning.monitoring.validators.checks.model_verdict import NAME, is_in_doubt, judge
from finetuning.monitoring.validators.checks.probe import (
    LONG_ENOUGH,
    BenchmarkRequest,
    FourBits,
    ProbeReport,
    ProbeRequest,
)
from finetuning.monitoring.validators.checks.same_weights import are_those_of
from finetuning.monitoring.validators.checks.tree import model_tree, no_file, tree_of
from finetuning.monitoring.validators.checks.weights import (
    dead_layers,
    read_contents,
    read_header,
)
from finetuning.monitoring.validators.outcome import CheckOutcome, Finding, outcome
from finetuning.monitoring.validators.subject import Subject

__all__ = ["NAME", "can_load", "check", "missing_library", "plan", "run"]

PROCESS = "finetuning.monitoring.validators.checks.model_process"
LIBRARIES = ("torch", "transformers", "peft", "safetensors")

_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_WHOLE_TEXTS = 0.95
"""Of the tokens of rows, those that are trained, where the rows are texts: all but the first. Long
answers come as near to that once they are cut, so that only reports without a shape are asked."""

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def can_load(model_path: Path | None) -> bool:
    """Whether there is a model, and what it takes to load one."""
    if model_path is None or missing_library() is not None:
        return False
    return any((model_path / name).is_file() for name in MODEL_DIR_FILES)


def missing_library() -> str | None:
    return next((name for name in LIBRARIES if find_spec(name) is None), None)


def check(subject: Subject) -> CheckOutcome:
    """Load the model, ask it the questions, judge the answers."""
    request = plan(subject)
    if isinstance(request, Finding):
        return outcome(NAME, request)
    report = run(request, subject.settings.timeout_seconds)
    if isinstance(report, Finding):
        return outcome(NAME, report)
    return judged(report, request, subject)


def judged(report: ProbeReport, request: ProbeRequest, subject: Subject) -> CheckOutcome:
    """The verdict on what the process with the model reports."""
    known = Facts.of(report, subject.settings, request.base or "")
    rows = _rows(subject)
    facts = replace(known, taught=_taught(subject, rows), taught_long=_are_long(rows))
    doubt = facts.is_near_the_base or is_in_doubt(facts)
    return judge(
        replace(
            facts,
            left_out=[*request.left_out, *report.refused],
            reference=_reference(subject),
            reference_is_due=_reference_is_due(subject),
            method=_method(subject),
            is_adapter=request.is_adapter,
            is_in_32_bits=_is_in_32_bits(subject, Path(request.model_path)),
            loss_fell=_loss_fell(subject) if doubt else None,
        )
    )


def _taught(subject: Subject, rows: DataReport | None) -> Taught:
    """By what the trainer told of its rows; answers where it told nothing."""
    if subject.info and subject.info.training_config.get("objective") == "dpo":
        return Taught.PREFERENCES
    return Taught.TEXTS if rows and _are_texts(rows) else Taught.ANSWERS


def _rows(subject: Subject) -> DataReport | None:
    try:
        path = (subject.model_path or Path()) / DATA_REPORT
        return DataReport.model_validate(read_json(path))
    except (UnreadableFileError, ValidationError):
        return None


def _are_long(rows: DataReport | None) -> bool:
    """Most of them whole, and longer than the model is given to end an answer."""
    if rows is None or rows.lengths is None or rows.cut_examples:
        return False
    return rows.lengths.median > LONG_ENOUGH


def _are_texts(told: DataReport) -> bool:
    if told.shape is not None:
        return told.shape is RowShape.TEXTS
    return bool(told.tokens) and (told.trained_tokens or 0) >= _WHOLE_TEXTS * (told.tokens or 0)


def _reference_is_due(subject: Subject) -> bool:
    """The trainer says where it ran, and null where the model could not be asked."""
    info = subject.info
    known = info is not None and bool(info.environment)
    could_not = info is not None and info.reference is None and "reference" in info.model_fields_set
    return subject.settings.require_all and known and not could_not


def _loss_fell(subject: Subject) -> bool | None:
    """None where too few steps tell."""
    trend = gather(subject, subject.info).trend if subject.info else None
    return trend.clear if trend and trend.certain else None


def _is_in_32_bits(subject: Subject, folder: Path) -> bool:
    told = subject.info.environment.get("precision") if subject.info else None
    try:
        weights = tree_of(folder, is_checkpoint=False).weights.values()
    except (OSError, UnreadableFileError):
        return False
    return told == "fp32" and all(tensor.dtype == "F32" for tensor in weights)


def plan(subject: Subject) -> ProbeRequest | Finding:
    """What to load; everything that can be known without loading it is judged here."""
    library = missing_library()
    if library is not None:
        text = f"{library} is not installed: pip install 'finetuning-operator[trainer]'"
        return Finding("LibraryMissing", text, CheckResult.ERROR)
    folder = subject.model_path
    if folder is None or not can_load(folder):
        text = f"{folder or 'no folder'}: neither {' nor '.join(MODEL_DIR_FILES)} is there"
        return Finding("ModelMissing", text)
    is_adapter = (folder / ADAPTER_CONFIG).is_file()
    base = find_base(subject, folder, is_adapter=is_adapter)
    known = base if isinstance(base, Base) else None
    if problem := _problem_of(folder, known, is_adapter=is_adapter):
        return problem
    if isinstance(base, Finding):
        return base
    rows = _held_out_rows(subject)
    if isinstance(rows, Finding):
        return rows
    tasks = _tasks(subject)
    return tasks if isinstance(tasks, Finding) else _request(subject, folder, base, rows, tasks)


def _problem_of(folder: Path, base: Base | None, *, is_adapter: bool) -> Finding | None:
    """The libraries follow links, and load what was never trained."""
    if problem := no_file(tree_of(folder.resolve(), is_checkpoint=False)):
        return Finding("NotAFile", problem)
    if not is_adapter:
        return _unchanged(folder, base)
    weights = folder / _ADAPTER_WEIGHTS
    if not weights.is_file():
        return Finding("ModelMissing", f"{folder}: {_ADAPTER_WEIGHTS} is missing")
    return _untrained(weights)


def _unchanged(folder: Path, base: Base | None) -> Finding | None:
    """Rounding alone changes the logits, so that they do not tell."""
    try:
        own = tree_of(folder, is_checkpoint=False)
        before = model_tree(Path(base.name)) if base and base.is_local else None
        same = before is not None and are_those_of(own, before)
    except (OSError, UnreadableFileError):
        return None  # Loading it says what is wrong.
    text = "Every weight is the base model's, rounded at most: nothing was trained"
    return Finding("SameAsBase", text) if same else None


def _request(
    subject: Subject,
    folder: Path,
    base: Base | None,
    rows: HeldOutRows,
    tasks: BenchmarkRequest | None,
) -> ProbeRequest:
    asks, is_adapter = _reference(subject) is not None, (folder / ADAPTER_CONFIG).is_file()
    return ProbeRequest(
        model_path=str(folder.resolve()),
        is_adapter=is_adapter,
        base=base.name if base else None,
        base_is_local=base.is_local if base else True,
        revision=base.revision if base else None,
        compare=subject.settings.baseline.compare,
        prompts=[question.prompt for question in subject.settings.questions],
        max_new_tokens=subject.settings.max_new_tokens,
        held_out=rows.rows,
        left_out=rows.problems,
        reference=asks,
        base_reference=asks and (is_adapter or _method(subject) in ("qlora", "full")),
        four_bits=_four_bits(subject) if asks and is_adapter else None,
        benchmarks=tasks,
    )


def _untrained(weights: Path) -> Finding | None:
    """Without loading anything: layers that are trained as a whole would be in the file as well."""
    try:
        file = read_header(weights)
        zero = read_contents(file).zero
    except (OSError, UnreadableFileError):
        return None  # Loading it says what is wrong.
    others = [name for name in file.names if ".lora_" not in name]
    layers, dead = dead_layers(file.names), dead_layers(zero)
    if others or not layers or len(dead) < len(layers):
        return None
    text = f"Each of the adapter's {len(layers)} layers has a matrix of zeros: it changes nothing"
    return Finding("AdapterUntrained", text, numbers={"zero": len(dead)})


def _held_out_rows(subject: Subject) -> HeldOutRows | Finding:
    wanted = subject.settings.held_out
    if wanted.source is None:
        return HeldOutRows([], [])
    try:
        return read_rows(Path(wanted.source), wanted.max_rows, wanted.columns)
    except UnreadableFileError as error:
        return Finding("HeldOutUnreadable", str(error), CheckResult.ERROR)


def _reference(subject: Subject) -> Reference | None:
    return subject.info.reference if subject.info else None


def _four_bits(subject: Subject) -> FourBits | None:
    """None where the base model was not stored so, or where it is not told how."""
    info = subject.info
    told = info.training_config if info else {}
    if info is None or _method(subject) != "qlora" or told.get("load_in_4bit") is not True:
        return None
    try:
        return FourBits(
            quant_type=told.get("bnb_4bit_quant_type"),
            double_quant=told.get("bnb_4bit_use_double_quant"),
            weights=_DTYPES.get(str(info.environment.get("precision"))),
        )
    except ValidationError:
        return None


def _method(subject: Subject) -> str | None:
    return subject.settings.method or (subject.info.method if subject.info else None)


def _tasks(subject: Subject) -> BenchmarkRequest | Finding | None:
    """None where no task is asked for, or none can be run: the verdict says so then."""
    wanted = subject.settings.benchmarks
    if not wanted.tasks or benchmarks.missing_library():
        return None
    try:
        return benchmarks.request_of(wanted)
    except UnreadableFileError as error:
        return Finding("TaskUnreadable", str(error), CheckResult.ERROR)


def run(request: ProbeRequest, timeout: float) -> ProbeReport | Finding:
    """Ask a new process, so that a crash or lack of memory there leaves a report here."""
    command = [sys.executable, "-P", "-m", PROCESS]
    try:
        done = subprocess.run(
            command,
            input=request.model_copy(update={"parent": os.getpid()}).model_dump_json(),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=_environment(request),
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        text = f"The model did not answer within {timeout:.0f} s"
        return Finding("TimedOut", text, CheckResult.ERROR)
    return read_answer(done)


def read_answer(done: subprocess.CompletedProcess[str]) -> ProbeReport | Finding:
    """The child's report, or what can be told of its end."""
    try:
        return ProbeReport.model_validate_json(done.stdout)
    except ValidationError:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return finding_of_end(done.returncode, last)


def _environment(request: ProbeRequest) -> dict[str, str]:
    """Offline, and without a token, unless the base model has to come from the Hub."""
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    if not request.base_is_local:
        return {**os.environ, **quiet}
    known = {name: value for name, value in os.environ.items() if name not in _TOKENS}
    return {**known, **quiet, "HF_HUB_OFFLINE": "1"}
