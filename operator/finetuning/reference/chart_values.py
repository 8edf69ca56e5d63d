"""Every value of the chart: its comment and default in values.yaml, its bounds in the schema."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from finetuning.reference.cells import allowed, cell, word


def reference(values: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """Rows of one table, in the order of values.yaml.

    Raises:
        ValueError: a value has no comment.
    """
    yield from ("| value | default | allowed | meaning |", "|---|---|---|---|")
    lines = values.splitlines()
    for path, key, value in _values(yaml.compose(values), lines):
        default = yaml.safe_load(yaml.serialize(value))
        bounds = allowed(_of(schema, path)) or _kind(_of(schema, path))
        meaning = cell(_comment(lines, key.start_mark.line))
        yield f"| `{'.'.join(path)}` | {_default(default)} | {bounds} | {meaning} |"


def _values(
    node: Any, lines: Sequence[str], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], yaml.ScalarNode, yaml.Node]]:
    """A value is what has a comment of its own; a group of values has none."""
    for key, value in node.value:
        path = (*above, key.value)
        if _comment(lines, key.start_mark.line):
            yield path, key, value
        elif isinstance(value, yaml.MappingNode):
            yield from _values(value, lines, path)
        else:
            name = ".".join(path)
            raise ValueError(f"values.yaml: {name} has no comment; write `# -- ` above it")


def _comment(lines: Sequence[str], line: int) -> str:
    """The comment that ends right above a line, where it is one that explains a value."""
    found: list[str] = []
    while line and lines[line - 1].strip().startswith("#"):
        line -= 1
        found.insert(0, lines[line].strip().removeprefix("#").strip())
    text = " ".join(found)
    return text.removeprefix("-- ") if text.startswith("-- ") else ""


def _of(schema: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    """The schema of one value."""
    found = schema
    for name in path:
        found = _resolved(schema, found["properties"][name])
    return found


def _resolved(schema: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = str(part.get("$ref", "")).removeprefix("#/definitions/")
    found: Mapping[str, Any] = schema["definitions"][reference] if reference else part
    return found


def _kind(schema: Mapping[str, Any]) -> str:
    kinds = {"array": "list", "object": "map", "string": "text", "boolean": "`true`, `false`"}
    kind = str(schema["type"])
    return kinds.get(kind, kind)


def _default(value: Any) -> str:
    if isinstance(value, (dict, list)):
        flow = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
        return f"`{flow.strip()}`"
    return f"`{word(value)}`"
