"""The condition MemorySufficient, from the spec alone."""

from typing import Any

import pytest
from tests.unit.controller.objects import job, seen

from finetuning.api.v1alpha1 import Condition
from finetuning.controller import status
from finetuning.controller.training_status import Nodes

QWEN = {"modelId": "Qwen/Qwen2.5-7B-Instruct"}


def judged(gpu: str, **spec: Any) -> Condition | None:
    of = job(**{"baseModel": QWEN, **spec})
    new = status.status_of(seen(of=of, nodes=Nodes(gpu, "amd.com/gpu")), status.now())
    return next((each for each in new.conditions if each.type == "MemorySufficient"), None)


def test_a_job_that_fits_is_true_with_the_figures() -> None:
    found = judged("MI300X")
    assert found is not None
    assert (found.status, found.reason) == ("True", "EstimateFits")
    assert "at its peak; one MI300X has 181.4 GiB to use." in found.message


def test_a_job_that_does_not_fit_is_false_with_the_remedy() -> None:
    found = judged("MI300X-CPX", method="full")
    assert found is not None
    assert (found.status, found.reason) == ("False", "EstimateExceedsMemory")
    assert "To make it fit, set method to qlora." in found.message
    assert len(found.message) <= 1024


def test_the_partition_that_is_asked_for_counts() -> None:
    found = judged("MI300X", resources={"limits": {"amd.com/cpx_nps4": 1}})
    assert found is not None
    assert "MI300X-CPX-NPS4" in found.message


@pytest.mark.parametrize(
    ("gpu", "spec", "reason", "text"),
    [
        (
            "MI300X",
            {"baseModel": {"modelId": "me/mine"}},
            "ModelShapeUnknown",
            "finetuning estimate",
        ),
        ("", {}, "GpuModelUnknown", "needs about 2"),
        ("MI350X", {"resources": {"limits": {"amd.com/cpx_nps4": 1}}}, "GpuModelUnknown", "NPS1"),
    ],
)
def test_what_cannot_be_known_is_said(
    gpu: str, spec: dict[str, Any], reason: str, text: str
) -> None:
    found = judged(gpu, **spec)
    assert found is not None
    assert (found.status, found.reason) == ("Unknown", reason)
    assert text in found.message


def test_it_is_judged_once_and_stands() -> None:
    """Another GPU in the settings, or a newer operator, writes nothing to a job under way."""
    of = job(baseModel=QWEN)
    first = status.status_of(seen(of=of, nodes=Nodes("MI300X", "amd.com/gpu")), status.now())
    of.status = first.model_copy(update={"training_job_name": "x-train"})
    second = status.status_of(seen(of=of, nodes=Nodes("MI210", "amd.com/gpu")), status.now())
    assert first.conditions == second.conditions
    of.metadata.generation = 7
    third = status.status_of(seen(of=of, nodes=Nodes("MI210", "amd.com/gpu")), status.now())
    assert {each.observed_generation for each in third.conditions} == {7}


def test_a_run_without_a_cluster_has_no_such_condition() -> None:
    new = status.status_of(seen(of=job(baseModel=QWEN)), status.now())
    assert "MemorySufficient" not in {each.type for each in new.conditions}
