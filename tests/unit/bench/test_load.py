"""How a burst's jobs come and what befalls them."""

import asyncio
import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from bench.operator import (
    costs,
    load,
    mishaps,
    process,
    report,
    rounds,
    stand_ins,
    watcher,
    workload,
)
from bench.operator.__main__ import main
from bench.operator.load import Load
from bench.operator.process import OperatorProcess
from bench.operator.watcher import GONE, POD, Watcher
from bench.operator.workload import SUBJECTS, Round

from finetuning.artifacts.exits import TrainFailure
from finetuning.artifacts.models import TrainingResult
from finetuning.controller import naming

if TYPE_CHECKING:
    from bench.operator.rounds import Contest


def test_choices_are_read_from_the_command_line() -> None:
    found = load.read("10/s", "0.1", "0.05", "apiserver")
    assert found == Load(rate=10, failing=0.1, deleted=0.05, restart="apiserver")
    assert found.told() == "10 a second, 10% failing, 5% deleted, apiserver restarted"
    assert load.read("", "0", "0", "") == Load()
    assert not Load().told()


@pytest.mark.parametrize(
    "words",
    [
        ("--rate", "10"),
        ("--rate", "0/s"),
        ("--rate", "nan/s"),
        ("--failing", "1.5"),
        ("--deleted", "some"),
        ("--failing", "0.6", "--deleted", "0.6"),
        ("--restart", "etcd"),
    ],
)
def test_a_wrong_choice_names_the_option_and_its_value(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(words)) == 2
    told = capsys.readouterr().err
    assert all(word in told for word in words)
    assert len(told.splitlines()) == 1


def test_shares_are_exact_and_spread_and_do_not_meet() -> None:
    chosen = Load(failing=0.1, deleted=0.05)
    names = chosen.names(40)
    failing = [place for place, name in enumerate(names) if name.startswith(load.FAILS)]
    leaving = chosen.leaving(names)
    assert failing == [5, 15, 25, 35]
    assert len(set(names)) == 40
    assert len(leaving) == 2
    assert all(name.startswith(load.LIVES) for name in leaving)
    everyone = Load(failing=0.5, deleted=0.5)
    assert len(everyone.leaving(everyone.names(5))) <= 3


def test_a_failing_jobs_pod_matches_one_stage_and_says_why() -> None:
    stages = {
        each["metadata"]["name"]: each["spec"]
        for each in yaml.safe_load_all(stand_ins.configuration(3))
        if "spec" in each
    }
    by_name = re.compile(r"startswith\(\"f\"\)")
    wants = {
        name: each["operator"]
        for name, spec in stages.items()
        for each in spec["selector"]["matchExpressions"]
        if by_name.search(each["key"])
    }
    assert wants.pop("any-failed") == "In"
    assert set(wants.values()) == {"NotIn"}
    assert wants.keys() == {"training-ended", "validation-ended"}
    status = stages["any-failed"]["next"]["statusTemplate"]
    assert "phase: Failed" in status
    assert "exitCode: 2" in status
    told = TrainingResult.model_validate_json(stand_ins.failure())
    assert told.reason == TrainFailure.DATASET_INVALID


def test_a_failed_job_has_no_verdict_to_wait_for() -> None:
    steps = watcher.custom_steps({"status": {"phase": "Failed"}})
    assert steps == ["custom", "trained", "validated"]
    assert watcher.custom_steps({"status": {"reason": "Validating"}}) == ["custom", "trained"]


class Recorder:
    """The side of the client that deletions use."""

    def __init__(self, heard: Watcher) -> None:
        self.heard, self.deleted = heard, [""]

    async def delete(self, path: str) -> None:
        self.deleted.append(path)
        self.heard.stamps["j2"][POD] = 1.0


def test_a_job_is_deleted_once_its_pod_is_there() -> None:
    heard = Watcher(cast("Any", None), "team")
    heard.stamps["j1"][POD] = 0.5
    recorder = Recorder(heard)
    asyncio.run(mishaps.delete(cast("Any", recorder), heard, {"j2": "/two", "j1": "/one"}))
    assert recorder.deleted == ["", "/one", "/two"]
    assert heard.stamps["j1"]["deleted"] < heard.stamps["j2"]["deleted"]


def test_only_what_is_there_can_be_restarted() -> None:
    calls: list[str] = []
    behind = SimpleNamespace(stop=lambda: calls.append("stop"), lead=lambda: len(calls) + 0.5)
    plane = cast("Any", SimpleNamespace())
    assert mishaps.action("operator", plane, None) is None
    act = mishaps.action("operator", plane, cast("Any", behind))
    assert act is not None
    assert act() == 1.5
    assert mishaps.action("", plane, cast("Any", behind)) is None


