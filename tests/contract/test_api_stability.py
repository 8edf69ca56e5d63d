"""Within a version of the API nothing is narrowed: docs/api-versions.md."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.faults.releases import unpack
from tests.faults.test_upgrade import EARLIER

from finetuning.api.crd import crd

Schema = dict[str, Any]
DEFINITION = "crds/finetuningjobs.aim.amd.com.yaml"
AT_MOST = ("maximum", "maxLength", "maxItems", "maxProperties")
AT_LEAST = ("minimum", "minLength", "minItems", "minProperties")
BEFORE_ANY_RELEASE = {
    "spec.resources.requests: maxProperties was 32, is 8",
    "spec.resources.limits: maxProperties was 32, is 8",
}


def schema(definition: dict[str, Any]) -> Schema:
    found: Schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def narrowed(old: Schema, new: Schema, path: str = "") -> Iterator[str]:
    """What was accepted under `old` and may not be under `new`; rules between fields aside."""
    yield from _value(old, new, path)
    for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
        yield f"{_below(path, name)}: newly required"
    for name, part in old.get("properties", {}).items():
        if name in new.get("properties", {}):
            yield from narrowed(part, new["properties"][name], _below(path, name))
        else:
            yield f"{_below(path, name)}: gone"
    if isinstance(old.get("items"), dict):
        yield from narrowed(old["items"], new.get("items", {}), f"{path}[]")


def _value(old: Schema, new: Schema, path: str) -> Iterator[str]:
    for name in ("type", "format", "pattern"):
        if name in new and new[name] != old.get(name):
            yield _change(path, name, old, new)
    for name, sign in [(each, 1) for each in AT_MOST] + [(each, -1) for each in AT_LEAST]:
        if name in new and (name not in old or sign * new[name] < sign * old[name]):
            yield _change(path, name, old, new)
    if "enum" in new and not set(old.get("enum", ["?"])) <= set(new["enum"]):
        yield _change(path, "enum", old, new)
    # That of an object is made of its fields' own.
    if "default" in old and old["default"] != new.get("default") and old.get("type") != "object":
        yield _change(path, "default", old, new)


def _change(path: str, name: str, old: Schema, new: Schema) -> str:
    return f"{path}: {name} was {old.get(name)}, is {new.get(name)}"


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def test_an_earlier_definition_took_nothing_that_this_one_refuses(tmp_path: Path) -> None:
    if not unpack(EARLIER, tmp_path):
        pytest.skip(f"this clone lacks commit {EARLIER}: git fetch --unshallow")
    earlier = yaml.safe_load((tmp_path / DEFINITION).read_text())
    assert set(narrowed(schema(earlier), schema(crd()))) == BEFORE_ANY_RELEASE


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"type": "string"}, {"type": "integer"}, "a: type was string, is integer"),
        ({"maximum": 9}, {"maximum": 8}, "a: maximum was 9, is 8"),
        ({}, {"minLength": 1}, "a: minLength was None, is 1"),
        ({"enum": ["x", "y"]}, {"enum": ["x"]}, "a: enum was ['x', 'y'], is ['x']"),
        ({"default": 1}, {"default": 2}, "a: default was 1, is 2"),
        ({"properties": {"b": {}}}, {}, "a.b: gone"),
        ({"properties": {"b": {}}}, {"properties": {"b": {}}, "required": ["b"]}, "a.b: newly"),
        ({"items": {"maximum": 9}}, {"items": {"maximum": 8}}, "a[]: maximum was 9, is 8"),
    ],
)
def test_each_way_to_narrow_a_field_is_seen(old: Schema, new: Schema, said: str) -> None:
    (found,) = narrowed({"properties": {"a": old}}, {"properties": {"a": new}})
    assert found.startswith(said)
    assert list(narrowed(old, old)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"maximum": 8}, {"maximum": 9}),
        ({"enum": ["x"]}, {"enum": ["x", "y"]}),
        ({"properties": {}}, {"properties": {"b": {}}}),
        ({"required": ["b"]}, {}),
    ],
)
def test_what_is_widened_is_no_change(old: Schema, new: Schema) -> None:
    assert list(narrowed(old, new)) == []
