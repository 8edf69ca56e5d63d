"""Local runs and the operator refuse what the API server refuses, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.cluster.crd_cases import ACCEPTED, PROTOTYPE, REFUSED, Case, minimal, named
from tests.documented import example_jobs, shown_jobs

from finetuning.api.base import CEL_RULES
from finetuning.api.crd import job_schema
from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.local import manifest
from finetuning.local.yaml_text import documents


def our_messages(node: Any) -> set[str]:
    """Every message that the schema attaches to a rule of its own."""
    if isinstance(node, list):
        return {message for item in node for message in our_messages(item)}
    if not isinstance(node, dict):
        return set()
    own = {rule["message"] for rule in node.get(CEL_RULES, [])}
    return own | {message for child in node.values() for message in our_messages(child)}


def complaints(case: Case) -> list[tuple[str, str]]:
    """Where and why a local run refuses the case."""
    with pytest.raises(ValidationError) as refused:
        FineTuningJob.from_body(case.manifest)
    found = refused.value.errors(include_url=False)
    return [(".".join(str(part) for part in each["loc"]), each["msg"]) for each in found]


@pytest.mark.parametrize("case", ACCEPTED, ids=named)
def test_a_local_run_accepts(case: Case) -> None:
    FineTuningJob.from_body(case.manifest)


@pytest.mark.parametrize(("name", "body"), [*example_jobs(), *shown_jobs()])
def test_examples_and_manifests_of_the_documentation_are_accepted(
    name: str, body: dict[str, Any]
) -> None:
    FineTuningJob.from_body(body)


@pytest.mark.parametrize("case", REFUSED, ids=named)
def test_a_local_run_refuses_at_the_same_field_in_the_same_words(case: Case) -> None:
    found = complaints(case)
    if any(case.says in message for message in our_messages(job_schema())):
        # A rule about several fields stands at the object that holds them.
        places = [at for at, why in found if case.says in why]
        assert [at for at in places if at.startswith(case.field) or case.field.startswith(at)]
    else:
        assert [at for at, _ in found if at.startswith(case.field)], found


@pytest.mark.parametrize("path", PROTOTYPE, ids=lambda path: path.stem)
def test_a_manifest_of_the_prototype_runs_unchanged(path: Path) -> None:
    job = manifest.load(path).job
    (document,) = documents(path.read_text(), path.name)
    assert job.spec.hyperparameters.learning_rate == 2e-4
    assert job.spec.resources.limits["amd.com/gpu"] in {"1", 1}
    assert (job.spec.lora.r, job.spec.lora.lora_alpha) == (16, 32)
    assert job.spec.dataset.source == document.body["spec"]["dataset"]["source"]


@pytest.mark.parametrize(
    ("hyperparameters", "lora_config", "rank", "alpha"),
    [
        ({}, None, 16, 32),
        ({"loraRank": 8, "loraAlpha": 64}, None, 8, 64),
        ({"loraRank": 8}, {"targetModules": ["q_proj"]}, 8, 32),
        ({"loraRank": 8, "loraAlpha": 64}, {"r": 4}, 4, 64),
        ({"loraRank": 8}, {"r": 16}, 16, 32),
    ],
)
def test_the_newer_spelling_of_the_rank_wins_only_when_it_is_written(
    hyperparameters: dict[str, Any], lora_config: dict[str, Any] | None, rank: int, alpha: int
) -> None:
    body = minimal() | {
        "spec": minimal()["spec"] | {"hyperparameters": hyperparameters, "loraConfig": lora_config}
    }
    lora = FineTuningJob.from_body(body).spec.lora
    assert (lora.r, lora.lora_alpha) == (rank, alpha)


@pytest.mark.parametrize(
    ("given", "precision"),
    [
        ({}, "fp16"),
        ({"bf16": True}, "bf16"),
        ({"bf16": True, "fp16": True}, "bf16"),
        ({"fp16": False}, "fp32"),
    ],
)
def test_bf16_wins_over_the_default_of_fp16(given: dict[str, bool], precision: str) -> None:
    spec = minimal()["spec"] | {"hyperparameters": given}
    job = FineTuningJob.from_body(minimal() | {"spec": spec})
    assert job.spec.hyperparameters.precision == precision
