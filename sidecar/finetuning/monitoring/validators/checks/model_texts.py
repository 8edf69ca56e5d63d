"""Texts for and from a tokenizer that nobody has to trust; used by model_process.

A chat template is a program of the model's author: it may neither run for long nor write much.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from finetuning.monitoring.validators.checks.probe import HeldOutRow, ProbeRequest

TEMPLATE_SECONDS = 10
_LONGEST_PREFACE = 100_000
"""Characters that a template may write beside what it is given."""

_SAMPLES = (
    "The quick brown fox, aged 42, doesn't jump over 3.14159 lazy dogs!",
    "Zwölf große Jäger; \u043f\u0440\u0438\u0432\u0435\u0442 \u4f60\u597d \U0001f680",
    "def f(x):\n    return {'a': [x, 1_000]}  # twice  \n\n",
)


class TemplateError(Exception):
    """The chat template of the tokenizer cannot be used; says what it does."""


class RowError(Exception):
    """A row held out cannot be written with the chat template, which writes other conversations."""


def tokenized_otherwise(own: Any, base: Any, request: ProbeRequest) -> str | None:
    """The first text of which the two tokenizers make other tokens, or another text again."""
    rows = [turn.content for row in request.held_out for turn in row.messages]
    rows += [row.prompt + row.completion for row in request.held_out]
    for text in filter(None, (*_SAMPLES, *request.prompts, *rows)):
        ids = own(text).input_ids
        if ids != base(text).input_ids or own.decode(ids) != base.decode(ids):
            return text
    return None


def encode(tokenizer: Any, prompt: str) -> Any:
    """As one user message where the tokenizer knows how to write one, else as plain text."""
    if not tokenizer.chat_template:
        return tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    turns = [{"role": "user", "content": prompt}]
    text = _rendered(tokenizer, turns, ask=True)
    if prompt.strip() not in text:
        raise TemplateError("leaves the user's message out")
    return tokenizer(
        text, return_tensors="pt", return_token_type_ids=False, add_special_tokens=False
    )


def texts_of(tokenizer: Any, row: HeldOutRow) -> tuple[str, str]:
    """The prompt, and the prompt with its answer."""
    if not row.messages:
        return row.prompt, row.prompt + row.completion
    turns = [turn.model_dump() for turn in row.messages]
    if not tokenizer.chat_template:
        before = "".join(f"{turn['content']}\n" for turn in turns[:-1])
        return before, before + str(turns[-1]["content"])
    try:
        asked = _rendered(tokenizer, turns[:-1], ask=True)
        return asked, _rendered(tokenizer, turns, ask=False)
    except TemplateError as error:
        raise RowError(f"the chat template {error}") from error


def _rendered(tokenizer: Any, turns: list[dict[str, str]], *, ask: bool) -> str:
    try:
        with _no_longer_than(TEMPLATE_SECONDS):
            text = str(
                tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask)
            )
    except Exception as error:
        raise TemplateError(f"fails: {type(error).__name__}: {error}") from error
    given = sum(len(turn["content"]) for turn in turns)
    if len(text) > 2 * given + _LONGEST_PREFACE:
        raise TemplateError(f"writes {len(text)} characters for {given}")
    return text


@contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in this, the main, thread."""
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _give_up(_signal: int, _frame: Any) -> None:
    raise TimeoutError(f"it takes longer than {TEMPLATE_SECONDS} s")
