from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetuning.api.hyperparameters import Method
from finetuning.api.v1alpha1 import FineTuningJob

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
JOBS = sorted(path for path in EXAMPLES.glob("*.yaml") if "kind: FineTuningJob" in path.read_text())


def manifest(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((EXAMPLES / name).read_text()))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_every_example_is_a_valid_job(path: Path) -> None:
    body = manifest(path.name)
    job = FineTuningJob.from_body(body)
    assert (job.api_version, job.kind) == ("aim.amd.com/v1alpha1", "FineTuningJob")
    assert "namespace" not in body["metadata"]
    assert job.spec.resources.limits["amd.com/gpu"] in (1, "1")


@pytest.mark.parametrize("method", list(Method))
def test_the_small_jobs_differ_only_where_their_method_does(method: Method) -> None:
    job = FineTuningJob.from_body(manifest(f"finetuningjob-{method}.yaml"))
    lora = FineTuningJob.from_body(manifest("finetuningjob-lora.yaml"))
    assert job.metadata.name == f"tiny-{method}"
    assert job.spec.method is method
    assert job.spec.base_model == lora.spec.base_model
    assert job.spec.base_model.source == "pvc://tiny-model/tiny-qwen2"
    assert job.spec.dataset == lora.spec.dataset
    assert job.spec.dataset.source == "configmap:finetuning-demo-data:train.jsonl"
    assert job.spec.validation == lora.spec.validation


@pytest.mark.parametrize("method", list(Method))
def test_the_small_jobs_make_at_least_a_hundred_steps(method: Method) -> None:
    spec = FineTuningJob.from_body(manifest(f"finetuningjob-{method}.yaml")).spec
    rows = (EXAMPLES / "data" / "train.jsonl").read_text().count("\n")
    kept = rows - math.ceil(rows * spec.dataset.eval_split)
    per_step = spec.hyperparameters.batch_size * spec.hyperparameters.gradient_accumulation_steps
    assert spec.hyperparameters.max_steps is None
    assert kept // per_step * spec.hyperparameters.epochs >= 100


def test_the_validation_asks_for_facts_that_only_the_training_data_has() -> None:
    prompts = FineTuningJob.from_body(manifest("finetuningjob-lora.yaml")).spec.validation.prompts
    data = (EXAMPLES / "data" / "train.jsonl").read_text()
    assert len(prompts) >= 3
    for prompt in prompts:
        subject = prompt.prompt.split(" the ", 1)[1].split(" of ")[0]
        keyword = prompt.expected_keywords[0]
        assert f"The {subject} of the Meridian is {keyword}." in data


def test_the_pod_that_copies_keeps_to_the_restricted_profile() -> None:
    spec = manifest("claim-pod.yaml")["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 1000, "the user of the training pods"
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False
