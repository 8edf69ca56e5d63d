"""Any order of events, faults and crashes: what may never happen does not, and rest comes.

Two jobs of one namespace, sometimes with one folder between them; a cluster whose controllers act
when they please; an operator that hears late, is refused, loses answers, crashes after any call.
"""

import asyncio
import contextlib
import json
import os
from collections import Counter
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.unit.controller.objects import ended, job_body, running, waiting
from tests.unit.controller.simulated import Cluster, Operator, component
from tests.unit.controller.story import FINAL, VALID
from tests.unit.controller.world import Crash
from typing_extensions import override

from finetuning.api.v1alpha1 import FineTuningJobStatus
from finetuning.controller import naming, observed
from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import ApiError
from finetuning.controller.observed import Pod

STEPS_WANTED = int(os.environ.get("STATE_MACHINE_STEPS", "20000"))
STEPS_EACH = 50
NAMES = ("demo", "other")
SHARED = {"output": {"storage": {"claimName": "shared", "subPath": "run"}}}
RETAINED = {"output": {"storage": {"whenDeleted": "Retain"}}}
ROUNDS = 60
COUNTED: Counter[str] = Counter()
"""Of all runs: steps, looks, crashes and so on."""

FAULTS = ["crash", "lost answer", "refused", "conflict"]
TROUBLE: dict[str, tuple[str, dict[str, Any]]] = {
    "no node": ("Pending", {"conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"},
    ]}),
    "evicted": ("Failed", {"reason": "Evicted", "conditions": [
        {"type": "DisruptionTarget", "status": "True"},
    ]}),
}  # fmt: skip
STATES: dict[str, tuple[str, dict[str, Any]]] = {
    "no image": ("Pending", waiting("ImagePullBackOff", "no such tag")),
    "runs": ("Running", running()),
    "saved": ("Failed", ended(143, '{"kind":"training","result":"paused","step":4}')),
    "crashed": ("Failed", ended(1, "Segmentation fault")),
    "killed": ("Failed", ended(137, "", "OOMKilled")),
    "invalid": ("Failed", ended(2, "not even JSON \x00")),
}


