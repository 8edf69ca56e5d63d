"""What the tables of the reference have in common."""

import json
from collections.abc import Mapping
from typing import Any


def cell(text: str) -> str:
    """Text that neither ends the cell nor begins a tag; within backticks there are no tags."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts).replace("|", "\\|")


def allowed(schema: Mapping[str, Any]) -> str:
    """The words or the bounds that a JSON schema allows; empty where it names none."""
    if "enum" in schema:
        return ", ".join(f"`{word(value)}`" for value in schema["enum"])
    above = ">" if schema.get("exclusiveMinimum") else "≥"
    below = "<" if schema.get("exclusiveMaximum") else "≤"
    bounds = (
        f"{above} {schema['minimum']}" if "minimum" in schema else "",
        f"{below} {schema['maximum']}" if "maximum" in schema else "",
    )
    return ", ".join(filter(None, bounds))


def word(value: Any) -> str:
    """A value as it is typed into YAML."""
    return value if isinstance(value, str) and value else json.dumps(value)
