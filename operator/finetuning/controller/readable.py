"""Takes out of a JSON object what nobody here can read."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

Place = tuple[int | str, ...]
"""The names and numbers on the way to a part of an object."""


def without(value: Mapping[str, Any], places: Iterable[Place]) -> Mapping[str, Any]:
    """A copy without these parts; where one is missing, without what lacks it.

    Always less than the object, so that who asks again and again comes to an end.
    """
    left = copy.deepcopy(value)
    # A list from its end to its beginning: the numbers of those before stay what they are.
    for place in sorted(set(places), key=_order, reverse=True):
        _remove(left, place)
    return left if left != value else {}


def _order(place: Place) -> list[tuple[int, str]]:
    return [(step, "") if isinstance(step, int) else (-1, step) for step in place]


def _remove(root: Any, place: Place) -> None:
    if not place:
        return
    *way, last = place
    inside = _part(root, way)
    if _has(inside, last):
        del inside[last]
    elif inside is not None:
        _remove(root, tuple(way))


def _part(value: Any, way: Iterable[int | str]) -> Any:
    """None where it is gone already, with what it was a part of."""
    for step in way:
        if not _has(value, step):
            return None
        value = value[step]
    return value


def _has(value: Any, step: int | str) -> bool:
    if isinstance(value, dict):
        return step in value
    return isinstance(value, list) and isinstance(step, int) and step < len(value)
