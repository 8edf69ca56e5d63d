from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.controller.objects import SETTINGS

from finetuning.api.hyperparameters import Method
from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.controller import desired

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
JOBS = sorted(path for path in EXAMPLES.glob("*.yaml") if "kind: FineTuningJob" in path.read_text())


def manifest(name: str) -> dict[str, Any]:
    found = objects(name)
    return found.get("FineTuningJob") or next(iter(found.values()))


def objects(name: str) -> dict[str, dict[str, Any]]:
    """By their kinds, of which each file has one at most."""
    found = [dict(each) for each in yaml.safe_load_all((EXAMPLES / name).read_text())]
    return {each["kind"]: each for each in found}


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


def test_the_token_of_a_private_model_is_a_reference_in_the_pod_and_nowhere_else() -> None:
    job = FineTuningJob.from_body(manifest("finetuningjob-private.yaml"))
    pod = desired.build(job, SETTINGS).training_job["spec"]["template"]["spec"]
    (trainer,) = pod["containers"]
    (token,) = (each for each in trainer["env"] if each["name"] == "HF_TOKEN")
    assert token == {
        "name": "HF_TOKEN",
        "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}},
    }
    assert "HF_TOKEN" not in str(pod["initContainers"])


def test_every_example_is_listed_on_its_page() -> None:
    page = (ROOT / "docs" / "examples.md").read_text()
    missing = [path.name for path in JOBS if not named(path.stem, page)]
    assert missing == []
    assert "examples/notebook.ipynb" in page


def named(stem: str, page: str) -> bool:
    """Also in a list: examples/finetuningjob-{lora,qlora}.yaml."""
    lists = re.findall(r"`examples/([\w.-]*)\{([\w,-]+)\}([\w.-]*)\.yaml`", page)
    known = {head + each + tail for head, many, tail in lists for each in many.split(",")}
    return stem in known or f"`examples/{stem}.yaml`" in page


def test_a_queue_has_quota_for_all_that_its_example_requests() -> None:
    documents = yaml.safe_load_all((EXAMPLES / "kueue/queues.yaml").read_text())
    found = {each["kind"]: each for each in documents}
    spec = FineTuningJob.from_body(manifest("kueue/job.yaml")).spec
    assert spec.queue_name == found["LocalQueue"]["metadata"]["name"]
    assert found["LocalQueue"]["spec"]["clusterQueue"] == found["ClusterQueue"]["metadata"]["name"]
    (group,) = found["ClusterQueue"]["spec"]["resourceGroups"]
    assert {*spec.resources.requests, *spec.resources.limits} <= set(group["coveredResources"])
    assert spec.validation.resources is not None
    assert spec.validation.resources.limits["amd.com/gpu"] in (0, "0")
