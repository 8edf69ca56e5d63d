"""pydantic's errors about a manifest in the API server's words, with the nearest known name."""

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.local.yaml_text import Document, Loc

METADATA_FIELDS = (
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)
"""The fields of metav1.ObjectMeta; our model keeps only those that matter."""


def complaints(document: Document, file: str, error: ValidationError | None) -> list[str]:
    """One line for each field that is wrong, in the order of the file."""
    texts = _unknown_outside_spec(document.body)
    for loc, details in _by_field(error, document.body).items():
        texts[loc] = _text(details, loc)
    lines = sorted((document.line(loc), text) for loc, text in texts.items())
    return [f"{file}:{line}: {text}" for line, text in lines]


def _by_field(error: ValidationError | None, body: Any) -> dict[Loc, list[ErrorDetails]]:
    found: dict[Loc, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False) if error else []:
        loc = _in_document(detail["loc"], body, missing=detail["type"] == "missing")
        found.setdefault(loc, []).append(detail)
    return found


def _unknown_outside_spec(body: Mapping[str, Any]) -> dict[Loc, str]:
    """Unknown fields beside spec and in metadata, which our models let pass as the cluster's."""
    top = [field.alias or name for name, field in FineTuningJob.model_fields.items()]
    metadata = body.get("metadata")
    inner = metadata if isinstance(metadata, dict) else {}
    locs: list[tuple[Loc, Sequence[str]]] = [((name,), top) for name in body if name not in top]
    locs += [(("metadata", name), METADATA_FIELDS) for name in inner if name not in METADATA_FIELDS]
    return {loc: _unknown(loc, known) for loc, known in locs}


def _in_document(loc: Loc, body: Any, *, missing: bool) -> Loc:
    """`loc` without the marks that pydantic adds for the members of a union."""
    kept: list[int | str] = []
    for position, part in enumerate(loc):
        try:
            body = body[part]
        except (KeyError, IndexError, TypeError):
            return (*kept, part) if missing and position == len(loc) - 1 else tuple(kept)
        kept.append(part)
    return tuple(kept)


def dotted(loc: Loc) -> str:
    """`spec.validation.prompts[0].prompt`, as the API server writes it."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.lstrip(".") or "the document"


def _text(details: list[ErrorDetails], loc: Loc) -> str:
    """Several errors about one field are those of a union's members: each says what would do."""
    detail = details[0]
    match detail["type"]:
        case "missing":
            return f"{dotted(loc)}: Required value"
        case "extra_forbidden":
            return _unknown(loc, _known_fields(loc[:-1]))
        case "enum" | "literal_error":
            return _unsupported(loc, detail)
        case _:
            return _invalid(details, loc)


def _invalid(details: list[ErrorDetails], loc: Loc) -> str:
    detail = details[0]
    rule = " or ".join(_rule(each) for each in details)
    if detail["type"] == "value_error" and isinstance(detail["input"], dict):
        return f"{dotted(loc)}: Invalid value: {rule}"
    return f"{dotted(loc)}: Invalid value: {_shown(detail['input'])}: {rule}"


_TYPES = {
    "bool_type": "boolean",
    "dict_type": "object",
    "float_type": "number",
    "int_from_float": "integer",
    "int_type": "integer",
    "list_type": "array",
    "model_type": "object",
    "string_type": "string",
}


def _rule(detail: ErrorDetails) -> str:
    if kind := _TYPES.get(detail["type"]):
        return f"must be of type {kind}"
    text = detail["msg"].removeprefix("Value error, ")
    return text.removeprefix("Input ").removeprefix("String ").removeprefix("List ")


def _unsupported(loc: Loc, detail: ErrorDetails) -> str:
    allowed = detail.get("ctx", {}).get("expected", "").replace(" or ", ", ").replace("'", "")
    value = _shown(detail["input"])
    near = _nearest(str(detail["input"]), allowed.split(", "))
    quoted = ", ".join(f'"{name}"' for name in allowed.split(", "))
    return f"{dotted(loc)}: Unsupported value: {value}: supported values: {quoted}{near}"


def _unknown(loc: Loc, known: Iterable[str]) -> str:
    names = sorted(known)
    near = _nearest(str(loc[-1]), names) or f"; known here: {', '.join(names)}"
    return f'unknown field "{dotted(loc)}"{near}'


def _nearest(name: str, known: Iterable[str]) -> str:
    folded = {candidate.replace("_", "").lower(): candidate for candidate in known}
    near = get_close_matches(name.replace("_", "").lower(), folded, n=1, cutoff=0.6)
    return f'; did you mean "{folded[near[0]]}"?' if near else ""


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - a line's worth


def _known_fields(loc: Loc) -> list[str]:
    model: type[BaseModel] | None = FineTuningJob
    for part in loc:
        if isinstance(part, str) and model is not None:
            fields = {field.alias or name: field for name, field in model.model_fields.items()}
            model = _model_in(fields[part].annotation) if part in fields else None
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
