"""model_output: the model loads in a clean process, answers, and is not the base model any more."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetuning.api.v1alpha1 import ValidationPrompt
from finetuning.artifacts import MODEL_DIR_FILES
from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks.probe import (
    Answer,
    ProbeFailure,
    ProbeReport,
    ProbeRequest,
)
from finetuning.monitoring.validators.outcome import (
    CheckOutcome,
    Finding,
    Passed,
    first_finding,
    outcome,
    shortened,
)
from finetuning.monitoring.validators.subject import Subject

NAME = "model_output"
PROCESS = "finetuning.monitoring.validators.checks.model_process"
LIBRARIES = ("torch", "transformers", "peft", "safetensors")
TIMEOUT_SECONDS = 3300
"""Somewhat less than the validation Job's own hour, so that the report is still written."""

_ADAPTER_CONFIG, _MODEL_CONFIG = MODEL_DIR_FILES
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_SHOWN_CHARACTERS = 60
_REPEATS_THAT_TELL = 8
"""A short answer may well be one word twice."""


@dataclass(frozen=True)
class Base:
    """The model that was tuned: a folder here, or a name on the Hub."""

    name: str
    is_local: bool
    revision: str | None = None


@dataclass(frozen=True)
class Facts:
    """What the loaded model did."""

    report: ProbeReport
    questions: list[ValidationPrompt]
    base: str = ""

    @property
    def pairs(self) -> list[tuple[ValidationPrompt, Answer]]:
        return list(zip(self.questions, self.report.answers, strict=True))


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
    report = run(request, TIMEOUT_SECONDS)
    if isinstance(report, Finding):
        return outcome(NAME, report)
    facts = Facts(report, subject.settings.questions, request.base or "")
    verdict = first_finding(RULES, facts) or Passed(_message(facts))
    return outcome(NAME, verdict, score=_score(facts), details=_details(facts))


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
    is_adapter = (folder / _ADAPTER_CONFIG).is_file()
    if is_adapter and not (folder / _ADAPTER_WEIGHTS).is_file():
        return Finding("ModelMissing", f"{folder}: {_ADAPTER_WEIGHTS} is missing")
    base = find_base(subject, folder, is_adapter=is_adapter)
    if isinstance(base, Finding):
        return base
    return ProbeRequest(
        model_path=str(folder.resolve()),
        is_adapter=is_adapter,
        base=base.name if base else None,
        base_is_local=base.is_local if base else True,
        revision=base.revision if base else None,
        prompts=[question.prompt for question in subject.settings.questions],
    )


def find_base(subject: Subject, folder: Path, *, is_adapter: bool) -> Base | Finding | None:
    """The folder that was named, else the one the run recorded, else the model's name on the Hub.

    A full model needs no base to answer, so nothing is downloaded for it.
    """
    named = subject.settings.base_model_path
    if named is not None:
        if (Path(named) / _MODEL_CONFIG).is_file():
            return Base(str(Path(named).resolve()), is_local=True)
        return _base_missing(f"{named} holds no {_MODEL_CONFIG}")
    recorded = _recorded(subject, folder)
    for name in recorded:
        if (Path(name) / _MODEL_CONFIG).is_file():
            return Base(str(Path(name).resolve()), is_local=True)
    if not is_adapter:
        return None
    hub = next((name for name in recorded if not name.startswith((".", "/", "~"))), None)
    if hub is None:
        return _base_missing(f"{recorded[0]} is not there" if recorded else "nothing names it")
    revision = subject.info.training_config.get("revision") if subject.info else None
    return Base(hub, is_local=_offline(), revision=revision if isinstance(revision, str) else None)


def _recorded(subject: Subject, folder: Path) -> list[str]:
    """Names of the base model, the most trustworthy first."""
    info = subject.info
    names: list[Any] = [subject.settings.model_id]
    names += [info.training_config.get("model_id"), info.model_id] if info else []
    try:
        config = read_json(folder / _ADAPTER_CONFIG)
        names.append(config.get("base_model_name_or_path"))
    except (UnreadableFileError, AttributeError):
        pass
    return [name for name in names if isinstance(name, str) and name]


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _base_missing(why: str) -> Finding:
    text = f"The adapter's base model was not found; name its folder with --base-model ({why})"
    return Finding("BaseModelMissing", text, CheckResult.ERROR)


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
    if done.returncode == -signal.SIGKILL:
        text = "The process that loaded the model was killed, most likely for lack of memory"
        return Finding("OutOfMemory", text, CheckResult.ERROR)
    try:
        return ProbeReport.model_validate_json(done.stdout)
    except ValidationError:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        text = f"The process that loaded the model ended with code {done.returncode}: {last}"
        return Finding("ModelCrashed", text)


