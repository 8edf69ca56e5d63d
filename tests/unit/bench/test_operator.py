import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from bench.operator import costs, gate, page, report, rounds, stand_ins, watcher, workload
from bench.operator.__main__ import SMALL, Bench, definitions, main, read, read_rounds
from bench.operator.command import exit_code
from bench.operator.load import Load
from bench.operator.workload import CRD, SUBJECTS, Round, Subject
from hack.cluster import monitoring
from tests.unit.bench.test_page import of_round
from typing_extensions import override

from finetuning.artifacts.models import TrainingResult, ValidationResult
from finetuning.controller import naming


def test_rounds_are_counts_and_counts_in_a_row() -> None:
    assert read_rounds("10x1,100") == [Round(10, one_by_one=True), Round(100)]


@pytest.mark.parametrize(
    "words",
    [
        ("--rounds", "ten"),
        ("--rounds", "0"),
        ("--subjects", "go"),
        ("--gpus", "0"),
        ("--pod-seconds", "-1"),
        ("--limit", "nan"),
        ("--subjects", "validated", "--gate"),
        ("--rounds", "5,10,5"),
        ("--subjects", "floor,floor"),
        ("--output", "/proc/nowhere"),
        ("--profile", "/proc/nowhere"),
    ],
)
def test_a_wrong_choice_is_one_line_and_exit_code_2(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(words)) == 2
    told = capsys.readouterr().err
    assert words[1] in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--subjects", "floor"), "of no subject with an operator"),
        (("--rounds", "3x1,7"), "of 7 at once, validated; kept are 3 in a row, validated; 40 at"),
        (("--rate", "10/s"), "of 40 at once, 10 a second, validated; kept"),
    ],
)
def test_a_gate_that_has_nothing_to_compare_with_is_told_first(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It passed without a floor's rival, and failed after minutes where nothing was kept."""
    assert main(["--small", "--gate", "counted", *words]) == 2
    assert told in capsys.readouterr().err


def test_the_small_form_is_for_what_nobody_said() -> None:
    chosen = read(["--small", "--rounds", "5"])
    assert chosen.rounds == "5"
    assert {"pod_seconds": chosen.pod_seconds, "subjects": chosen.subjects}.items() < SMALL.items()
    assert read([]).pod_seconds > chosen.pod_seconds


def test_a_run_that_breaks_tells_what_was_measured_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A last round that took too long left nothing of a quarter of an hour."""

    class Slow(Bench):
        @override
        def _contend(self, subject: Subject, wanted: list[Round], found: dict[str, Any]) -> None:
            if subject.operator:
                raise TimeoutError
            found["rounds"].append(of_round(subject.name, 0.5, 100.0))

    bench = Slow(read(["--output", str(tmp_path)]), Load(), tmp_path)
    with pytest.raises(TimeoutError):
        bench.run(SUBJECTS.values(), [Round(40)])
    assert "40 at once" in capsys.readouterr().out
    (file,) = tmp_path.glob("*.broken.json")
    (kept,) = json.loads(file.read_text())["subjects"]
    assert kept == {"subject": "floor", "rounds": [of_round("floor", 0.5, 100.0)]}
    with pytest.raises(ValueError, match="no figures of a run there"):
        page.newest(tmp_path)


def test_one_that_is_told_to_end_ends_what_it_started(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    try:
        assert exit_code(run) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "nothing is left running" in capsys.readouterr().err


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


def test_the_gate_names_what_got_worse() -> None:
    writes, ratio = "40 at once, validated: create jobs", f"40 at once, validated: {gate.RATIO}"
    kept = {writes: 2.0, ratio: 0.2}
    assert gate.worse({writes: 2.6, ratio: 0.24}, kept) == {}
    assert list(gate.worse({writes: 2.7, ratio: 0.25}, kept)) == [writes, ratio]
    assert gate.worse({ratio: 0.1}, kept) == {}
    assert "not measured" in gate.worse({writes: 2.0}, kept)[ratio]
    assert list(gate.worse({"40 at once, validated: get jobs": 0.3, ratio: 0.1}, kept)) == [
        "40 at once, validated: get jobs"
    ]


def run_of(*, jobs: float, milliseconds: float) -> dict[str, Any]:
    """A run of 40 jobs with so many Jobs and so much processor time a job."""
    one = {"jobs": 40, "one_by_one": False, "load": ""}
    floor = {**one, "cpu_ms_all": 100.0, "requests": {}}
    asked = {"operator create jobs": jobs, "operator create events": 9.0, "kwok patch pods": 9.0}
    validated = {**one, "cpu_ms": {"operator": milliseconds}, "requests": asked}
    return {
        "subjects": [
            {"subject": "floor", "rounds": [floor]},
            {"subject": "validated", "rounds": [validated]},
        ]
    }


def test_counts_alone_decide_where_the_machine_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, "KEPT", tmp_path / "kept.json")
    assert gate.judge(run_of(jobs=2, milliseconds=30)) == 1, "nothing was kept"
    gate.keep(run_of(jobs=2, milliseconds=30))
    slow, chatty = run_of(jobs=2, milliseconds=60), run_of(jobs=3, milliseconds=30)
    assert gate.judge(run_of(jobs=2, milliseconds=30)) == 0
    assert gate.judge(slow) == 1
    assert gate.judge(slow, counted=True) == 0
    assert gate.judge(chatty, counted=True) == 1
    told = capsys.readouterr()
    assert "CPU / floor: 0.6, kept 0.3" in told.out
    assert "create jobs: 3, kept 2" in told.err


def test_an_operator_that_asks_though_all_is_over_fails_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, "KEPT", tmp_path / "kept.json")

    def run(requests: int) -> dict[str, Any]:
        found = run_of(jobs=2, milliseconds=30)
        found["subjects"][1]["idle"] = {"requests": requests}
        return found

    gate.keep(run(0))
    assert gate.judge(run(3), counted=True) == 0, "the lists of a resync"
    assert gate.judge(run(10), counted=True) == 1
    assert "validated: requests while idle: 10, kept 0" in capsys.readouterr().err


def test_a_request_after_the_last_verdict_is_waited_for(tmp_path: Path) -> None:
    log, naps = tmp_path / "audit.log", list[float]()
    about = {"verb": "delete", "objectRef": {"resource": "servicemonitors"}}
    line = json.dumps({"user": {"username": "bench-operator"}, **about}) + "\n"
    log.write_text(line)

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            log.write_text(log.read_text() + line)

    meter = costs.Meter(dict, log)
    rounds.settle(meter, nap)
    assert naps == [3, 3], "once more, since the first three seconds had a request"
    assert rounds.asked(meter) == 2, "which is counted"


async def test_how_long_the_queue_got_is_noted_also_across_a_restart() -> None:
    answers: list[float] = [4, 9]

    def read() -> float:
        if len(answers) == 1:
            answers.append(2)
            raise ConnectionRefusedError
        return answers.pop(0)

    found: list[float] = []
    task = asyncio.create_task(rounds.sample(read, found, seconds=0))
    while len(found) < 3:
        assert not task.done()
        await asyncio.sleep(0.001)
    task.cancel()
    assert found[:3] == [4, 9, 2]


def test_the_control_plane_knows_what_any_mode_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an operator in the mode podMonitor tries in vain every ten seconds, and that counts."""
    kinds = ("alertmanagers", "podmonitors", "servicemonitors")
    there = [tmp_path / f"monitoring.coreos.com_{kind}.yaml" for kind in kinds]
    monkeypatch.setattr(monitoring, "crds", lambda: there)
    assert definitions() == [CRD, *there[1:]]


def test_of_a_hundred_one_exceeds_the_99th_percentile() -> None:
    values = [float(each) for each in range(1, 101)]
    assert [rounds.percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert rounds.percentile([7.0], 0.99) == 7


def test_jobs_a_second_are_those_of_a_burst() -> None:
    burst = {"jobs": 100, "all_done": 20.0, "one_by_one": False}
    rate = next(read for title, read in report.ROWS if title == "jobs a second")
    assert rate(burst) == 5
    assert rate(burst | {"one_by_one": True}) is None


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
