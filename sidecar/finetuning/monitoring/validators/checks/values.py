"""Of which kind a value of a JSON file is; in Python a bool is an int, in a file a mistake."""

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

LARGEST = 2**53


def is_amount(value: Any) -> bool:
    return is_number(value) and value > 0


def is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST if isinstance(value, int) else math.isfinite(value)


def is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and is_amount(value)


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def are_amounts(value: Any) -> bool:
    return is_object(value) and _all(value.values(), lambda part: is_number(part) and part >= 0)


def are_settings(value: Any) -> bool:
    return is_object(value) and _all(value.values(), lambda part: isinstance(part, str))


def _all(values: Iterable[Any], is_right: Callable[[Any], bool]) -> bool:
    return all(is_right(value) for value in values)
