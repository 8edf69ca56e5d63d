"""The JSON Schema that YAML editors and offline checkers read, from the definition's schema.

Stricter than the API server, which prunes what it does not know: an editor should underline it.
Of CEL rules it has those on the spelling of a text; the others `finetuning run` and the API server
check.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from finetuning.api.base import CEL_RULES
from finetuning.api.crd import job_schema
from finetuning.api.schema import documented
from finetuning.api.text import NAME_MAX_LENGTH, QUANTITY
from finetuning.api.v1alpha1 import GROUP, KIND, VERSION

_QUANTITY = "x-kubernetes-int-or-string"
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_NAME = {
    "pattern": "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$",
    "patternErrorMessage": (
        "must be lowercase letters, digits, '-' and '.', starting and ending with a letter or digit"
    ),
}
_AMOUNT = {
    "pattern": f"^({QUANTITY})$",
    "patternErrorMessage": "must be an amount such as 2, 500m or 50Gi",
}
_SPELLING = re.compile(
    r"self\.matches\(r'(?P<pattern>.*?)'\)( && !self\.contains\('(?P<never>.*)'\))?"
)
"""As `Rule.matching` writes it."""


def editor_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of a manifest."""
    whole = job_schema()
    properties = {
        "apiVersion": {**whole["properties"]["apiVersion"], "const": f"{GROUP}/{VERSION}"},
        "kind": {**whole["properties"]["kind"], "const": KIND},
        "metadata": {
            "type": "object",
            "description": "Name, namespace, labels and annotations, as for every object.",
            "anyOf": [{"required": ["name"]}, {"required": ["generateName"]}],
            "properties": {
                "name": {"type": "string", "maxLength": NAME_MAX_LENGTH, **_NAME},
                "labels": _TEXTS,
                "annotations": _TEXTS,
            },
        },
        "spec": _closed(documented(whole["properties"]["spec"])),
        "status": {"type": "object", "description": "Written by the operator."},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{KIND} {GROUP}/{VERSION}",
        "description": whole["description"],
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": properties,
        "additionalProperties": False,
    }


def _closed(node: dict[str, Any]) -> dict[str, Any]:
    """Without Kubernetes' extensions and OpenAPI's way to write open bounds."""
    schema = {key: value for key, value in node.items() if not key.startswith("x-kubernetes")}
    schema |= _spelling(node.get(CEL_RULES, ()))
    if node.get(_QUANTITY):
        # A pattern is about texts alone.
        schema |= {"type": ["integer", "string"], **_AMOUNT}
    for exclusive, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if schema.pop(exclusive, False):
            schema[exclusive] = schema.pop(inclusive)
    if "items" in schema:
        schema["items"] = _closed(schema["items"])
    if "properties" in schema:
        schema["properties"] = {name: _closed(each) for name, each in schema["properties"].items()}
        schema["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = _closed(schema["additionalProperties"])
    return schema


def _spelling(rules: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """The patterns that a text has to match, and what may not be in it."""
    found = [each for rule in rules for each in _patterns(rule)]
    return {"allOf": found} if found else {}


def _patterns(rule: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """With the rule's message, which the YAML language server shows."""
    if (told := _SPELLING.fullmatch(rule["rule"])) is None:
        return
    yield {"pattern": told["pattern"], "patternErrorMessage": rule["message"]}
    if told["never"]:
        yield {"not": {"type": "string", "pattern": re.escape(told["never"])}}
