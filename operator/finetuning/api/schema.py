"""pydantic models -> structural OpenAPI v3 schemas: the only place that knows what CRDs forbid."""

import json
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]


def structural_schema(model: type[BaseModel], *, defaults: bool = True) -> Schema:
    """The model as a structural schema; without defaults for what an operator writes."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(raw, raw.get("$defs", {}), defaults=defaults)


def _structural(node: Schema, defs: dict[str, Schema], *, defaults: bool) -> Schema:
    node = _resolved(node, defs)
    schema = {key: value for key, value in node.items() if key not in _FORBIDDEN}
    _spell_bounds(schema)
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if schema.get("default", ...) is None or not defaults:
        schema.pop("default", None)
    if "items" in schema:
        schema["items"] = _structural(schema["items"], defs, defaults=defaults)
    if isinstance(values := schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = _structural(values, defs, defaults=defaults)
    else:
        schema.pop("additionalProperties", None)  # Unknown fields are pruned in any case.
    if "properties" in schema:
        schema["properties"] = _properties(schema, defs, defaults=defaults)
    return dict(sorted(schema.items(), key=_position))


_FORBIDDEN = {"$defs", "title"}
_FIRST = ("description", "type", "format", "enum", "default", "required", "properties", "items")


def _position(entry: tuple[str, Any]) -> tuple[int, str]:
    """Readers look for the meaning, then the type; pydantic's order depends on how it nests."""
    key = entry[0]
    return (_FIRST.index(key) if key in _FIRST else len(_FIRST), key)


def _resolved(node: Schema, defs: dict[str, Schema]) -> Schema:
    """Follow `$ref` and `X | None`; what stands beside them wins over what they lead to."""
    beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
    if "$ref" in node:
        return _resolved(defs[node["$ref"].removeprefix("#/$defs/")], defs) | beside
    if "anyOf" not in node or node.get("x-kubernetes-int-or-string"):
        return beside
    # A null is dropped by the API server before validation, unless the field is nullable.
    (only,) = (option for option in node["anyOf"] if option != {"type": "null"})
    return _resolved(only, defs) | beside


def _spell_bounds(schema: Schema) -> None:
    """OpenAPI v3.0 has `minimum` and a boolean where JSON Schema has a second number."""
    for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in schema:
            schema |= {inclusive: schema[exclusive], exclusive: True}


def _properties(schema: Schema, defs: dict[str, Schema], *, defaults: bool) -> dict[str, Schema]:
    required = schema.get("required", [])
    properties = {}
    for name, node in schema["properties"].items():
        properties[name] = _structural(node, defs, defaults=defaults)
        always_there = "anyOf" not in node and name not in required
        if defaults and always_there and "properties" in properties[name]:
            # Without it the defaults inside would not show unless the user wrote the object. It
            # has them itself: the API server tries the section's rules on it as it stands here.
            properties[name]["default"] = _defaults(properties[name])
    return properties


def _defaults(section: Schema) -> Schema:
    fields = section["properties"].items()
    return {name: field["default"] for name, field in fields if "default" in field}


def documented(schema: Schema) -> Schema:
    """The same schema with defaults and bounds in words: `kubectl explain` shows neither."""
    told = dict(schema)
    if "properties" in schema:
        told["properties"] = {k: documented(v) for k, v in schema["properties"].items()}
    if "properties" in schema.get("items", {}):
        told["items"] = documented(schema["items"])
    if facts := [*_default_in_words(schema), *_bounds_in_words(schema)]:
        told["description"] = f"{schema['description']} {' '.join(facts)}"
    return told


def _default_in_words(schema: Schema) -> list[str]:
    default = schema.get("default")
    if default is None or isinstance(default, dict):
        return []
    return [f"Default: {default if isinstance(default, str) else json.dumps(default)}."]


def _bounds_in_words(schema: Schema) -> list[str]:
    if "minimum" not in schema:
        return []
    least, most = schema["minimum"], schema.get("maximum")
    if schema.get("exclusiveMinimum") or schema.get("exclusiveMaximum"):
        above = "above" if schema.get("exclusiveMinimum") else "at least"
        below = "below" if schema.get("exclusiveMaximum") else "at most"
        return [f"Allowed: {above} {least}, {below} {most}."]
    return [f"Allowed: {least} to {most}."]
