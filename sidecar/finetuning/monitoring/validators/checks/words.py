"""Whether a text holds a word: in any script, in any case, however its characters are written."""

import unicodedata
from collections.abc import Iterator

_SPACED = frozenset({
    "ARABIC", "ARMENIAN", "BENGALI", "COMBINING", "CYRILLIC", "DEVANAGARI", "ETHIOPIC", "GEORGIAN",
    "GREEK", "GUJARATI", "GURMUKHI", "HEBREW", "KANNADA", "LATIN", "MALAYALAM", "ORIYA", "SINHALA",
    "TAMIL", "TELUGU", "THAANA",
})  # fmt: skip
"""Scripts that put spaces between words, by the first word of their characters' names.

Those that Unicode recommends (UAX #31, table 5) without Han, kana, Khmer, Lao, Myanmar and Thai,
whose words only a dictionary tells apart (UAX #29, section 4), Hangul, whose particles follow a
word without a space, and Bopomofo and Tibetan, which mark syllables. An accent of its own belongs
to the letter before it.
"""


def normal(text: str) -> str:
    """What is equal to a reader is equal: composed, without case, one space for any other."""
    visible = (c for c in text if unicodedata.category(c) != "Cf")  # Joiners and soft hyphens.
    folded = unicodedata.normalize("NFKC", "".join(visible)).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def has_word(text: str, word: str) -> bool:
    """Whether `word` stands in `text`, and not as a part of a longer word or number."""
    text, word = normal(text), normal(word)
    return any(
        not _joined(text[place - 1 : place], word[0])
        and not _joined(word[-1], text[place + len(word) : place + len(word) + 1])
        for place in _places(text, word)
    )


def _places(text: str, word: str) -> Iterator[int]:
    place = text.find(word) if word else -1
    while place >= 0:
        yield place
        place = text.find(word, place + 1)


def _joined(before: str, after: str) -> bool:
    """Whether two neighbours are of one word or number; no neighbour is an empty text."""
    if not before or not after:
        return False
    return (_is_spaced(before) and _is_spaced(after)) or (before.isdecimal() and after.isdecimal())


def _is_spaced(character: str) -> bool:
    """Whether it is a letter, or a mark on one, of a script that separates words by spaces."""
    is_letter = unicodedata.category(character)[0] in "LM"
    return is_letter and unicodedata.name(character, "").partition(" ")[0] in _SPACED


def words_in(text: str) -> int:
    """About how many; of scripts without spaces two letters count as one."""
    unspaced = sum(c.isalpha() and not _is_spaced(c) for c in text)
    return max(len(text.split()), unspaced // 2)
