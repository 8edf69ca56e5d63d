"""A missing object is told with the field that asked for it and the command that makes it."""

from typing import Any

import pytest
from tests.unit.controller.objects import job

from finetuning.controller.remedies import named

CASES: list[tuple[dict[str, Any], str, tuple[str, ...]]] = [
    (
        {"dataset": {"source": "configmap:rows:train.jsonl"}},
        'FailedMount: configmap "rows" not found',
        ("spec.dataset.source: ", "create configmap rows --from-file=train.jsonl"),
    ),
    (
        {"dataset": {"source": "configmap:rows:train.jsonl"}},
        "configmap references non-existent config key: train.jsonl",
        ("spec.dataset.source: ", "--from-file=train.jsonl"),
    ),
    (
        {"dataset": {"source": "pvc://rows/train.jsonl"}},
        '0/1 nodes are available: persistentvolumeclaim "rows" not found. not found',
        ("spec.dataset.source: ", "create the PersistentVolumeClaim"),
    ),
    (
        {"baseModel": {"modelId": "a/b", "source": "pvc://weights/x"}},
        'persistentvolumeclaim "weights" not found',
        ("spec.baseModel.source: ",),
    ),
    (
        {"dataset": {"source": "pvc://rows/train.jsonl", "evalSource": "configmap:ev:a.jsonl"}},
        'FailedMount: configmap "ev" not found',
        ("spec.dataset.evalSource: ", "create configmap ev --from-file=a.jsonl"),
    ),
    (
        {"validation": {"heldOut": {"source": "configmap:held-out:a.jsonl"}}},
        'FailedMount: configmap "held-out" not found',
        ("spec.validation.heldOut.source: ", "create configmap held-out --from-file=a.jsonl"),
    ),
    (
        {"validation": {"benchmarks": {"tasks": ["a"], "includePath": "configmap:tasks"}}},
        'FailedMount: configmap "tasks" not found',
        ("spec.validation.benchmarks.includePath: ", "--from-file=<folder with tasks>"),
    ),
    (
        {"dataset": {"source": "s3://b/k.jsonl", "s3": {"secretName": "store"}}},
        'CreateContainerConfigError: secret "store" not found',
        ("spec.dataset.s3.secretName: ", "create secret generic store", "AWS_ACCESS_KEY_ID"),
    ),
    (
        {"output": {"storage": {"claimName": "mine"}}},
        'persistentvolumeclaim "mine" not found',
        ("spec.output.storage.claimName: ",),
    ),
    (
        {"baseModel": {"modelId": "a/b", "tokenSecretRef": {"name": "hub", "key": "token"}}},
        'CreateContainerConfigError: secret "hub" not found',
        ("spec.baseModel.tokenSecretRef: ", "create secret generic hub"),
    ),
    (
        {
            "hyperparameters": {"reportTo": ["mlflow"]},
            "trackingSecretRef": {"name": "tracking"},
        },
        'CreateContainerConfigError: secret "tracking" not found',
        ("spec.trackingSecretRef: ", "create secret generic tracking --from-env-file="),
    ),
]


@pytest.mark.parametrize(("spec", "words", "expected"), CASES, ids=[c[1][:40] for c in CASES])
def test_the_field_and_the_remedy_stand_beside_the_words(
    spec: dict[str, Any], words: str, expected: tuple[str, ...]
) -> None:
    told = named(job(**spec), words)
    assert words.rstrip(". ") in told
    for part in expected:
        assert part in told


def test_other_words_stay_as_they_are() -> None:
    words = "0/1 nodes are available: 1 Insufficient amd.com/gpu."
    assert named(job(), words) == words
