"""Texts for and from a tokenizer that nobody has to trust; used by model_process.

A chat template is a program of the model's author: it may neither run for long nor write much.
"""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from finetuning.dataset.conversation import RefusedError, Template, chatml_for
from finetuning.dataset.encode import Example, examples_of
from finetuning.dataset.shapes import Chat, Completion
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
    """Rows held out cannot be used with this tokenizer, which writes other conversations."""


def tokenized_otherwise(own: Any, base: Any, request: ProbeRequest) -> str | None:
    """The first text of which the two tokenizers make other tokens, or another text again."""
    said = [str(turn.get("content") or "") for row in request.held_out for turn in row.messages]
    rows = [row.prompt + row.completion for row in request.held_out]
    for text in filter(None, (*_SAMPLES, *request.prompts, *said, *rows)):
        ids = own(text).input_ids
        if ids != base(text).input_ids or own.decode(ids) != base.decode(ids):
            return text
    return None


def encode(tokenizer: Any, prompt: str) -> Any:
    """As one user message where the tokenizer knows how to write one, else as plain text."""
    if not tokenizer.chat_template:
        return tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    turns = [{"role": "user", "content": prompt}]
    try:
        text = _Bounded(tokenizer).apply_chat_template(turns, add_generation_prompt=True)
    except TemplateError:
        raise
    except Exception as error:
        raise TemplateError(f"fails: {type(error).__name__}: {error}") from error
    if prompt.strip() not in text:
        raise TemplateError("leaves the user's message out")
    return tokenizer(
        text, return_tensors="pt", return_token_type_ids=False, add_special_tokens=False
    )


def examples_in(tokenizer: Any, row: HeldOutRow) -> list[Example]:
    """The row as the trainer would learn it: as one sequence, or as one for each answer.

    Raises:
        RefusedError: the chat template refuses the row, or leaves some of it out.
        RowError: none can be used.
    """
    text = Completion(row.prompt, row.completion)
    sample = Chat(row.messages, row.tools) if row.messages else text
    try:
        return examples_of(sample, Template(_Bounded(tokenizer)))
    except RefusedError as error:
        if isinstance(error.__cause__, TemplateError):
            raise RowError(f"the chat template {error.__cause__}") from error
        raise
    except NotImplementedError as error:
        raise RowError("the tokenizer cannot tell where its tokens stand in a text") from error


class _Bounded:
    """A tokenizer whose chat template may neither run for long nor write much; ChatML for none."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._tokenizer(*args, **kwargs)

    def apply_chat_template(
        self, turns: Any, *, add_generation_prompt: bool, tools: Any = None, tokenize: bool = False
    ) -> str:
        """Raises TemplateError, and on the conversations of a held-out row what a template does."""
        known = self._tokenizer.chat_template
        with _no_longer_than(TEMPLATE_SECONDS):
            text = str(
                self._tokenizer.apply_chat_template(
                    turns,
                    tools=tools,
                    tokenize=tokenize,
                    add_generation_prompt=add_generation_prompt,
                    # Of several of its own it takes the one that fits.
                    chat_template=None if known else chatml_for(self._tokenizer),
                )
            )
        given = len(json.dumps([turns, tools], default=str))
        if len(text) > 2 * given + _LONGEST_PREFACE:
            raise TemplateError(f"writes {len(text)} characters for {given}")
        return text


@contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    """Raise TemplateError in this, the main, thread."""
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _give_up(_signal: int, _frame: Any) -> None:
    raise TemplateError(f"takes longer than {TEMPLATE_SECONDS} s")
