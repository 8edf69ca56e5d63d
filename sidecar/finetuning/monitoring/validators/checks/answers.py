"""What can be wrong with a generated answer; pure functions of texts and tokens."""

import re
from collections.abc import Sequence

from finetuning.monitoring.validators.checks.probe import Answer
from finetuning.monitoring.validators.settings import Match, Question

_REPEATS_THAT_TELL = 8
"""A short answer may well be one word twice."""

_LOOP_ROUNDS, _LOOP_TOKENS = 4, 24
_FEWEST_PROMPT_WORDS = 3
_OWN_WORDS = 2
"""An answer may begin with the question, but must then go on."""


def is_empty(answer: Answer) -> bool:
    """Nothing that can be seen: marks of no width, or of bytes that are no text, say nothing."""
    return not any(c.isprintable() and not c.isspace() and c != "\ufffd" for c in answer.text)


def repeats_one_token(answer: Answer) -> bool:
    return len(answer.tokens) >= _REPEATS_THAT_TELL and len(set(answer.tokens)) == 1


def loops(answer: Answer) -> bool:
    """Whether it ends in a phrase over and over; what ended by itself came out of it."""
    return answer.stopped is not True and loop_of(answer.tokens) is not None


def loop_of(tokens: Sequence[int]) -> int | None:
    """Length of the phrase that the tokens end in, when four rounds of it fill half of them."""
    for length in range(1, len(tokens) // _LOOP_ROUNDS + 1):
        matched = length
        while matched < len(tokens) and tokens[-matched - 1] == tokens[-matched - 1 + length]:
            matched += 1
        rounds = matched // length
        enough = matched >= max(_LOOP_TOKENS, len(tokens) // 2)
        if rounds >= _LOOP_ROUNDS and enough:
            return length
    return None


def echoes(prompt: str, answer: Answer) -> bool:
    """Whether it is the prompt again, and hardly more."""
    asked, said = _words(prompt), _words(answer.text)
    if len(asked) < _FEWEST_PROMPT_WORDS or said[: len(asked)] != asked:
        return False
    return len(said) - len(asked) <= _OWN_WORDS or said[len(asked) : 2 * len(asked)] == asked


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def has_keywords(text: str, question: Question) -> bool:
    """Whether the expected words stand in the text as words, in any case; none asked is fine."""
    found = [has_word(text, word) for word in question.expected_keywords]
    return not found or (all(found) if question.match is Match.ALL else any(found))


def has_word(text: str, word: str) -> bool:
    pattern = rf"(?<!\w){re.escape(word.casefold())}(?!\w)"
    return re.search(pattern, text.casefold()) is not None
