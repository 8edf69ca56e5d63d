"""What can be wrong with a generated answer; pure functions of texts and tokens."""

import unicodedata
from collections.abc import Sequence

from finetuning.monitoring.validators.checks.probe import Answer
from finetuning.monitoring.validators.checks.words import has_word, words_in
from finetuning.monitoring.validators.settings import Match, Question

_REPEATS_THAT_TELL = 8
"""A short answer may well be one word twice."""

_LOOP_ROUNDS, _LOOP_TOKENS = 4, 24
_FEWEST_PROMPT_WORDS = 3


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
    """Whether it is the prompt again, once or over and over, and nothing else.

    Another case or other marks are something else: to put them right may be what was asked for.
    """
    asked, said = _unspaced(prompt), _unspaced(answer.text)
    if words_in(prompt) < _FEWEST_PROMPT_WORDS or len(said) < len(asked):
        return False
    rounds = len(said) // len(asked) + 1
    return (asked * rounds).startswith(said)


def _unspaced(text: str) -> str:
    return "".join(unicodedata.normalize("NFC", text).split())


def has_keywords(text: str, question: Question) -> bool:
    """Whether the expected words stand in the text as words, in any case; none asked is fine."""
    missing, asked = len(missing_words(text, question)), len(question.expected_keywords)
    return missing == 0 or (question.match is Match.ANY and missing < asked)


def missing_words(text: str, question: Question) -> list[str]:
    """The expected words that do not stand in the text."""
    return [word for word in question.expected_keywords if not has_word(text, word)]
