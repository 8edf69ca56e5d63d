"""Jobs drawn from the resource's own schema: mostly legal ones, and some that are nearly so."""

import functools
import os
import re
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st

from finetuning.api.base import CEL_RULES
from finetuning.api.crd import job_schema

Schema = dict[str, Any]

_PATTERN = re.compile(r"self\.matches\(r'\^\((.*)\)\$'\)")
_QUANTITIES = st.sampled_from([0, 1, 2, "1", "2", "500m", "1.5Gi", "32Gi", "2e9", "1T", "-1", "x"])
_RESOURCES = st.sampled_from(["cpu", "memory", "amd.com/gpu", "example.com/gpu", "no name"])
_ODD = st.sampled_from(
    ["", " ", ".", "..", "$(HOME)", "a;b", "-x", "é", "\u202e", "a" * 600, "x\ny"]
)
MOST_FIELDS = 3
EXAMPLES = int(os.environ.get("FUZZ") or 600)


@functools.cache
def specs() -> st.SearchStrategy[dict[str, Any]]:
    """Specs as YAML gives them."""
    return _object(job_schema()["properties"]["spec"])


def _value(schema: Schema) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return _QUANTITIES
    return _KINDS.get(schema["type"], _text)(schema)


def _map(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    if "properties" in schema:
        return _object(schema)
    return st.dictionaries(_RESOURCES, _value(schema["additionalProperties"]), max_size=2)


def _list(schema: Schema) -> st.SearchStrategy[list[Any]]:
    return st.lists(_value(schema["items"]), max_size=min(3, schema.get("maxItems", 3)))


def _near(schema: Schema) -> st.SearchStrategy[int]:
    """Inside the bounds, on them, and one beyond."""
    least, most = int(schema.get("minimum", -5)), int(schema.get("maximum", 10**6))
    inside = st.integers(least, most) if least <= most else st.just(least)
    return st.one_of(inside, inside, st.sampled_from([least, most, least - 1, most + 1]))


def _between(schema: Schema) -> st.SearchStrategy[float]:
    return st.floats(schema.get("minimum", -1e3), schema.get("maximum", 1e3), allow_subnormal=False)


def _text(schema: Schema) -> st.SearchStrategy[str]:
    longest = schema.get("maxLength", 64)
    found = [m[1] for rule in schema.get(CEL_RULES, ()) if (m := _PATTERN.search(rule["rule"]))]
    legal = (
        st.from_regex(found[0], fullmatch=True, alphabet=st.characters(codec="ascii"))
        if found
        else st.text(max_size=20)
    )
    fits = legal.filter(lambda text: len(text) <= longest and ".." not in text)
    return st.one_of(fits, fits, fits, fits, fits, _ODD)


def _object(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    values = {name: _value(field) for name, field in schema["properties"].items()}
    return _fields(values, schema.get("required", []))


@st.composite
def _fields(
    draw: st.DrawFn, values: dict[str, st.SearchStrategy[Any]], required: list[str]
) -> dict[str, Any]:
    """Few beside the required ones: each more is one more that can be wrong."""
    free = st.sampled_from(sorted(values.keys() - set(required)) or [""])
    chosen = draw(st.lists(free, max_size=MOST_FIELDS, unique=True))
    return {name: draw(values[name]) for name in [*required, *filter(None, chosen)]}


_KINDS: dict[str, Callable[[Schema], st.SearchStrategy[Any]]] = {
    "object": _map,
    "array": _list,
    "boolean": lambda _schema: st.booleans(),
    "integer": _near,
    "number": lambda schema: st.one_of(_near(schema), _between(schema)),
}
