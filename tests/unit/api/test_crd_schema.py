"""The generated resource definition keeps to what API servers and readers ask of it."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field

from finetuning.api.base import CEL_RULES
from finetuning.api.crd import crd, printer_columns
from finetuning.api.schema import structural_schema
from finetuning.api.text import amount
from finetuning.api.v1alpha1 import FineTuningJobSpec

Found = Iterator[tuple[str, dict[str, Any]]]


def nodes(schema: dict[str, Any], path: str = "") -> Found:
    """Every schema inside, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for step in ("items", "additionalProperties"):
        if step in schema:
            yield from nodes(schema[step], f"{path}[]")


def root() -> dict[str, Any]:
    (version,) = crd()["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def parts() -> Found:
    for part in ("spec", "status"):
        yield from nodes(root()["properties"][part], part)


def test_every_field_is_described_in_a_sentence() -> None:
    fields = [(at, s) for at, s in parts() if not at.endswith("[]")]
    assert len(fields) > 100
    assert [at for at, s in fields if not s.get("description", "").endswith(".")] == []


def test_nothing_stands_in_it_that_structural_schemas_forbid() -> None:
    forbidden = {"$ref", "$defs", "anyOf", "allOf", "oneOf", "const", "title", "nullable"}
    assert [at for at, s in parts() if forbidden & s.keys()] == []
    bounds = [s.get(key, True) for _, s in parts() for key in s if key.startswith("exclusive")]
    assert bounds
    assert all(bound is True for bound in bounds)
    assert [at for at, s in parts() if s.get("default", ...) is None] == []
    typed = [at for at, s in parts() if "type" in s or "x-kubernetes-int-or-string" in s]
    assert len(typed) == len(list(parts()))


def test_everything_has_a_limit_so_that_rules_have_a_cost() -> None:
    limits = {"string": "maxLength", "array": "maxItems"}
    free = [
        at
        for at, s in parts()
        if s.get("type") in limits and not {limits[s["type"]], "enum", "format"} & s.keys()
    ]
    maps = [at for at, s in parts() if "additionalProperties" in s and "maxProperties" not in s]
    assert free + maps == []


def test_the_operator_alone_decides_what_stands_in_the_status() -> None:
    status = root()["properties"]["status"]
    # But for what says that nobody has looked yet: a generation begins at 1.
    assert status["default"] == {"observedGeneration": 0}
    inside = status["properties"].values()
    assert [at for each in inside for at, s in nodes(each) if "default" in s] == []


def test_sections_that_are_always_there_show_their_defaults() -> None:
    """In the default itself too: the API server tries a section's rules on it as it stands."""
    fields = structural_schema(FineTuningJobSpec)["properties"]
    sections = {name: field for name, field in fields.items() if "default" in field}
    shown = {name for name, field in sections.items() if isinstance(field["default"], dict)}
    assert shown == {"hyperparameters", "output", "resources", "validation"}
    for name in shown:
        inside = fields[name]["properties"].items()
        assert fields[name]["default"] == {k: v["default"] for k, v in inside if "default" in v}
    assert fields["output"]["properties"]["storage"]["default"] == {"size": "50Gi"}


def test_every_rule_has_a_message_and_no_line_break() -> None:
    rules = [rule for _, s in [*parts(), ("", root())] for rule in s.get(CEL_RULES, [])]
    assert len(rules) > 20
    assert [rule for rule in rules if not rule.get("message") or "\n" in rule["message"]] == []


def test_conditions_and_checks_are_lists_by_key() -> None:
    keys = {
        at: s["x-kubernetes-list-map-keys"] for at, s in parts() if s.get("x-kubernetes-list-type")
    }
    assert keys == {
        "status.conditions": ["type"],
        "status.validation.checks": ["name"],
        "status.validation.benchmarks": ["task"],
    }


def test_the_narrow_view_fits_and_the_wide_one_has_the_rest() -> None:
    wide = [c["name"] for c in printer_columns() if c.get("priority")]
    narrow = [c["name"] for c in printer_columns() if not c.get("priority")]
    assert narrow == ["Phase", "Method", "Model", "Progress", "Loss", "Validated", "Age"]
    assert wide == ["Step", "Tokens/s", "ETA", "Workers", "Published", "Reason", "Message"]


class Inner(BaseModel):
    """Inner part."""

    size: float = Field(default=0.5, gt=0, lt=1)


class Outer(BaseModel):
    """Outer part."""

    inner: Inner | None = Field(default=None, description="The field's own words.")
    always: Inner = Field(default_factory=Inner)
    many: list[Inner] = Field(default_factory=list, max_length=3)


def test_a_models_schema_is_inlined_and_bounds_are_spelled_as_openapi_does() -> None:
    size = {
        "type": "number",
        "default": 0.5,
        "exclusiveMaximum": True,
        "exclusiveMinimum": True,
        "maximum": 1,
        "minimum": 0,
    }
    inner = {"description": "Inner part.", "type": "object", "properties": {"size": size}}
    assert structural_schema(Outer) == {
        "description": "Outer part.",
        "type": "object",
        "properties": {
            "inner": inner | {"description": "The field's own words."},
            "always": inner | {"default": {"size": 0.5}},
            "many": {"type": "array", "items": inner, "maxItems": 3},
        },
    }


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (0, "0"),
        (2, "2"),
        ("2", "2"),
        ("500m", "0.5"),
        ("1.5Gi", str(1.5 * 2**30)),
        (".5", "0.5"),
        ("3.", "3"),
        ("1k", "1000"),
        ("2e9", "2000000000"),
        ("2E3", "2000"),
        ("1E", "1000000000000000000"),
        ("1Ei", str(2**60)),
        ("100n", "0.0000001"),
        (-1, None),
        ("-1", None),
        ("+1", None),
        ("1 Gi", None),
        ("1GB", None),
        ("Gi", None),
        ("", None),
        ("1Gi\n", None),
    ],
)
def test_quantities_are_read_as_kubernetes_reads_them(
    quantity: int | str, expected: str | None
) -> None:
    assert amount(quantity) == (None if expected is None else Decimal(expected))
