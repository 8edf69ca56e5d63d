"""The JSON Schema that YAML editors and offline checkers read, from the definition's schema.

Stricter than the API server, which prunes what it does not know: an editor should underline it.
CEL rules cannot be said in it; `finetuning run` and the API server check them.
"""

from typing import Any

from finetuning.api.crd import job_schema
from finetuning.api.schema import documented
from finetuning.api.v1alpha1 import GROUP, KIND, VERSION

_QUANTITY = "x-kubernetes-int-or-string"


def editor_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of a manifest."""
    whole = job_schema()
    properties = {
        "apiVersion": {**whole["properties"]["apiVersion"], "const": f"{GROUP}/{VERSION}"},
        "kind": {**whole["properties"]["kind"], "const": KIND},
        "metadata": {
            "type": "object",
            "description": "Name, namespace, labels and annotations, as for every object.",
            "required": ["name"],
            "properties": {"name": {"type": "string", "maxLength": 50}},
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
    if node.get(_QUANTITY):
        schema["type"] = ["integer", "string"]
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
