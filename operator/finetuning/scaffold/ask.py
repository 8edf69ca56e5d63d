"""The questions, to a person at a terminal; each shows what an empty answer means."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from finetuning.api.hyperparameters import Method
from finetuning.scaffold import data
from finetuning.scaffold.answers import Answers
from finetuning.scaffold.checked import problems
from finetuning.scaffold.data import DataError

MODEL_EXAMPLE = "Qwen/Qwen2.5-7B-Instruct"


@dataclass(frozen=True, slots=True)
class Question:
    """One field of the answers."""

    field: str
    text: str
    suggestion: Callable[[Answers], str]


QUESTIONS = (
    Question("model", "Base model, by its Hugging Face id", lambda _: MODEL_EXAMPLE),
    Question("method", f"Method: {', '.join(Method)}", lambda now: now.method),
    Question(
        "data",
        "Data: a file here, configmap:<name>:<key>, pvc://<claim>/<path>, s3://<bucket>/<path> or "
        "hf://<org>/<name>",
        lambda _: "",
    ),
    Question("name", "Name of the job", lambda now: now.job),
)


def ask(given: Answers, said: frozenset[str]) -> Answers:
    """Ask for what was not `said` on the command line, until each answer can be used.

    Raises:
        EOFError: nobody answers any more.
    """
    answers = given
    for question in QUESTIONS:
        if question.field not in said:
            answers = _asked(question, answers)
    return answers


def _asked(question: Question, before: Answers) -> Answers:
    suggestion = question.suggestion(before)
    while True:
        told = _answer(question.text, suggestion)
        if not told:
            continue
        change: dict[str, Any] = {question.field: told}
        answers = replace(before, **change)
        wrong = _problem(answers, question.field)
        if wrong is None:
            return answers
        _say(wrong)


def _problem(answers: Answers, field: str) -> str | None:
    try:
        return problems(data.placed(answers)[0]).get(field)
    except DataError as error:
        return str(error)


def _answer(text: str, suggestion: str) -> str:
    sys.stderr.write(f"{text}{f' [{suggestion}]' if suggestion else ''}: ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.strip() or suggestion


def _say(text: str) -> None:
    sys.stderr.write(f"  {text}\n")
