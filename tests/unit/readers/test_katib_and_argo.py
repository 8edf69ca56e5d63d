"""The examples for Katib and Argo Workflows, read as both do, over jobs at each of their turns."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.readers.conftest import Ask
from tests.unit.readers.moments import BROKEN, DONE, Moment

from finetuning.api.v1alpha1 import FineTuningJob
from finetuning.controller import naming

pytestmark = pytest.mark.timeout(900)  # The first test may have to build the readers.

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "sweeps"
CONFIG_MAP, EXPERIMENT = yaml.safe_load_all((EXAMPLES / "katib.yaml").read_text())
WORKFLOW, *_ = yaml.safe_load_all((EXAMPLES / "argo.yaml").read_text())
TRIAL = EXPERIMENT["spec"]["trialTemplate"]
STEP = next(each for each in WORKFLOW["spec"]["templates"] if "resource" in each)
KATIB = {"success": TRIAL["successCondition"], "failure": TRIAL["failureCondition"]}
ARGO = {
    "success": STEP["resource"]["successCondition"],
    "failure": STEP["resource"]["failureCondition"],
}
ENDS = {DONE: "Succeeded", BROKEN: "Failed"}


def test_katib_sees_when_a_trial_has_ended_and_how(ask: Ask, lives: list[Moment]) -> None:
    seen = [each for each in lives if not each.name.endswith("unseen")]
    found = ask([{"object": each.body, "katib": KATIB} for each in seen])
    assert {m.name: it["katib"] for m, it in zip(seen, found, strict=True)} == {
        each.name: ENDS.get(each.kstatus, "Running") for each in seen
    }


def test_argo_sees_the_same_of_jobs_that_are_judged_and_not_published(
    ask: Ask, lives: list[Moment]
) -> None:
    """Its language knows no conditions: the step asks for phase and verdict by name."""
    other = ("publish", "nobody judges", "unseen", "anew", "another copy")
    seen = [each for each in lives if not any(word in each.name for word in other)]
    found = ask([{"object": each.body, "argo": ARGO} for each in seen])
    told = {m.name: it["argo"] for m, it in zip(seen, found, strict=True)}
    assert told == {each.name: ENDS.get(each.kstatus, "Running") for each in seen}
    assert set(told.values()) == {"Running", "Succeeded", "Failed"}


def test_katibs_text_with_its_numbers_is_a_valid_job() -> None:
    text = CONFIG_MAP["data"][TRIAL["configMap"]["templatePath"]]
    names = {each["reference"]: each["name"] for each in TRIAL["trialParameters"]}
    assert set(re.findall(r"\$\{trialParameters\.(\w+)\}", text)) == set(names.values())
    for parameter in EXPERIMENT["spec"]["parameters"]:
        place = f"${{trialParameters.{names[parameter['name']]}}}"
        text = text.replace(place, parameter["feasibleSpace"]["min"])
    body = yaml.safe_load(text)
    assert "metadata" not in body, "Katib refuses a template with a name"
    spec = FineTuningJob.from_body(body | {"metadata": {"name": "trial-1"}}).spec
    assert (spec.hyperparameters.learning_rate, spec.lora.r) == (0.0005, 4)
    assert TRIAL["configMap"]["configMapName"] == CONFIG_MAP["metadata"]["name"]


def test_katib_finds_the_training_pod_and_its_container() -> None:
    assert TRIAL["primaryContainerName"] == naming.TRAINING_CONTAINER
    assert TRIAL["primaryPodLabels"] == {naming.COMPONENT_LABEL: naming.TRAINING}


def test_the_workflows_manifest_with_a_rate_is_a_valid_job() -> None:
    text = STEP["resource"]["manifest"].replace("{{inputs.parameters.learning-rate}}", "0.003")
    body: dict[str, Any] = yaml.safe_load(text)
    assert body["metadata"] == {"generateName": "tiny-lora-"}
    spec = FineTuningJob.from_body(body | {"metadata": {"name": "tiny-lora-x7k2p"}}).spec
    assert spec.hyperparameters.learning_rate == 0.003


def test_what_the_workflow_hands_on_is_in_the_status(lives: list[Moment]) -> None:
    paths = [each["valueFrom"]["jsonPath"] for each in STEP["outputs"]["parameters"]]
    assert paths == ["{.status.modelPath}", "{.status.evalLoss}"]
    done = next(each for each in lives if each.name == "trained and validated, 4")
    assert done.body["status"]["modelPath"] == "pvc://demo-output"
