"""What JSON or YAML that somebody else wrote has in it, however deep."""

from collections.abc import Iterator
from typing import Any


def texts_in(value: Any) -> Iterator[str]:
    """Those of its lists and objects too; of each once, for YAML can name a list in itself."""
    left, seen = [value], set[int]()
    while left:
        each = left.pop()
        if isinstance(each, str):
            yield each
        elif id(each) not in seen:
            seen.add(id(each))
            left += (
                each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
            )