class Jobs(RuleBasedStateMachine):
    """A namespace and its operator."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster()
        self.loop = asyncio.new_event_loop()
        self.operator = Operator(self.cluster, 1000.0)
        self.operator.keeper.ready = True
        self.ends: dict[str, str] = {}
        self.by_hand: Counter[tuple[str, str, str]] = Counter()
        self.shared = False
        COUNTED["runs"] += 1

    @override
    def check_invariants(self, *args: Any, **kwargs: Any) -> None:
        COUNTED["steps"] += 1
        super().check_invariants(*args, **kwargs)

    # What people do

    @initialize(shared=st.booleans(), fault=st.sampled_from(FAULTS), call=st.integers(0, 8))
    def begin(self, *, shared: bool, fault: str, call: int) -> None:
        self.shared = shared
        self.trouble_ahead(fault, call)
        self.create("demo", 0, None, waits=False, judged=True)

    @rule(
        name=st.sampled_from(NAMES),
        backoff=st.integers(0, 1),
        ttl=st.sampled_from([None, 0, 60]),
        waits=st.booleans(),
        judged=st.booleans(),
    )
    def create(
        self, name: str, backoff: int, ttl: int | None, *, waits: bool, judged: bool
    ) -> None:
        if self._custom(name) is not None:
            return
        spec: dict[str, Any] = {"backoffLimit": backoff, "validation": {"enabled": judged}}
        if waits:
            spec |= {"startDeadlineSeconds": 300, "activeDeadlineSeconds": 900, **RETAINED}
        if ttl is not None:
            spec["ttlSecondsAfterFinished"] = ttl
        body = job_body(name, **spec | (SHARED if self.shared else {}))
        del body["metadata"]["uid"]
        self.cluster.create("finetuningjobs", body)

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        if self._custom(name) is not None:
            self.cluster.delete("finetuningjobs", name)

    @rule(name=st.sampled_from(NAMES), spec=st.sampled_from(
        [{"suspend": True}, {"suspend": False}, {"suspend": False}, {"ttlSecondsAfterFinished": 5}]
    ))  # fmt: skip
    def change(self, name: str, spec: dict[str, Any]) -> None:
        if self._custom(name) is not None:
            self.cluster.patch(("finetuningjobs", "team", name), {"spec": spec})

    @rule(name=st.sampled_from(NAMES), wish=st.sampled_from(["a", "b"]))
    def judge_again(self, name: str, wish: str) -> None:
        if self._custom(name) is not None:
            patch = {"metadata": {"annotations": {naming.REVALIDATE_ANNOTATION: wish}}}
            self.cluster.patch(("finetuningjobs", "team", name), patch)

    @precondition(lambda self: self.cluster.of("jobs"))
    @rule(data=st.data())
    def delete_a_child(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self._names("jobs")), label="job")
        owner = observed.meta(self.cluster.get("jobs", name)).owner_uid
        self.by_hand["jobs", name, owner] += 1
        self.cluster.delete("jobs", name)

    # What the cluster does

    @rule()
    def time_passes_little(self) -> None:
        self._pass(3)

    @rule(seconds=st.sampled_from([15, 70, 400]))
    def time_passes(self, seconds: int) -> None:
        self._pass(seconds)

    @rule()
    def job_controller(self) -> None:
        for name in self._names("jobs"):
            self.cluster.sync_job(name)

    @rule()
    def garbage_collector(self) -> None:
        self.cluster.collect()

    @precondition(lambda self: self._live())
    @rule(data=st.data(), what=st.sampled_from([*TROUBLE, *STATES, "done", "done", "runs", "runs"]))
    def kubelet(self, data: st.DataObject, what: str) -> None:
        pod = data.draw(st.sampled_from(self._live()), label="pod")
        self._report(pod, what)

    @precondition(lambda self: self._live())
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        pod = data.draw(st.sampled_from(self._live()), label="pod")
        if not pod.meta.deleting:
            self.cluster.ask_to_end(pod.meta.name)

    # What the operator goes through

    @precondition(lambda self: self.cluster.untold)
    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        self.operator.hear(data.draw(st.sampled_from(sorted(self.cluster.untold))))

    @rule()
    def hear_all(self) -> None:
        self.operator.hear_all()

    @rule()
    def watch_anew(self) -> None:
        """An expired watch: what was deleted meanwhile is never told."""
        self.operator.watch()
        self.cluster.untold.clear()

    @rule(name=st.sampled_from(NAMES))
    def look(self, name: str) -> None:
        self._look(name)

    @rule(
        fault=st.sampled_from(FAULTS),
        call=st.integers(1, 4),
    )
    def trouble_ahead(self, fault: str, call: int) -> None:
        """One of the next calls goes wrong."""
        self.operator.faulty.fault, self.operator.faulty.at = fault, call

    @rule(name=st.sampled_from(NAMES))
    def all_goes_well_for_a_while(self, name: str) -> None:
        self._pass(3)
        self.job_controller()
        self.operator.hear_all()
        self._look(name)

    @rule(name=st.sampled_from(NAMES), what=st.sampled_from(["runs", "done", "done", "crashed"]))
    def a_pod_comes_and_goes(self, name: str, what: str) -> None:
        """The shortest way to where most can happen."""
        self.all_goes_well_for_a_while(name)
        for pod in self._live():
            if pod.meta.parent == name and not pod.meta.deleting:
                self._report(pod, what)
        self.job_controller()
        self.operator.hear_all()

    @rule()
    def restart(self) -> None:
        COUNTED["restarts"] += 1
        self._restart()

    # What may never happen

    @invariant()
    def one_writer(self) -> None:
        writers = Counter(
            pod.folder for pod in self._live() if pod.meta.component == naming.TRAINING
        )
        assert all(count == 1 for count in writers.values()), writers

    @invariant()
    def nothing_twice(self) -> None:
        made = Counter(each for each in self.cluster.made if each[0] == "jobs")
        # One that somebody deleted before it stood in the status may be made again.
        assert all(n <= 1 + self.by_hand[each] for each, n in made.items()), made
        open_ones = Counter(
            (job.meta.owner_uid, job.meta.component)
            for job in map(observed.batch_job, self.cluster.of("jobs"))
            if not job.finished and not job.suspend
        )
        assert all(count == 1 for count in open_ones.values()), open_ones

    @invariant()
    def no_verdict_before_the_training(self) -> None:
        for raw in self.cluster.of("finetuningjobs"):
            status = raw.get("status") or {}
            found = status.get("validation") or {}
            assert not found or status["phase"] == "Succeeded", status

    @invariant()
    def an_end_is_the_end(self) -> None:
        for raw in self.cluster.of("finetuningjobs"):
            uid, phase = raw["metadata"]["uid"], (raw.get("status") or {}).get("phase")
            before = self.ends.get(uid)
            assert before in {None, phase}, (before, raw["status"])
            if phase in {"Succeeded", "Failed"}:
                self.ends[uid] = phase

    @invariant()
    def the_status_is_one(self) -> None:
        for raw in self.cluster.of("finetuningjobs"):
            text = json.dumps(raw.get("status") or {}, allow_nan=False)
            FineTuningJobStatus.model_validate_json(text)

    @invariant()
    def nobodys_data_is_deleted(self) -> None:
        deleted = {plural for verb, plural, _ in self.cluster.writes if verb == "delete"}
        assert deleted <= {"servicemonitors"}

    @override
    def teardown(self) -> None:
        try:
            self._come_to_rest()
        finally:
            self.loop.close()

    def _come_to_rest(self) -> None:
        """No more trouble: every job gets where it can, and then nothing is written any more."""
        self.operator.faulty.at = 0
        for _ in range(ROUNDS):
            before = self._state()
            self.cluster.collect()
            for name in self._names("jobs"):
                self.cluster.sync_job(name)
            for pod in self._live():
                self._report(pod, "saved" if pod.meta.deleting else "done")
            self.operator.hear_all()
            for name in NAMES:
                self._look(name)
            self._pass(12)
            if self._state() == before:
                break
        else:
            raise AssertionError(f"no rest after {ROUNDS} rounds: {self.cluster.writes[-20:]}")
        for check in (self.one_writer, self.nothing_twice, self.an_end_is_the_end):
            check()
        for raw in self.cluster.of("finetuningjobs"):
            status = raw.get("status") or {}
            assert status.get("phase") in {"Succeeded", "Failed", "Paused"}, status
            COUNTED[f"{status['phase']} {status['reason']}"] += 1

    # Helpers

    def _state(self) -> dict[Any, str]:
        return {
            key: raw["metadata"]["resourceVersion"] for key, raw in self.cluster.objects.items()
        }

    def _custom(self, name: str) -> dict[str, Any] | None:
        return self.cluster.objects.get(("finetuningjobs", "team", name))

    def _names(self, plural: str) -> list[str]:
        return sorted(raw["metadata"]["name"] for raw in self.cluster.of(plural))

    def _live(self) -> list[Pod]:
        pods = [observed.pod(raw) for raw in self.cluster.of("pods")]
        return sorted((p for p in pods if not p.over), key=lambda pod: pod.meta.name)

    def _pass(self, seconds: float) -> None:
        self.cluster.now += timedelta(seconds=seconds)
        self.operator.time += seconds

    def _restart(self) -> None:
        self.operator = Operator(self.cluster, self.operator.time)
        self.operator.keeper.ready = True
        self.cluster.untold.clear()

    def _look(self, name: str) -> None:
        COUNTED["looks"] += 1
        before = self.operator.faulty.happened
        try:
            with contextlib.suppress(ApiError, RetryLaterError):
                self.loop.run_until_complete(self.operator.reconciler.reconcile(("team", name)))
        except Crash:
            COUNTED["crashes"] += 1
            self._restart()
        else:
            COUNTED["other faults"] += self.operator.faulty.happened - before

    def _report(self, pod: Pod, what: str) -> None:
        if what in TROUBLE:
            phase, status = TROUBLE[what]
        else:
            message = FINAL if pod.meta.component == naming.TRAINING else VALID
            phase, state = ("Succeeded", ended(0, message)) if what == "done" else STATES[what]
            status = {"containerStatuses": [{"name": component(pod), "state": state}]}
        self.cluster.report(pod.meta.name, phase, status)


@pytest.mark.long
@pytest.mark.fault(
    "20,000 steps in any order: events late, twice, lost; refusals, lost answers, crashes",
    "one writer, nothing twice, an end is the end, rest",
)
def test_no_order_of_events_does_harm(record_property: Any) -> None:
    COUNTED.clear()
    run_state_machine_as_test(
        Jobs,
        settings=settings(
            max_examples=STEPS_WANTED // 40 + 10,
            stateful_step_count=STEPS_EACH,
            database=None,
            report_multiple_bugs=False,
            # To shrink takes minutes; the steps as they were found tell enough.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    ways = ("steps", "looks", "crashes", "restarts", "other faults")
    counts = (f"{COUNTED[what]} {what}" for what in ways)
    record_property("happened", ", ".join(counts))
    assert COUNTED["steps"] >= STEPS_WANTED
