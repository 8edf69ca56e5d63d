"""The published JSON Schema, by a validator as editors have one."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.documented import example_jobs, shown_jobs
from tests.unit.controller.objects import job_body

from finetuning.api.editor import editor_schema

JOBS = [*example_jobs(), *shown_jobs()]


def mistakes(job: Any) -> list[str]:
    found = Draft202012Validator(editor_schema()).iter_errors(job)
    return [f"{each.json_path}: {each.message}" for each in found]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(editor_schema())
    assert "x-kubernetes" not in json.dumps(editor_schema())


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_every_example_is_clean(name: str, job: Any) -> None:
    assert mistakes(job) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"method": "lorra"}, "$.spec.method: 'lorra' is not one of"),
        ({"metod": "lora"}, "$.spec: Additional properties are not allowed ('metod' was"),
        ({"hyperparameters": {"epochs": 0}}, "$.spec.hyperparameters.epochs: 0 is less than"),
        ({"hyperparameters": {"learningRate": 0}}, "learningRate: 0 is less than or equal to"),
        ({"resources": {"limits": {"amd.com/gpu": 1.5}}}, "1.5 is not of type 'integer', 'string'"),
        (
            {"output": {"publish": {"s3": {"uri": "http://models/law"}}}},
            "$.spec.output.publish.s3.uri: 'http://models/law' does not match",
        ),
        ({"output": {"storage": {"size": "much"}}}, "output.storage.size: 'much' does not match"),
        (
            {"resources": {"limits": {"amd.com/gpu": "one"}}},
            "limits['amd.com/gpu']: 'one' does not match",
        ),
        (
            {"dataset": {"source": "pvc://rows/../x.csv"}},
            "dataset.source: 'pvc://rows/../x.csv' sh",
        ),
    ],
)
def test_a_mistake_is_underlined(spec: Any, expected: str) -> None:
    (told,) = mistakes(job_body(**spec))
    assert expected in told


def test_a_name_may_be_left_to_the_api_server_and_labels_are_texts() -> None:
    job = job_body()
    job["metadata"] = {"generateName": "tune-", "labels": {"team": "law"}}
    assert mistakes(job) == []
    job["metadata"]["labels"] = {"year": 2026}
    assert mistakes(job) == ["$.metadata.labels.year: 2026 is not of type 'string'"]
    job["metadata"] = {"name": "a" * 63}
    assert mistakes(job) == []
    job["metadata"] = {"name": "a" * 64}
    assert "too long" in mistakes(job)[0]
    job["metadata"] = {"name": "My_Job"}
    assert "'My_Job' does not match" in mistakes(job)[0]
    job["metadata"] = {}
    assert len(mistakes(job)) == 1


def test_every_field_explains_itself() -> None:
    def silent(schema: dict[str, Any], path: str) -> list[str]:
        inner = schema.get("items", schema).get("properties", {})
        own = [] if schema.get("description") else [path]
        return own + [x for name, each in inner.items() for x in silent(each, f"{path}.{name}")]

    assert silent(editor_schema()["properties"]["spec"], "spec") == []
