import errno
import json
import os
import subprocess
from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.controller.objects import SETTINGS, job_body

from finetuning.api.run_config import ENV, RunConfig
from finetuning.api.v1alpha1 import FineTuningJob, FineTuningJobStatus, Phase
from finetuning.controller import observed, status
from finetuning.controller.desired import pod
from finetuning.controller.desired.pod import LONGEST_VARIABLE
from finetuning.controller.desired.validation import CONFIG_ENV
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


def test_a_status_is_read_once_and_a_new_one_counts_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[Any] = []
    parse = status.parse

    def note(raw: Any) -> FineTuningJobStatus:
        read.append(raw)
        return parse(raw)

    monkeypatch.setattr(status, "parse", note)
    specs, pending, running = Specs(SETTINGS), custom(phase="Pending"), custom(2, phase="Running")
    phases = [specs.read(each)[0].status.phase for each in (pending, pending, running, pending)]
    assert phases == [Phase.PENDING, Phase.PENDING, Phase.RUNNING, Phase.PENDING]
    assert len(read) == 3
    assert specs.read(custom(3))[0].status.phase is FineTuningJobStatus().phase


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


def test_what_a_later_rule_refuses_is_read_once_it_has_begun() -> None:
    bare = custom(output={"storage": {"size": "50"}})
    with pytest.raises(ValidationError, match="size is in bytes unless"):
        Specs(SETTINGS).read(bare)
    begun = {"phase": "Running", "trainingJobName": "demo-train"}
    job, wanted = Specs(SETTINGS).read(observed.custom({**bare.body, "status": begun}))
    assert job.status.phase is Phase.RUNNING
    assert wanted.validation_job is not None
    with pytest.raises(ValidationError, match="size is in bytes unless"):
        Specs(SETTINGS).read(bare)


def test_what_is_kept_of_a_job_is_no_tree_of_what_the_api_server_sent() -> None:
    specs = Specs(SETTINGS)
    job, _ = specs.read(custom(phase="Running"))
    same, _ = specs.read(custom(phase="Running"))
    assert same is job, "the same text says the same"
    (known,) = specs._known.values()
    assert not [part for part in vars(known).values() if isinstance(part, dict | list)]


def test_no_more_is_kept_than_fits_and_the_last_used_stays(parses: list[str]) -> None:
    specs = Specs(SETTINGS, kept=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        specs.read(custom(name=name))
    assert parses == ["a", "b", "c", "b"]
    assert len(specs._known) == 2


def variable(name: str, prompts: list[dict[str, Any]]) -> str:
    _, wanted = Specs(SETTINGS).read(custom(validation={"prompts": prompts}))
    assert wanted.validation_job is not None
    (container,) = wanted.validation_job["spec"]["template"]["spec"]["containers"]
    value: str = next(each["value"] for each in container["env"] if each["name"] == name)
    return value


def starts(name: str, value: str) -> bool:
    try:
        subprocess.run(["true"], env={**os.environ, name: value}, check=True)
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        return False
    return True


def test_prompts_travel_as_they_are_and_only_where_a_process_can_start_with_them() -> None:
    chinese = [{"prompt": "漢" * 1000, "expectedKeywords": ["字"]}] * 32
    told = variable(CONFIG_ENV, chinese)
    assert len(told.encode()) < 100_000
    assert starts(CONFIG_ENV, told)
    assert json.loads(told)["prompts"][31]["prompt"] == chinese[31]["prompt"]
    # Few in the spec, and many as JSON.
    quotes = [{"prompt": '"' * 2000}] * 30
    assert starts(CONFIG_ENV, variable(CONFIG_ENV, quotes))
    most = [*quotes, {"prompt": '"' * 2000}, {"prompt": "$" * 1000}]
    says = r"spec\.validation\.prompts: '13\d{4} bytes' as JSON are more than the 131072"
    with pytest.raises(InvalidSpecError, match=says):
        Specs(SETTINGS).read(custom(validation={"prompts": most}))


def test_the_limit_of_a_variable_is_the_machines() -> None:
    field = "spec.validation.prompts"
    longest = "x" * (LONGEST_VARIABLE - len("A=") - 1)
    assert starts("A", pod.variable("A", longest, field)["value"])
    assert not starts("A", longest + "x")
    with pytest.raises(InvalidSpecError, match="more than the 131072"):
        pod.variable("A", longest + "x", field)


def test_the_largest_training_fits_into_its_variable() -> None:
    wide = "\U0001f600" * 128
    columns = dict.fromkeys(("instruction", "input", "output", "system"), wide)
    modules = [f"{number:03}" + "x" * 125 for number in range(64)]
    spec: dict[str, Any] = {
        "dataset": {"source": "pvc://rows/" + "x" * 400, "columns": columns},
        "loraConfig": {"targetModules": modules},
    }
    _, wanted = Specs(SETTINGS).read(custom(**spec))
    (trainer,) = wanted.training_job["spec"]["template"]["spec"]["containers"]
    told = next(each["value"] for each in trainer["env"] if each["name"] == ENV)
    assert RunConfig.decode(told).lora_config.target_modules == modules
    assert starts(ENV, told)
