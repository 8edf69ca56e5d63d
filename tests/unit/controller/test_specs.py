from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.controller.objects import SETTINGS, job_body

from finetuning.api.v1alpha1 import FineTuningJob, Phase
from finetuning.controller import observed
from finetuning.controller.errors import InvalidSpecError
from finetuning.controller.observed import Custom
from finetuning.controller.specs import Specs


def custom(version: int = 1, name: str = "demo", phase: str = "", **spec: Any) -> Custom:
    body = job_body(name=name, **spec)
    body["metadata"]["resourceVersion"] = str(version)
    return observed.custom(body | ({"status": {"phase": phase}} if phase else {}))


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the jobs that were parsed."""
    found: list[str] = []
    parse = FineTuningJob.from_body

    def note(body: dict[str, dict[str, str]]) -> FineTuningJob:
        found.append(body["metadata"]["name"])
        return parse(body)

    monkeypatch.setattr(FineTuningJob, "from_body", note)
    return found


def test_a_spec_is_parsed_once_and_the_rest_is_as_it_is_now(parses: list[str]) -> None:
    specs = Specs(SETTINGS)
    specs.read(custom(1))
    job, wanted = specs.read(custom(2, phase="Running"))
    assert parses == ["demo"]
    assert (job.status.phase, job.metadata.resource_version) == (Phase.RUNNING, "2")
    assert wanted.training_job["metadata"]["name"] == "demo-train"


def test_what_a_user_changes_counts_at_once(parses: list[str]) -> None:
    specs = Specs(SETTINGS)
    specs.read(custom())
    job, wanted = specs.read(custom(suspend=True))
    assert job.spec.suspend
    assert wanted.training_job["spec"]["suspend"]
    asked = custom(suspend=True)
    asked = observed.custom(
        {**asked.body, "metadata": {**asked.body["metadata"], "uid": "of its successor"}}
    )
    assert specs.read(asked)[0].metadata.uid == "of its successor"
    assert len(parses) == 3


def test_a_spec_that_cannot_be_served_is_refused_every_time() -> None:
    specs = Specs(SETTINGS)
    for _ in range(2):
        with pytest.raises(ValidationError):
            specs.read(custom(epochs="many"))
        with pytest.raises(InvalidSpecError):
            specs.read(custom(dataset={"source": "a/b/c"}))


def test_no_more_is_kept_than_fits_and_the_last_used_stays(parses: list[str]) -> None:
    specs = Specs(SETTINGS, kept=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        specs.read(custom(name=name))
    assert parses == ["a", "b", "c", "b"]
    assert len(specs._known) == 2
