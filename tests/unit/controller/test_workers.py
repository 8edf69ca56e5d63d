"""Jobs of several pods: what is made for them, and what their pods together say."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.controller.objects import (
    SETTINGS,
    UID,
    batch_job,
    ended,
    job,
    pod,
    running,
    seen,
    trainer_says,
    waiting,
)
from tests.unit.controller.test_training_status import unscheduled
from tests.unit.controller.world import KEY, Process, World

from finetuning.api.v1alpha1 import Condition, Phase, Reason
from finetuning.artifacts.exits import TrainFailure
from finetuning.artifacts.models import RunState, TrainingResult
from finetuning.controller import desired, naming, observed, status
from finetuning.controller.desired import group
from finetuning.controller.desired.group import Group
from finetuning.controller.observed import Pod
from finetuning.controller.training_status import Seen, failure, standing, tries

TWO: dict[str, Any] = {"workers": 2}
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({}, Group(1, 1)),
        ({"resources": {"limits": {"amd.com/gpu": 4}}}, Group(1, 4)),
        ({"resources": {"requests": {"amd.com/gpu": 8}}, **TWO}, Group(2, 8)),
        ({"resources": {"limits": {"amd.com/cpx_nps4": "2"}}}, Group(1, 2)),
        ({"resources": {"limits": {"amd.com/gpu": 0}}}, Group(1, 1)),
        ({"resources": {"limits": {"cpu": 8, "rdma/hca": 4}}}, Group(1, 1)),
        ({"resources": {"limits": {"amd.com/gpu": 4}}, "processesPerWorker": 2}, Group(1, 2)),
        ({"processesPerWorker": 2, **TWO}, Group(2, 2)),
    ],
)
def test_each_gpu_gets_a_process_unless_the_spec_says_otherwise(
    spec: dict[str, Any], found: Group
) -> None:
    assert group.of(job(**spec), SETTINGS) == found


def test_one_process_runs_as_it_always_did() -> None:
    made = desired.build(job(), SETTINGS)
    pod_spec = made.training_job["spec"]["template"]["spec"]
    assert made.rendezvous is None
    assert pod_spec["containers"][0]["command"] == ["python3", "-m", "finetuning.base.app"]
    assert not {"subdomain", "affinity"} & set(pod_spec)
    assert "completions" not in made.training_job["spec"]


def test_names_of_the_longest_job_fit_into_dns_labels() -> None:
    longest = job().model_copy(deep=True)
    longest.metadata.name = "a" * 50
    longest.spec.workers = 64
    made = desired.build(longest, SETTINGS)
    assert made.rendezvous is not None
    pod_name = f"{made.training_job['metadata']['name']}-63"
    for name in (pod_name, made.rendezvous["metadata"]["name"]):
        assert len(name) <= 63


async def test_the_names_of_the_pods_are_there_before_the_pods(
    world: World, process: Process
) -> None:
    world.apply(workers=2)
    process.watch()
    await process.reconciler.reconcile(KEY)
    assert [each[1:] for each in world.writes][:3] == [
        ("persistentvolumeclaims", "demo-output"),
        ("services", "demo-workers"),
        ("jobs", "demo-train"),
    ]


def together(*pods: Pod) -> tuple[Pod, ...]:
    return observed.children(UID, [batch_job()], pods).training_pods


RUNS = pod(running(), name="demo-train-0-x", index=0, phase="Running")
NEXT = pod(running(), name="demo-train-1-x", index=1, phase="Running")
STARTS = pod(waiting("ContainerCreating"), name="demo-train-1-x", index=1)
LOST = TrainingResult(
    result=RunState.FAILED, reason=TrainFailure.WORKER_LOST, message="another process was lost"
).model_dump_json(by_alias=True)
KILLED = pod(ended(137, "Killed"), name="demo-train-1-x", index=1, phase="Failed")
MOURNS = pod(ended(1, LOST), name="demo-train-0-x", index=0, phase="Failed")


@pytest.mark.parametrize(
    ("pods", "phase", "reason", "words"),
    [
        ((NEXT, RUNS), Phase.RUNNING, Reason.TRAINING, "demo-train-0-x"),
        ((RUNS, STARTS), Phase.PENDING, Reason.CONTAINER_STARTING, "demo-train-1-x is starting"),
        (
            (RUNS, pod(name="b", index=1, conditions=unscheduled("0/3 nodes: no amd.com/gpu"))),
            Phase.PENDING,
            Reason.UNSCHEDULABLE,
            "no amd.com/gpu",
        ),
        ((RUNS, KILLED), Phase.PENDING, Reason.RESTARTING, "exit code 137"),
        ((MOURNS, KILLED), Phase.PENDING, Reason.RESTARTING, "exit code 137"),
        ((MOURNS, KILLED), Phase.PENDING, Reason.RESTARTING, "Pod demo-train-1-x ended"),
        (
            (RUNS, pod(ended(0), name="b", index=1, phase="Succeeded")),
            Phase.RUNNING,
            Reason.TRAINING,
            "Training in pod demo-train-0-x",
        ),
    ],
)
def test_a_group_is_as_far_as_the_last_of_its_pods(
    pods: tuple[Pod, ...], phase: Phase, reason: Reason, words: str
) -> None:
    found = standing(seen(*together(*pods), of=job(**TWO), training=batch_job()))
    assert (found.phase, found.reason) == (phase, reason)
    assert words in found.message


def test_a_group_begins_with_the_last_of_its_pods() -> None:
    """One that waits for its place holds all of them, and nothing is trained yet."""
    of = job({}, **TWO)
    waits = pod(name="b", index=1, conditions=unscheduled("0/3 nodes: no amd.com/gpu"))
    found = status.status_of(seen(*together(RUNS, waits), of=of, training=batch_job()), NOW)
    assert found.start_time is None
    late = pod(
        {"running": {"startedAt": "2026-01-01T10:09:00Z"}}, name="b", index=1, phase="Running"
    )
    found = status.status_of(seen(*together(RUNS, late), of=of, training=batch_job()), NOW)
    assert found.start_time == datetime(2026, 1, 1, 10, 9, tzinfo=UTC)


def test_a_replaced_pod_counts_no_more() -> None:
    fresh = pod(running(), name="demo-train-1-y", index=1, phase="Running")
    assert [each.meta.name for each in together(KILLED, RUNS, fresh)] == [
        "demo-train-0-x",
        "demo-train-1-y",
        "demo-train-1-x",
    ]


def over(failed_pods: int) -> Seen:
    training = batch_job(failed="BackoffLimitExceeded", failed_pods=failed_pods)
    return seen(*together(MOURNS, KILLED), of=job(backoffLimit=1, **TWO), training=training)


def test_a_failed_group_is_explained_by_the_pod_that_failed_by_itself() -> None:
    last = over(4)
    assert last.children.training is not None
    reason, words = failure(last.job, last.children.training, last.children.training_pods)
    assert reason is Reason.BACKOFF_LIMIT_EXCEEDED
    assert words == (
        "The trainer ended with exit code 137. Signal 9 ended it; the last line of its log: Killed."
        " Tried 2 times."
    )


def test_a_pod_that_lost_another_tells_more_than_the_one_whose_node_is_gone() -> None:
    gone = pod(
        name="demo-train-1-x",
        index=1,
        phase="Failed",
        conditions=[{"type": "DisruptionTarget", "status": "True"}],
    )
    training = batch_job(failed="BackoffLimitExceeded", failed_pods=1)
    found = seen(*together(MOURNS, gone), of=job(**TWO), training=training)
    _, words = failure(found.job, training, found.children.training_pods)
    assert "failed before the trainer started" not in words
    assert words.endswith(" Tried once.")


@pytest.mark.parametrize(("workers", "limit", "pods"), [(1, 3, 3), (2, 0, 1), (4, 1, 7)])
def test_the_others_of_a_lost_node_spend_no_try(workers: int, limit: int, pods: int) -> None:
    assert group.pods_to_lose(job(workers=workers, backoffLimit=limit)) == pods


@pytest.mark.parametrize(("failed_pods", "times"), [(0, 0), (1, 1), (2, 1), (3, 2)])
def test_a_group_that_is_lost_counts_once(failed_pods: int, times: int) -> None:
    assert tries(job(**TWO), batch_job(failed_pods=failed_pods)) == times


def test_progress_and_last_words_are_those_of_the_first_pod() -> None:
    pods = together(
        pod(ended(0), name="b", index=1, phase="Succeeded"),
        pod(ended(0, trainer_says(step=100)), name="a", index=0, phase="Succeeded"),
    )
    done = seen(*pods, of=job(**TWO), training=batch_job(complete=True))
    assert status.status_of(done, status.now()).current_step == 100


def shared(modes: tuple[str, ...] | None = None, **spec: Any) -> Condition | None:
    new = status.status_of(seen(of=job(**spec), claim_modes=modes), status.now())
    return next((each for each in new.conditions if each.type == "OutputShared"), None)


def storage(**fields: str) -> dict[str, Any]:
    return {"output": {"storage": fields}, **TWO}


@pytest.mark.parametrize(
    ("modes", "spec", "answer", "words"),
    [
        (None, TWO, "True", "demo-output is ReadWriteMany: the pods may run on different nodes."),
        (None, storage(accessMode="ReadWriteOnce"), "False", "all are kept on one node"),
        (None, storage(claimName="mine"), "Unknown", "Claim mine was not found"),
        (("ReadWriteOnce",), storage(claimName="mine"), "False", "set spec.output.storage.access"),
        (("ReadWriteOnce", "ReadWriteMany"), storage(claimName="mine"), "True", "Claim mine is"),
        (
            ("ReadWriteOnce",),
            storage(claimName="mine", accessMode="ReadWriteOnce"),
            "False",
            "of the 2 pods, all are kept on one node",
        ),
    ],
)
def test_who_can_mount_the_output_is_said_before_the_pods_start(
    modes: tuple[str, ...] | None, spec: dict[str, Any], answer: str, words: str
) -> None:
    found = shared(modes, **spec)
    assert found is not None
    assert found.status == answer
    assert words in found.message


def test_nothing_is_said_of_a_single_pod() -> None:
    assert shared() is None


GONE = "FailedCreate: Error creating: pods is forbidden: exceeded quota: gpus"
DONE = pod(ended(0), name="demo-train-1-x", index=1, phase="Succeeded")
NOWHERE = pod(name="demo-train-0-x", index=0, conditions=unscheduled("0/3 nodes: no amd.com/gpu"))


@pytest.mark.parametrize(
    ("pods", "hint", "phase", "reason"),
    [
        ((RUNS,), "", Phase.PENDING, Reason.JOB_CREATED),
        ((RUNS,), GONE, Phase.PENDING, Reason.PODS_FORBIDDEN),
        ((RUNS, KILLED), GONE, Phase.PENDING, Reason.PODS_FORBIDDEN),
        ((RUNS, KILLED), "", Phase.PENDING, Reason.RESTARTING),
        ((NOWHERE,), "", Phase.PENDING, Reason.UNSCHEDULABLE),
        ((RUNS, DONE), "", Phase.RUNNING, Reason.TRAINING),
    ],
)
def test_a_group_waits_for_a_pod_that_does_not_come(
    pods: tuple[Pod, ...], hint: str, phase: Phase, reason: Reason
) -> None:
    found = standing(seen(*together(*pods), of=job(**TWO), training=batch_job(), hint=hint))
    assert (found.phase, found.reason) == (phase, reason)


async def test_a_claim_of_the_users_is_looked_at_once(world: World, process: Process) -> None:
    claim = {"metadata": {"name": "mine", "namespace": "team"}}
    world.create("persistentvolumeclaims", {**claim, "spec": {"accessModes": ["ReadWriteOnce"]}})
    world.apply(**storage(claimName="mine"))
    await process.settle()
    world.start(naming.TRAINING)
    await process.settle()
    assert world.reads.count(("get", "persistentvolumeclaims")) == 1
    (found,) = (c for c in world.status["conditions"] if c["type"] == "OutputShared")
    assert found["reason"] == "OneNodeOnly"
