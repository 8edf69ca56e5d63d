from typing import Any

import pytest
import yaml
from bench.operator import costs, gate, stand_ins, watcher, workload
from bench.operator.__main__ import main, read_rounds
from bench.operator.workload import Round

from finetuning.artifacts.models import TrainingResult, ValidationResult
from finetuning.controller import naming


def test_rounds_are_counts_and_counts_in_a_row() -> None:
    assert read_rounds("10x1,100") == [Round(10, one_by_one=True), Round(100)]


@pytest.mark.parametrize("words", [("--rounds", "ten"), ("--rounds", "0"), ("--subjects", "go")])
def test_a_wrong_choice_is_one_line_and_exit_code_2(
    words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(words)) == 2
    told = capsys.readouterr().err
    assert words[1] in told
    assert len(told.splitlines()) == 1


def test_requests_are_counted_by_who_sent_them_and_watches_are_not() -> None:
    def event(user: str, verb: str, resource: str, sub: str = "") -> dict[str, Any]:
        about = {"resource": resource, "subresource": sub}
        return {"user": {"username": user}, "verb": verb, "objectRef": about}

    found = costs.count(
        [
            event("bench-operator", "patch", "finetuningjobs", "status"),
            event("bench-operator", "patch", "finetuningjobs", "status"),
            event("bench-operator", "watch", "jobs"),
            event("system:serviceaccount:kube-system:job-controller", "create", "pods"),
        ]
    )
    assert found == {
        ("operator", "patch", "finetuningjobs/status"): 2,
        ("controller-manager", "create", "pods"): 1,
    }


def test_the_gate_names_what_got_worse_or_is_missing() -> None:
    writes, reads = gate.COUNTED
    kept = {writes: 7.0, reads: 0.0, "CPU": 0.2, "gone": 1.0}
    lines = gate.worse({writes: 8.6, reads: 0.2, "CPU": 0.25}, kept)
    assert [line.partition(":")[0] for line in lines] == ["CPU", "gone"]
    lines = gate.worse({writes: 8.7, reads: 0.3, "CPU": 0.24, "gone": 0.0}, kept)
    assert [line.partition(":")[0] for line in lines] == [writes, reads]


def test_pods_end_with_words_that_the_operator_reads() -> None:
    words = stand_ins.last_words()
    trained = TrainingResult.model_validate_json(words[naming.TRAINING])
    judged = ValidationResult.model_validate_json(words[naming.VALIDATION])
    assert judged.ok
    assert judged.manifest_sha256 == trained.manifest_sha256
    stages = yaml.safe_load_all(stand_ins.configuration(3))
    delays = {
        each["metadata"]["name"]: each["spec"].get("delay") for each in stages if "spec" in each
    }
    assert delays["training-ended"] == {"durationMilliseconds": 3000}


def test_the_floor_is_the_training_job_without_an_owner() -> None:
    made = workload.plain("team", "j1")
    assert made["metadata"]["name"] == "j1-train"
    assert made["metadata"]["ownerReferences"] == []
    assert watcher.key_of(made) == "j1"
    ended = made | {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    assert watcher.job_steps(ended) == ["training job", "training job ended"]
