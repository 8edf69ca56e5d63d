"""model_output: the model loads in a clean process, answers, and is not the base model any more."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetuning.artifacts import MODEL_DIR_FILES
from finetuning.artifacts.files import UnreadableFileError
from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks.answers import (
    echoes,
    has_keywords,
    has_word,
    loops,
    repeats_one_token,
)
from finetuning.monitoring.validators.checks.base_model import (
    ADAPTER_CONFIG,
    Base,
    base_missing,
    find_base,
)
from finetuning.monitoring.validators.checks.held_out import Comparison, compare, read_rows
from finetuning.monitoring.validators.checks.probe import (
    Answer,
    HeldOutRow,
    ProbeFailure,
    ProbeReport,
    ProbeRequest,
)
from finetuning.monitoring.validators.checks.weights import (
    SECOND_MATRIX,
    read_contents,
    read_header,
)
from finetuning.monitoring.validators.outcome import (
    CheckOutcome,
    Finding,
    Passed,
    Rule,
    all_findings,
    first_finding,
    outcome,
    shortened,
)
from finetuning.monitoring.validators.settings import Match, Question
from finetuning.monitoring.validators.subject import Subject

NAME = "model_output"
PROCESS = "finetuning.monitoring.validators.checks.model_process"
LIBRARIES = ("torch", "transformers", "peft", "safetensors")

_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SHOWN_CHARACTERS = 60

Fault = Callable[[Question, Answer], bool]


@dataclass(frozen=True)
class Facts:
    """What the loaded model did."""

    report: ProbeReport
    questions: list[Question]
    base: str = ""
    max_perplexity_increase: float | None = None

    @property
    def pairs(self) -> list[tuple[Question, Answer]]:
        return list(zip(self.questions, self.report.answers, strict=True))

    @cached_property
    def triples(self) -> list[tuple[Question, Answer, Answer | None]]:
        """Each question with the tuned model's answer and the base model's, if it was asked."""
        before: Sequence[Answer | None] = self.report.base_answers or [None] * len(self.questions)
        return list(zip(self.questions, self.report.answers, before, strict=True))

    @cached_property
    def comparison(self) -> Comparison | None:
        return compare(self.report.held_out, self.report.base_held_out)


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
    settings = subject.settings
    report = run(request, settings.timeout_seconds)
    if isinstance(report, Finding):
        return outcome(NAME, report)
    limit = settings.baseline.max_perplexity_increase
    return judge(Facts(report, settings.questions, request.base or "", limit))


def judge(facts: Facts) -> CheckOutcome:
    """The verdict on what the model did."""
    finding = first_finding(RULES, facts)
    warnings = [] if finding else all_findings(WARNINGS, facts)
    verdict = finding or Passed(_message(facts))
    score, details = _score(facts), _details(facts)
    return outcome(NAME, verdict, score=score, details=details, warnings=warnings)


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
    weights = folder / _ADAPTER_WEIGHTS
    if is_adapter and not weights.is_file():
        return Finding("ModelMissing", f"{folder}: {_ADAPTER_WEIGHTS} is missing")
    if is_adapter and (untrained := _untrained(weights)):
        return untrained
    base = find_base(subject, folder, is_adapter=is_adapter)
    if isinstance(base, Finding):
        return base
    rows = _held_out_rows(subject)
    return rows if isinstance(rows, Finding) else _request(subject, folder, base, rows)


def _request(
    subject: Subject, folder: Path, base: Base | None, rows: list[HeldOutRow]
) -> ProbeRequest:
    return ProbeRequest(
        model_path=str(folder.resolve()),
        is_adapter=(folder / ADAPTER_CONFIG).is_file(),
        base=base.name if base else None,
        base_is_local=base.is_local if base else True,
        revision=base.revision if base else None,
        compare=subject.settings.baseline.compare,
        prompts=[question.prompt for question in subject.settings.questions],
        held_out=rows,
    )


def _untrained(weights: Path) -> Finding | None:
    """Without loading anything: layers that are trained as a whole would be in the file as well."""
    try:
        file = read_header(weights)
        zero = read_contents(file).zero
    except (OSError, UnreadableFileError):
        return None  # Loading it says what is wrong.
    others = [name for name in file.names if ".lora_" not in name]
    seconds = [name for name in file.names if SECOND_MATRIX in name]
    if others or not seconds or len(zero) < len(seconds):
        return None
    text = f"Every lora_B of the adapter is zero ({len(seconds)} of them): it changes nothing"
    return Finding("AdapterUntrained", text, numbers={"zero": len(zero)})


def _held_out_rows(subject: Subject) -> list[HeldOutRow] | Finding:
    wanted = subject.settings.held_out
    if wanted.source is None:
        return []
    try:
        return read_rows(Path(wanted.source), wanted.max_rows)
    except UnreadableFileError as error:
        return Finding("HeldOutUnreadable", str(error), CheckResult.ERROR)


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
    """Offline, and without a token, unless the base model has to come from the Hub."""
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    if not request.base_is_local:
        return {**os.environ, **quiet}
    known = {name: value for name, value in os.environ.items() if name not in _TOKENS}
    return {**known, **quiet, "HF_HUB_OFFLINE": "1"}


def model_did_not_load(facts: Facts) -> Finding | None:
    failure = facts.report.failure
    if failure is None:
        return None
    if failure.out_of_memory:
        return Finding("OutOfMemory", f"Not enough memory: {failure.message}", CheckResult.ERROR)
    if failure.stage == "base":
        return base_missing(f"{facts.base}: {failure.message}")
    return Finding("ModelLoadFailed", _load_message(failure))


def _load_message(failure: ProbeFailure) -> str:
    what = {"generation": "The model does not generate", "tokenizer": "The tokenizer does not load"}
    return f"{what.get(failure.stage, f'The {failure.stage} does not load')}: {failure.message}"


def logits_are_not_finite(facts: Facts) -> Finding | None:
    for question, answer in facts.pairs:
        if not answer.finite:
            text = f"Logits are NaN or infinite for {_shown(question.prompt)}"
            return Finding("LogitsNotFinite", text)
    if not all(math.isfinite(row.nats) for row in facts.report.held_out):
        return Finding("LogitsNotFinite", "The loss of a held-out row is NaN or infinite")
    return None


def answer_is_empty(facts: Facts) -> Finding | None:
    for question, answer in facts.pairs:
        if not answer.text:
            return Finding("AnswerEmpty", f"The model says nothing to {_shown(question.prompt)}")
    return None


def answer_is_one_token(facts: Facts) -> Finding | None:
    text = "The model repeats one token for"
    return _worse(facts, "AnswerRepeats", text, lambda _, answer: repeats_one_token(answer))


def answer_loops(facts: Facts) -> Finding | None:
    text = "The model repeats a phrase for"
    return _worse(facts, "AnswerLoops", text, lambda _, answer: loops(answer))


def answer_is_the_prompt(facts: Facts) -> Finding | None:
    text = "The model only repeats the prompt"
    return _worse(facts, "PromptEchoed", text, lambda q, answer: echoes(q.prompt, answer))


def _worse(facts: Facts, reason: str, text: str, is_bad: Fault) -> Finding | None:
    """What the base model does as well, the tuning has not broken."""
    for question, answer, before in facts.triples:
        if is_bad(question, answer) and (before is None or not is_bad(question, before)):
            told = f"{text} {_shown(question.prompt)}: {_shown(answer.text)}"
            return Finding(reason, told)
    return None


def answers_do_not_stop(facts: Facts) -> Finding | None:
    """Long answers are no fault by themselves; having unlearned to end is."""
    before = facts.report.base_answers or []
    if not before or not all(answer.stopped for answer in before):
        return None
    if any(answer.stopped is not False for answer in facts.report.answers):
        return None
    count = len(before)
    text = f"The model ends none of {count} answers, the base model ends all"
    return Finding("AnswerDoesNotStop", text, numbers={"answers": count})


def model_is_the_base(facts: Facts) -> Finding | None:
    if facts.report.largest_logit_difference != 0:
        return None
    return Finding("SameAsBase", "The tuned model computes exactly what the base model does")


def keyword_is_missing(facts: Facts) -> Finding | None:
    for question, answer in facts.pairs:
        if not has_keywords(answer.text, question):
            joint = " and " if question.match is Match.ALL else " or "
            absent = [w for w in question.expected_keywords if not has_word(answer.text, w)]
            text = f"{_shown(question.prompt)} was answered with {_shown(answer.text)}"
            return Finding("KeywordsMissing", f"{text}, without {joint.join(absent)}")
    return None


def held_out_is_worse(facts: Facts) -> Finding | None:
    found, limit = facts.comparison, facts.max_perplexity_increase
    if found is None or found.increase is None or limit is None or found.increase <= limit:
        return None
    return Finding(
        "HeldOutWorse",
        f"Held-out perplexity {found.perplexity:.4g} is {found.increase:.1%} above the base "
        f"model's {found.base_perplexity:.4g}; {limit:.1%} is allowed",
        numbers={"increase": found.increase, "maxPerplexityIncrease": limit},
    )


def held_out_regressed(facts: Facts) -> Finding | None:
    found = facts.comparison
    if found is None or found.verdict != "worse":
        return None
    text = f"Held-out perplexity {found.perplexity:.4g}, base {found.base_perplexity:.4g}"
    return Finding("HeldOutRegressed", text)


def base_is_as_bad(facts: Facts) -> Finding | None:
    for question, answer, _ in facts.triples:
        if repeats_one_token(answer) or loops(answer) or echoes(question.prompt, answer):
            text = f"Neither model gives a useful answer to {_shown(question.prompt)}"
            return Finding("AsBadAsBase", text)
    return None


def answer_was_cut_off(facts: Facts) -> Finding | None:
    count = sum(answer.stopped is False for answer in facts.report.answers)
    total = len(facts.report.answers)
    return Finding("AnswerCutOff", f"{count} of {total} answers reach the limit") if count else None


def nothing_to_compare(facts: Facts) -> Finding | None:
    if facts.report.largest_logit_difference is not None:
        return None
    return Finding("NotCompared", "That the model differs from its base was not shown")


RULES: tuple[Rule[Facts], ...] = (
    model_did_not_load,
    logits_are_not_finite,
    answer_is_empty,
    held_out_is_worse,
    answer_is_one_token,
    answer_loops,
    answer_is_the_prompt,
    answers_do_not_stop,
    model_is_the_base,
    keyword_is_missing,
)
WARNINGS: tuple[Rule[Facts], ...] = (
    held_out_regressed,
    base_is_as_bad,
    answer_was_cut_off,
    nothing_to_compare,
)


def _message(facts: Facts) -> str:
    count = len(facts.report.answers)
    compared = facts.report.largest_logit_difference is not None
    base = "differs from the base model" if compared else "no base model to compare with"
    return f"Model answers {count}/{count} prompts; {base}{_told(facts.comparison)}"


def _told(found: Comparison | None) -> str:
    if found is None:
        return ""
    own = f"; held-out perplexity {found.perplexity:.4g}"
    if found.base_perplexity is None:
        return own
    return f"{own} (base {found.base_perplexity:.4g}): {found.verdict}"


def _score(facts: Facts) -> float | None:
    """The share of answers with their expected words, where words are expected."""
    if facts.report.failure is not None:
        return None
    asked = [(q, a) for q, a in facts.pairs if q.expected_keywords]
    good = sum(has_keywords(answer.text, question) for question, answer in asked)
    return good / len(asked) if asked else None


def _details(facts: Facts) -> dict[str, Any]:
    report = facts.report
    if report.failure is not None:
        return {"failure": json.loads(report.failure.model_dump_json())}
    return {
        "device": report.device,
        "seconds": round(report.seconds, 1),
        "largestLogitDifference": report.largest_logit_difference,
        "answers": [
            {
                "prompt": question.prompt,
                "answer": answer.text,
                "stopped": answer.stopped,
                "baseAnswer": before.text if before else None,
                "expectedKeywords": question.expected_keywords,
                "match": question.match,
            }
            for question, answer, before in facts.triples
        ],
        "heldOut": _shown_comparison(facts.comparison),
    }


def _shown_comparison(found: Comparison | None) -> dict[str, Any] | None:
    if found is None or not math.isfinite(found.loss):
        return None
    return {
        "rows": found.rows,
        "tokens": found.tokens,
        "loss": found.loss,
        "perplexity": _finite(found.perplexity),
        "baseLoss": _finite(found.base_loss),
        "basePerplexity": _finite(found.base_perplexity),
        "lossDifferenceStandardError": _finite(found.standard_error),
        "verdict": found.verdict,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _shown(text: str) -> str:
    return f"“{shortened(text, _SHOWN_CHARACTERS)}”"