def _environment(request: ProbeRequest) -> dict[str, str]:
    """Offline unless the base model has to come from the Hub."""
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    offline = {"HF_HUB_OFFLINE": "1"} if request.base_is_local else {}
    return {**os.environ, **quiet, **offline}


def model_did_not_load(facts: Facts) -> Finding | None:
    failure = facts.report.failure
    if failure is None:
        return None
    if failure.out_of_memory:
        return Finding("OutOfMemory", f"Not enough memory: {failure.message}", CheckResult.ERROR)
    if failure.stage == "base":
        return _base_missing(f"{facts.base}: {failure.message}")
    return Finding("ModelLoadFailed", _load_message(failure))


def _load_message(failure: ProbeFailure) -> str:
    what = {"generation": "The model does not generate", "tokenizer": "The tokenizer does not load"}
    return f"{what.get(failure.stage, f'The {failure.stage} does not load')}: {failure.message}"


def adapter_is_untrained(facts: Facts) -> Finding | None:
    if not facts.report.adapter_is_zero:
        return None
    return Finding("AdapterUntrained", "Every lora_B of the adapter is zero: it changes nothing")


def logits_are_not_finite(facts: Facts) -> Finding | None:
    for question, answer in facts.pairs:
        if not answer.finite:
            text = f"Logits are NaN or infinite for {_shown(question.prompt)}"
            return Finding("LogitsNotFinite", text)
    return None


def answer_is_empty(facts: Facts) -> Finding | None:
    for question, answer in facts.pairs:
        if not answer.text:
            return Finding("AnswerEmpty", f"The model says nothing to {_shown(question.prompt)}")
    return None


def answer_is_one_token(facts: Facts) -> Finding | None:
    for question, answer in facts.pairs:
        if len(answer.tokens) >= _REPEATS_THAT_TELL and len(set(answer.tokens)) == 1:
            text = f"The model repeats one token for {_shown(question.prompt)}"
            return Finding("AnswerRepeats", f"{text}: {_shown(answer.text)}")
    return None


def model_is_the_base(facts: Facts) -> Finding | None:
    if facts.report.largest_logit_difference != 0:
        return None
    return Finding("SameAsBase", "The tuned model computes exactly what the base model does")


def keyword_is_missing(facts: Facts) -> Finding | None:
    for question, answer in facts.pairs:
        if not has_keyword(answer.text, question.expected_keywords):
            wanted = " or ".join(question.expected_keywords)
            text = f"{_shown(question.prompt)} was answered with {_shown(answer.text)}"
            return Finding("KeywordsMissing", f"{text}, without {wanted}")
    return None


def has_keyword(text: str, keywords: list[str]) -> bool:
    """Whether one of the words stands in the text as a word, in any case; none asked is fine."""
    plain = text.casefold()
    return not keywords or any(
        re.search(rf"(?<!\w){re.escape(word.casefold())}(?!\w)", plain) for word in keywords
    )


RULES = (
    model_did_not_load,
    adapter_is_untrained,
    logits_are_not_finite,
    answer_is_empty,
    answer_is_one_token,
    model_is_the_base,
    keyword_is_missing,
)


def _message(facts: Facts) -> str:
    count = len(facts.report.answers)
    compared = facts.report.largest_logit_difference is not None
    base = "differs from the base model" if compared else "no base model to compare with"
    return f"Model answers {count}/{count} prompts; {base}"


def _score(facts: Facts) -> float | None:
    """The share of answers with an expected word, where words are expected."""
    if facts.report.failure is not None:
        return None
    asked = [(q, a) for q, a in facts.pairs if q.expected_keywords]
    good = sum(has_keyword(answer.text, question.expected_keywords) for question, answer in asked)
    return good / len(asked) if asked else None


def _details(facts: Facts) -> dict[str, Any]:
    report = facts.report
    if report.failure is not None:
        return {"failure": json.loads(report.failure.model_dump_json())}
    nothing: list[Answer | None] = [None] * len(report.answers)
    base = report.base_answers or nothing
    return {
        "device": report.device,
        "seconds": round(report.seconds, 1),
        "largestLogitDifference": report.largest_logit_difference,
        "answers": [
            {
                "prompt": question.prompt,
                "answer": answer.text,
                "baseAnswer": before.text if before else None,
                "expectedKeywords": question.expected_keywords,
            }
            for (question, answer), before in zip(facts.pairs, base, strict=True)
        ],
    }


def _shown(text: str) -> str:
    return f"“{shortened(text, _SHOWN_CHARACTERS)}”"
