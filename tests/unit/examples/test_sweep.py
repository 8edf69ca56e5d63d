"""The sweep's jobs, before and in a cluster; tests/unit/readers runs one for real."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from tests.unit.client.server import JOBS, Api, refusal, served
from tests.unit.controller.objects import job_body
from tests.unit.examples.conftest import EXAMPLES, imported

RATES = "--vary=hyperparameters.learningRate=0.001,3e-3"
DONE = {"phase": "Succeeded", "observedGeneration": 1, "evalLoss": 0.25}
VERDICT = {"phase": "Passed", "result": "4/4", "attempt": 1}
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


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A cluster in which every job that is created has succeeded."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    found = Api()
    found.on_create = {"status": {**DONE, "validation": VERDICT}}
    with served(found, tmp_path / "kubeconfig"):
        yield found


def test_each_combination_is_a_job_of_its_own_in_the_cluster(
    sweep: ModuleType, job: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    code = sweep.main([str(job), RATES, "--vary", "spec.loraConfig.r=8,16", "-n", "team"])
    assert code == 0
    made = list(api.jobs.values())
    assert [each["metadata"]["name"] for each in made] == ["tune-1", "tune-2", "tune-3", "tune-4"]
    chosen = [
        (each["spec"]["hyperparameters"]["learningRate"], each["spec"]["loraConfig"]["r"])
        for each in made
    ]
    assert chosen == [(0.001, 8), (0.001, 16), (0.003, 8), (0.003, 16)]
    assert capsys.readouterr().out.count("0.2500        4/4") == 4


def test_a_name_that_is_taken_is_told_before_anything_is_made(
    sweep: ModuleType, job: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.keep("tune-2")
    assert sweep.main([str(job), RATES]) == 2
    said = capsys.readouterr().err
    assert "tune-2: there is a job of that name with other settings, and no trial was made" in said
    assert list(api.jobs) == [("team", "tune-2")]


def test_a_trial_that_the_cluster_refuses_leaves_none(
    sweep: ModuleType, job: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(body: Any) -> Any:
        return refusal(403, "Forbidden", f"{body['metadata']['name']} is too much")[1]

    api.answers[f"{JOBS}/namespaces/team/finetuningjobs"] = (403, answer)
    assert sweep.main([str(job), RATES]) == 2
    assert "tune-1 is too much" in capsys.readouterr().err
    assert [query.get("dryRun") for _, query, _ in api.sent("POST")] == ["All"]


def test_trials_that_a_quota_has_no_room_for_leave_none(
    sweep: ModuleType, job: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of them alone would fit, so that no dry run tells."""
    api.quota = 2
    rates = "hyperparameters.learningRate=0.001,0.002,0.003"
    assert sweep.main([str(job), "--vary", rates]) == 2
    assert "exceeded quota" in capsys.readouterr().err
    assert api.jobs == {}


def test_the_same_command_takes_its_trials_up_again(
    sweep: ModuleType, job: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main([str(job), RATES]) == 0
    del api.jobs["team", "tune-2"]
    made = len(api.sent("POST"))
    assert sweep.main([str(job), RATES]) == 0
    names = [body["metadata"]["name"] for _, _, body in api.sent("POST")[made:]]
    assert names == ["tune-2", "tune-2"], "once dry"
    assert capsys.readouterr().out.count("0.2500        4/4") == 4


def test_what_may_change_in_a_trial_makes_no_other_one_of_it(
    sweep: ModuleType, job: Path, api: Api
) -> None:
    """The best one is published after the ranking, another one paused."""
    assert sweep.main([str(job), RATES]) == 0
    first, second = api.jobs.values()
    place = {"s3": {"uri": "s3://models/best", "secretName": "store"}}
    first["spec"]["output"] = {**first["spec"].get("output", {}), "publish": place}
    second["spec"]["suspend"] = True
    assert sweep.main([str(job), RATES]) == 0
    second["spec"]["hyperparameters"]["epochs"] = 9
    assert sweep.main([str(job), RATES]) == 2


def test_a_trial_that_was_deleted_leaves_the_others_their_ranks(
    sweep: ModuleType, job: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = refusal(404, "NotFound", "not found")
    path = f"{JOBS}/namespaces/team/finetuningjobs/tune-1"
    api.answers[path] = gone
    assert sweep.main([str(job), RATES]) == 0
    _, best, last = capsys.readouterr().out.splitlines()
    assert best.startswith("tune-2 ")
    assert last.startswith("tune-1 ")
    assert last.endswith("it was deleted")


def test_a_manifest_may_name_its_namespace(
    sweep: ModuleType, tmp_path: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    body = job_body("tune", **HELD_OUT)
    body["metadata"]["namespace"] = "other"
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(body))
    assert sweep.main([str(path), RATES]) == 0
    assert list(api.jobs) == [("other", "tune-1"), ("other", "tune-2")]
    labels = [made["metadata"]["labels"] for made in api.jobs.values()]
    assert labels == [{"sweep": "tune"}] * 2
    assert capsys.readouterr().out.count("0.2500") == 2


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
