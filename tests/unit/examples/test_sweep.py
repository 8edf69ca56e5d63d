"""The sweep's jobs, before and in a cluster; tests/unit/readers runs one for real."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from tests.unit.client.server import Api, served
from tests.unit.controller.objects import job_body
from tests.unit.examples.conftest import EXAMPLES, imported

RATES = "--vary=hyperparameters.learningRate=0.001,3e-3"
HELD_OUT: dict[str, Any] = {"dataset": {"source": "configmap:rows:train.jsonl", "evalSplit": 0.1}}


@pytest.fixture(scope="module")
def sweep() -> ModuleType:
    return imported(EXAMPLES / "sweeps", "sweep")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path, **spec: Any) -> Path:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job_body("tune", **HELD_OUT | spec)))
    return path


def test_each_combination_is_a_job_of_its_own_in_the_cluster(
    sweep: ModuleType, job: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    api = Api()
    done = {"phase": "Succeeded", "observedGeneration": 1, "evalLoss": 0.25}
    verdict = {"phase": "Passed", "result": "4/4", "attempt": 1}
    api.on_create = {"status": done | {"validation": verdict}}
    with served(api, tmp_path / "kubeconfig"):
        code = sweep.main([str(job), RATES, "--vary", "spec.loraConfig.r=8,16", "-n", "team"])
    assert code == 0
    made = [body for _, _, body in api.sent("POST") if body.get("kind") == "FineTuningJob"]
    assert [each["metadata"]["name"] for each in made] == ["tune-1", "tune-2", "tune-3", "tune-4"]
    chosen = [
        (each["spec"]["hyperparameters"]["learningRate"], each["spec"]["loraConfig"]["r"])
        for each in made
    ]
    assert chosen == [(0.001, 8), (0.001, 16), (0.003, 8), (0.003, 16)]
    assert capsys.readouterr().out.count("0.2500        4/4") == 4


@pytest.mark.parametrize(
    ("vary", "spec", "says"),
    [
        (
            "hyperparameters.learningRate=0.1,5",
            {},
            "learningRate=5: spec.hyperparameters.learningRate: Input should be less than",
        ),
        (
            "hyperparameters.rate=1",
            {},
            "rate=1: spec.hyperparameters.rate: Extra inputs are not permitted",
        ),
        ("method=lora,lorra", {}, "method=lorra: spec.method: Input should be 'lora'"),
        ("method=lora", {"dataset": {"source": "hf://a/b"}}, "set dataset.evalSplit"),
        (
            "method=lora",
            {"output": {"storage": {"claimName": "c", "subPath": "one"}}},
            "output.storage.subPath",
        ),
        ("method.of=1", {"method": "lora"}, "method.of: leads through a value that has no fields"),
        (
            "method=lora,qlora",
            {"output": {"publish": {"s3": {"uri": "s3://models/tune"}}}},
            "s3://models/tune would be one place for all trials",
        ),
    ],
)
def test_what_cannot_be_swept_is_told_before_anything_is_made(
    sweep: ModuleType, tmp_path: Path, vary: str, spec: dict[str, Any], says: str
) -> None:
    with pytest.raises(sweep.SweepError) as refused:
        sweep.trials(yaml.safe_load(written(tmp_path, **spec).read_text()), [sweep.variation(vary)])
    assert says in str(refused.value)


def test_it_is_one_line_and_exit_code_2(
    sweep: ModuleType, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main([str(job), "--vary", "hyperparameters.learningRate=5", "--local"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("sweep: hyperparameters.learningRate=5: ")
    assert told.count("\n") == 1


def test_a_setting_may_be_a_list(sweep: ModuleType) -> None:
    varied = sweep.variation('loraConfig.targetModules=["q_proj","v_proj"],["all-linear"]')
    assert varied == ("loraConfig.targetModules", [["q_proj", "v_proj"], ["all-linear"]])
    assert sweep.variation("method=lora,full") == ("method", ["lora", "full"])


def test_a_manifest_is_read_as_the_command_reads_it(sweep: ModuleType, job: Path) -> None:
    """PyYAML takes 3e-3 for a text."""
    job.write_text(job.read_text() + "  hyperparameters:\n    learningRate: 3e-3\n")
    (trial,) = sweep.trials_of(job, [sweep.variation("hyperparameters.seed=7")])
    assert trial.body["spec"]["hyperparameters"] == {"learningRate": 0.003, "seed": 7}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no FineTuningJob in it"),
        ("kind: FineTuningJob\napiVersion: aim.amd.com/v1alpha1\n", "metadata: Required value"),
        ("kind: Secret\napiVersion: v1\n---\n", "holds other objects too"),
    ],
)
def test_a_manifest_of_something_else_is_told_in_words(
    sweep: ModuleType, job: Path, text: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job.write_text(text + job.read_text() if text.endswith("---\n") else text)
    assert sweep.main([str(job), RATES]) == 2
    assert says in capsys.readouterr().err


def test_a_setting_without_values_is_wrong_usage(sweep: ModuleType, job: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        sweep.main([str(job), "--vary", "method"])
    with pytest.raises(SystemExit, match="2"):
        sweep.main([str(job), "--vary", "method= "])
    assert ended.value.code == 2