def test_both_lives_of_a_restarted_process_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {1: 5.0, 2: 0.0, 3: 7.0}
    monkeypatch.setattr(costs, "cpu_seconds", clock.__getitem__)
    now = {"operator": 1, "etcd": 3}
    log = Path(__file__)
    meter = costs.Meter(lambda: now, log)
    meter.start()
    clock[1] = 6.0

    def again() -> float:
        now["operator"], clock[2] = 2, 0.25
        return 1.5

    assert meter.across(again) == 1.5
    clock[3] = 9.0
    assert meter.used() == {"operator": 1.25, "etcd": 2.0}


def test_a_process_that_ended_keeps_what_it_used(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {1: 5.0}

    def read(pid: int) -> float:
        if pid not in clock:
            raise FileNotFoundError(pid)
        return clock[pid]

    monkeypatch.setattr(costs, "cpu_seconds", read)
    now = {"operator": 1}
    meter = costs.Meter(lambda: now, Path(__file__))
    meter.start()
    clock[1] = 6.0
    assert meter.used() == {"operator": 1.0}
    del clock[1]

    def revive() -> list[str]:
        now["operator"], clock[2] = 2, 0.5
        return ["operator"]

    assert meter.across(revive) == ["operator"]
    assert meter.used() == {"operator": 1.5}


def test_what_ends_by_itself_is_started_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    operator = OperatorProcess.__new__(OperatorProcess)
    operator._command, operator._env, operator._profile = command[1:], dict(os.environ), None
    operator._log = tmp_path / "log"
    operator._child = operator._spawn()
    first = operator._child
    try:
        assert not operator.revive()
        first.kill()
        first.wait()
        assert operator.revive()
        assert operator.pid != first.pid
        assert not operator.revive()
    finally:
        operator.stop()


def test_an_operator_without_its_lease_is_not_back_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = OperatorProcess.__new__(OperatorProcess)
    operator._child, operator._log = None, tmp_path / "log"
    operator._log.touch()
    told = iter([0.0, 0.0, 1.0])
    monkeypatch.setattr(OperatorProcess, "start", lambda _: 0.0)
    monkeypatch.setattr(OperatorProcess, "_told", lambda *_: next(told))
    assert operator.lead() >= 2 * 0.02
    assert list(told) == []
    told = iter([0.0] * 9)
    monkeypatch.setattr(process, "READY_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="no Lease after"):
        operator.lead()


class Server:
    """An API server that goes away in the middle of a watch and has lost a pod when it is back."""

    def __init__(self, lists: list[list[dict[str, Any]]]) -> None:
        self.lists = lists

    async def get(self, _: str) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": "7"}, "items": self.lists.pop(0)}


def pod(name: str, phase: str) -> dict[str, Any]:
    labels = {naming.JOB_NAME_LABEL: name, naming.COMPONENT_LABEL: naming.TRAINING}
    return {"metadata": {"name": f"{name}-x", "labels": labels}, "status": {"phase": phase}}


def test_after_a_restart_of_the_api_server_a_list_tells_what_was_missed() -> None:
    server = Server([[pod("j1", "Running"), pod("j2", "Running")], [pod("j1", "Succeeded")]])
    heard = Watcher(cast("Any", server), "team")
    there: dict[str, str] = {}

    async def twice() -> None:
        await heard._look("/pods", watcher.pod_steps, there)
        heard.stamps["j2"]["deleted"] = 1.0
        assert await heard._look("/pods", watcher.pod_steps, there) == "7"

    asyncio.run(twice())
    assert set(heard.stamps["j1"]) == {POD, f"{POD} ended"}
    assert set(heard.stamps["j2"]) == {POD, "deleted", GONE}
    assert heard.count("trained") == 1, "a deleted job is past every step"


def test_a_round_with_mishaps_has_a_name_of_its_own() -> None:
    plain: dict[str, Any] = defaultdict(str, jobs=20, one_by_one=False)
    assert report.name_of(plain) == "20 at once"
    assert report.name_of(plain | {"load": "10 a second"}) == "20 at once, 10 a second"


async def test_jobs_are_made_before_the_clock_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The floor's were made within its time: a second for a thousand."""
    chosen = Load(deleted=0.5)
    coming = rounds.wave(SUBJECTS["floor"], "team", chosen.names(2), chosen)
    assert list(coming.leaving.values()) == [f"{coming.path}/j00001-train"]
    # From here on nobody makes any.
    monkeypatch.delattr(workload, "objects")
    created: list[str] = []
    all_there = asyncio.Event()

    class Client:
        async def create(self, path: str, manifest: dict[str, Any]) -> None:
            created.append(f"{path}/{manifest['metadata']['name']}")
            if len(created) == len(coming.objects):
                all_there.set()

    contest = cast("Contest", SimpleNamespace(client=Client()))
    seen = Watcher(contest.client, "team")
    rounds.befall(contest, Round(2), 0, seen, coming)
    async with asyncio.timeout(10):
        await all_there.wait()
    await seen.stop()
    assert created == [f"{coming.path}/j00000-train", f"{coming.path}/j00001-train"]
