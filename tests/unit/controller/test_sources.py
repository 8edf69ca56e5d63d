import pytest
from tests.unit.controller.objects import job

from finetuning.controller.desired import sources
from finetuning.controller.errors import InvalidSpecError


@pytest.mark.parametrize(
    ("source", "path", "local"),
    [
        ("/workspace/templates/train.jsonl", "/workspace/templates/train.jsonl", True),
        ("templates/train.jsonl", "/workspace/templates/train.jsonl", True),
        ("./rows", "/workspace/rows", True),
        ("configmap:rows:train.csv", "/workspace/data/train.csv", True),
        ("pvc://corpora/law/train.jsonl", "/workspace/data/law/train.jsonl", True),
        ("pvc://corpora", "/workspace/data", True),
        ("hf://tatsu-lab/alpaca", "hf://tatsu-lab/alpaca", False),
        ("tatsu-lab/alpaca", "hf://tatsu-lab/alpaca", False),
        ("s3://bucket/law/train.jsonl", "s3://bucket/law/train.jsonl", False),
        ("squad", "hf://squad", False),
    ],
)
def test_a_dataset_becomes_a_path_that_the_trainer_can_open(
    source: str, path: str, *, local: bool
) -> None:
    found = sources.dataset(job(dataset={"source": source}))
    assert (found.path, found.local) == (path, local)


def test_rows_to_evaluate_on_have_a_place_of_their_own() -> None:
    rows = {"source": "pvc://rows/train.jsonl"}
    assert sources.evaluation(job(dataset=rows)) is None
    found = sources.evaluation(job(dataset={**rows, "evalSource": "pvc://rows/eval.jsonl"}))
    assert found is not None
    assert found.path == "/workspace/evaluation/eval.jsonl"
    with pytest.raises(InvalidSpecError, match=r"spec\.dataset\.evalSource: 'a/b/c' is neither"):
        sources.evaluation(job(dataset={**rows, "evalSource": "a/b/c"}))


def test_a_deep_relative_name_is_neither_a_file_nor_an_id() -> None:
    with pytest.raises(InvalidSpecError, match="neither an absolute path nor the id"):
        sources.dataset(job(dataset={"source": "a/b/c"}))


def test_a_path_never_leaves_its_mount() -> None:
    with pytest.raises(InvalidSpecError, match="must not contain"):
        sources._claim("pvc://corpora/../../etc", sources._DATA)


@pytest.mark.parametrize(
    ("storage", "uri"),
    [
        ({}, "pvc://demo-output/aim_profile.json"),
        ({"claimName": "models"}, "pvc://models/demo/aim_profile.json"),
        ({"claimName": "models", "subPath": "a/b"}, "pvc://models/a/b/aim_profile.json"),
    ],
)
def test_results_are_named_by_claim_and_folder(storage: dict[str, str], uri: str) -> None:
    output = sources.output(job(output={"storage": storage}))
    assert output.uri("aim_profile.json") == uri
