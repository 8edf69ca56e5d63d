"""A missing object is told with the field that asked for it and the command that makes it."""

from typing import Any

import pytest
from tests.unit.controller.objects import job

from finetuning.artifacts.plain import plain
from finetuning.controller.remedies import brief, named

CASES: list[tuple[dict[str, Any], str, tuple[str, ...]]] = [
    (
        {"dataset": {"source": "configmap:rows:train.jsonl"}},
        'FailedMount: configmap "rows" not found',
        ("spec.dataset.source: ", "create configmap rows --from-file=train.jsonl"),
    ),
    (
        {"dataset": {"source": "configmap:rows:train.jsonl"}},
        "configmap references non-existent config key: train.jsonl",
        ("spec.dataset.source: ", "create configmap rows --from-file=train.jsonl --dry-run=client"),
    ),
    (
        {"dataset": {"source": "configmap:rows:a.jsonl", "evalSource": "configmap:rows:b.jsonl"}},
        "configmap references non-existent config key: b.jsonl",
        (
            "spec.dataset.evalSource: ",
            "--from-file=b.jsonl ",
            "patch configmap rows --type merge --p",
        ),
    ),
    (
        {"baseModel": {"modelId": "a/b", "tokenSecretRef": {"name": "hub", "key": "token"}}},
        "CreateContainerConfigError: couldn't find key token in Secret ml/hub",
        ("spec.baseModel.tokenSecretRef: ", "create secret generic hub --from-file=token --dry"),
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
        {
            "output": {
                "publish": {
                    "hub": {"uri": "hf://a/b", "tokenSecretRef": {"name": "hub", "key": "token"}}
                }
            }
        },
        'CreateContainerConfigError: secret "hub" not found',
        ("spec.output.publish.hub.tokenSecretRef: ", "secret generic hub --from-file=token`"),
    ),
    (
        {"output": {"publish": {"oci": {"uri": "oci://r/law:v1", "secretName": "writer"}}}},
        'CreateContainerConfigError: secret "writer" not found',
        (
            "spec.output.publish.oci.secretName: ",
            "create secret docker-registry writer --from-file=<the config.json of docker login>`",
        ),
    ),
    (
        {"output": {"publish": {"oci": {"uri": "oci://r/law:v1", "secretName": "writer"}}}},
        "CreateContainerConfigError: couldn't find key .dockerconfigjson in Secret ml/writer",
        (
            "spec.output.publish.oci.secretName: ",
            "name one of the right type, or delete it and create it with `kubectl --namespace ",
        ),
    ),
    (
        {"output": {"storage": {"claimName": "mine"}}},
        'persistentvolumeclaim "mine" not found',
        ("spec.output.storage.claimName: ",),
    ),
    (
        {"baseModel": {"modelId": "a/b", "tokenSecretRef": {"name": "hub", "key": "token"}}},
        'CreateContainerConfigError: secret "hub" not found',
        ("spec.baseModel.tokenSecretRef: ", "secret generic hub --from-file=token`, a file that"),
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
    assert words.replace("not found. not found", "not found").rstrip(". ") in told
    for part in expected:
        assert part in told
    assert named(job(**spec), told) == told
    assert plain(told, 1024) == told, "what is told in a status is told whole"
    short = brief(job(**spec), words)
    assert short.startswith(expected[0])
    assert len(short) <= 128


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "0/1 nodes are available: 1 Insufficient amd.com/gpu. no new claims to deallocate",
            ("spec.resources.limits: 0/1", "; ask for fewer amd.com/gpu, or wait until a node"),
        ),
        (
            "0/1 nodes are available: 1 Insufficient memory. no new claims to deallocate",
            ("spec.resources.limits: 0/1", "; ask for less memory, or wait until a node has so"),
        ),
        (
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
            ("spec.output.storage.storageClassName: 0/1", "Claims; claim", "pvc demo-output`"),
        ),
        (
            "pods is forbidden: exceeded quota: gpus, requested: requests.amd.com/gpu=1, used: …",
            ("spec.resources: pods is", "; ask for less, wait until others have ended, or have"),
        ),
        (
            "forbidden: failed quota: q: must specify limits.cpu,requests.cpu for: finetuning",
            ("spec.resources: forbidden", "for: finetuning; set limits.cpu,requests.cpu there."),
        ),
        (
            "forbidden: minimum cpu usage per Pod is 64, but request is 1",
            ("spec.resources: forbidden", "is 1; ask for what the LimitRange of the namespace"),
        ),
        (
            "Container finetuning: ImagePullBackOff: no such tag",
            ("Container finetuning: ImagePullBackOff: no such tag; mend image.trainer",),
        ),
    ],
)
def test_what_cannot_be_had_is_told_with_the_remedy(words: str, expected: tuple[str, ...]) -> None:
    told = named(job(), words)
    for part in expected:
        assert part in told


def test_the_scheduler_is_not_repeated() -> None:
    words = '0/1 nodes are available: persistentvolumeclaim "mine" not found. not found'
    told = named(job(output={"storage": {"claimName": "mine"}}), words)
    assert told.count("not found") == 1


def test_other_words_stay_as_they_are() -> None:
    words = "0/1 nodes are available: 1 node(s) had untolerated taint {team: b}."
    assert named(job(), words) == words
