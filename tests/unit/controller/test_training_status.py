"""Each reason of the closed list, from the states that API server, scheduler and kubelet report."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.controller.objects import (
    ENDED,
    batch_job,
    ended,
    job,
    pod,
    running,
    seen,
    trainer_says,
    waiting,
)

from finetuning.api.v1alpha1 import Phase, Reason
from finetuning.controller.training_status import Problem, Seen, standing

QUOTA = "FailedCreate: exceeded quota: gpus"
CRASH = ended(128, "exec format error", "StartError")


def unscheduled(message: str) -> list[dict[str, str]]:
    return [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    ]


def failed(code: int, message: str = "", reason: str = "", *, of: str) -> Seen:
    found = pod(ended(code, message, reason), phase="Failed")
    return seen(found, training=batch_job(failed=of, message="the Job's words", failed_pods=4))


PENDING = [
    ("nothing was created yet", seen(), Reason.ACCEPTED, "being created"),
    (
        "a child of an earlier job is in the way",
        seen(problem=Problem(Reason.PREVIOUS_RUN_TERMINATING, "still being deleted")),
        Reason.PREVIOUS_RUN_TERMINATING,
        "still being deleted",
    ),
    ("no pod yet", seen(training=batch_job()), Reason.JOB_CREATED, "Waiting for"),
    (
        "a quota forbids pods",
        seen(training=batch_job(), hint=QUOTA),
        Reason.PODS_FORBIDDEN,
        QUOTA,
    ),
    (
        "no node has a GPU left",
        seen(
            pod(conditions=unscheduled("0/3 nodes are available: 3 Insufficient amd.com/gpu.")),
            training=batch_job(),
        ),
        Reason.UNSCHEDULABLE,
        "Insufficient amd.com/gpu",
    ),
    (
        "the image of the sidecar cannot be pulled",
        seen(
            pod(waiting("PodInitializing"), sidecar=waiting("ImagePullBackOff", "no such tag")),
            training=batch_job(),
        ),
        Reason.IMAGE_PULL_FAILED,
        "Container metrics: ImagePullBackOff: no such tag",
    ),
    (
        "the image of the trainer cannot be pulled",
        seen(pod(waiting("ErrImagePull", "denied")), training=batch_job()),
        Reason.IMAGE_PULL_FAILED,
        "Container finetuning: ErrImagePull: denied",
    ),
    (
        "a secret is missing",
        seen(
            pod(waiting("CreateContainerConfigError", 'secret "hub" not found')),
            training=batch_job(),
        ),
        Reason.CONTAINER_CONFIG_ERROR,
        'secret "hub" not found',
    ),
    (
        "a ConfigMap is missing",
        seen(
            pod(waiting("ContainerCreating")),
            training=batch_job(),
            hint='FailedMount: configmap "rows" not found',
        ),
        Reason.CONTAINER_CONFIG_ERROR,
        'configmap "rows" not found',
    ),
    *(
        (
            f"its image: {word}",
            seen(pod(waiting(word, "so it is")), training=batch_job()),
            Reason.IMAGE_PULL_FAILED,
            f"Container finetuning: {word}: so it is",
        )
        for word in ("ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed")
    ),
    (
        "kubelet has a word that nobody here knows",
        seen(pod(waiting("PreStartHookError", "no such device")), training=batch_job()),
        Reason.CONTAINER_CONFIG_ERROR,
        "Container finetuning: PreStartHookError: no such device",
    ),
    *(
        (
            f"the sidecar cannot be run, and {when}",
            seen(pod(waiting("PodInitializing"), sidecar=state, last=CRASH), training=batch_job()),
            Reason.CONTAINER_CONFIG_ERROR,
            "Container metrics: CrashLoopBackOff: StartError: exec format error",
        )
        for when, state in (
            ("waits to be tried again", waiting("CrashLoopBackOff", "back-off 40s restarting")),
            ("has just ended", CRASH),
        )
    ),
    (
        "the sidecar ended with its pod before anything began",
        seen(pod(waiting("PodInitializing"), sidecar=CRASH, deletes=ENDED), training=batch_job()),
        Reason.CONTAINER_STARTING,
        "is starting",
    ),
    (
        "containers are created",
        seen(pod(waiting("ContainerCreating")), training=batch_job()),
        Reason.CONTAINER_STARTING,
        "is starting",
    ),
    (
        "a crash will be tried again",
        seen(pod(ended(1, "boom")), training=batch_job(failed=None)),
        Reason.RESTARTING,
        "exit code 1. boom",
    ),
    (
        "a quota forbids the pod after one that crashed",
        seen(pod(ended(1, "boom"), phase="Failed"), training=batch_job(failed_pods=1), hint=QUOTA),
        Reason.PODS_FORBIDDEN,
        QUOTA,
    ),
    (
        "a pod was evicted",
        seen(
            pod(phase="Failed", reason="Evicted", message="The node was low on memory"),
            training=batch_job(),
        ),
        Reason.RESTARTING,
        "Evicted: The node was low on memory",
    ),
    (
        "the pause is over, and the Job's controller has not noticed",
        seen(pod(ended(143)), training=batch_job(condition="Suspended")),
        Reason.JOB_CREATED,
        "Waiting for the training pod",
    ),
    (
        "the pause is over, and its pod still closes",
        seen(pod(ended(143)), training=batch_job(startTime=ENDED)),
        Reason.JOB_CREATED,
        "Waiting for the training pod",
    ),
    (
        "a pod that began after the pause crashed",
        seen(pod(ended(1, "boom"), created=ENDED), training=batch_job(startTime=ENDED)),
        Reason.RESTARTING,
        "exit code 1. boom",
    ),
]


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [pytest.param(*rest, id=name) for name, *rest in PENDING],
)
def test_what_stands_in_the_way_is_said(found: Seen, reason: Reason, words: str) -> None:
    stand = standing(found)
    assert (stand.phase, stand.reason) == (Phase.PENDING, reason)
    assert words in stand.message


FAILED = [
    (
        "out of memory",
        failed(137, reason="OOMKilled", of="BackoffLimitExceeded"),
        Reason.OOM_KILLED,
        "Raise spec.resources.limits.memory",
    ),
    (
        "the deadline passed",
        seen(
            training=batch_job(failed="DeadlineExceeded"),
            of=job(activeDeadlineSeconds=60),
        ),
        Reason.DEADLINE_EXCEEDED,
        "activeDeadlineSeconds (60 s)",
    ),
    (
        "a deadline that a policy set",
        seen(training=replace(batch_job(failed="DeadlineExceeded"), deadline=90)),
        Reason.DEADLINE_EXCEEDED,
        "activeDeadlineSeconds of Job demo-train (90 s), which somebody else has set",
    ),
    (
        "the last try crashed without words",
        failed(139, of="BackoffLimitExceeded"),
        Reason.BACKOFF_LIMIT_EXCEEDED,
        "exit code 139. It left no message. Tried 4 times.",
    ),
    (
        "the last try was killed, and what it wrote last was no reason",
        failed(137, "3,740 of 9,964 tokens are trained (38%).", of="BackoffLimitExceeded"),
        Reason.BACKOFF_LIMIT_EXCEEDED,
        "exit code 137. Signal 9 ended it; the last line of its log: 3,740 of 9,964 tokens",
    ),
    (
        "the last try crashed with a traceback",
        failed(1, "Traceback\nRuntimeError: HIP error", of="BackoffLimitExceeded"),
        Reason.BACKOFF_LIMIT_EXCEEDED,
        "RuntimeError: HIP error",
    ),
    (
        "bad arguments",
        failed(2, "usage: app\nerror: no such flag", of="PodFailurePolicy"),
        Reason.CONFIG_INVALID,
        "error: no such flag",
    ),
    (
        "the Job failed and its pod is gone",
        seen(training=batch_job(failed="BackoffLimitExceeded", message="Job has reached")),
        Reason.BACKOFF_LIMIT_EXCEEDED,
        "Job has reached",
    ),
    (
        "a name is taken",
        seen(problem=Problem(Reason.NAME_CONFLICT, "not ours", final=True)),
        Reason.NAME_CONFLICT,
        "not ours",
    ),
    (
        "the API server refused the Job",
        seen(problem=Problem(Reason.INVALID_SPEC, "no such resource", final=True)),
        Reason.INVALID_SPEC,
        "no such resource",
    ),
    (
        "somebody deleted the Job",
        seen(problem=Problem(Reason.JOB_DELETED, "was deleted", final=True)),
        Reason.JOB_DELETED,
        "was deleted",
    ),
]
OWN_WORDS = [
    Reason.DATASET_INVALID,
    Reason.MODEL_UNAVAILABLE,
    Reason.CONFIG_INVALID,
    Reason.LOSS_DIVERGED,
    Reason.STORAGE_FULL,
    Reason.OUT_OF_MEMORY,
]


@pytest.mark.fault(
    "Trainer out of memory, wrong configuration, crash, signal, no last words",
    "each has its reason and what was said last",
)
@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [pytest.param(*rest, id=name) for name, *rest in FAILED],
)
def test_a_failure_has_a_reason_and_the_last_words(found: Seen, reason: Reason, words: str) -> None:
    stand = standing(found)
    assert (stand.phase, stand.reason) == (Phase.FAILED, reason)
    assert words in stand.message


@pytest.mark.parametrize("reason", OWN_WORDS)
def test_the_trainer_names_its_own_reason(reason: Reason) -> None:
    said = trainer_says(result="failed", reason=reason.value, message="line 17 is broken")
    stand = standing(failed(2, said, of="PodFailurePolicy"))
    assert (stand.phase, stand.reason, stand.message) == (Phase.FAILED, reason, "line 17 is broken")


def test_a_reason_that_is_not_on_the_list_is_not_believed() -> None:
    said = trainer_says(result="failed", reason="CrazyReason", message="hm")
    stand = standing(failed(1, said, of="PodFailurePolicy"))
    assert (stand.reason, stand.message) == (Reason.TRAINING_FAILED, "hm")


def test_a_secret_in_a_traceback_stays_out_of_the_message() -> None:
    stand = standing(failed(1, "OSError: hf_abcdefghijkl refused", of="BackoffLimitExceeded"))
    assert "hf_abc" not in stand.message


def test_a_running_trainer_is_a_running_job() -> None:
    found = pod(running(), phase="Running", podIP="10.0.0.9")
    stand = standing(seen(found, training=batch_job()))
    assert (stand.phase, stand.reason) == (Phase.RUNNING, Reason.TRAINING)


def test_a_trainer_that_is_done_runs_until_its_sidecar_has_gone() -> None:
    found = pod(ended(0, trainer_says()), sidecar=running(), phase="Running")
    stand = standing(seen(found, training=batch_job()))
    assert (stand.phase, stand.reason) == (Phase.RUNNING, Reason.TRAINING)


CRASHED: dict[str, Any] = {}
DISRUPTED = {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}


@pytest.mark.parametrize(
    ("code", "earlier", "phase"),
    [
        (1, CRASHED, Phase.RUNNING),
        (1, DISRUPTED, Phase.PENDING),
        (143, CRASHED, Phase.PENDING),
    ],
)
def test_a_pod_that_is_over_costs_a_try_before_the_job_has_counted_it(
    code: int, earlier: dict[str, Any], phase: Phase
) -> None:
    """Of two tries; what the Job's own policy ignores costs none."""
    pods = [
        pod(ended(1), phase="Failed", name="second", created=ENDED),
        pod(ended(code), phase="Failed", name="first", **earlier),
    ]
    stand = standing(seen(*pods, training=batch_job(failed_pods=0), of=job(backoffLimit=1)))
    assert stand.phase is phase


@pytest.mark.fault("Exit code 2 (configuration)", "failed at once, no try more")
def test_a_wrong_configuration_is_not_announced_as_a_restart() -> None:
    found = pod(ended(2, "no such file"), phase="Failed")
    assert standing(seen(found, training=batch_job())).phase is Phase.RUNNING


@pytest.mark.parametrize(
    ("failed_pods", "over", "phase"),
    [
        (0, False, Phase.PENDING),
        (0, True, Phase.PENDING),
        (1, True, Phase.PENDING),
        (1, False, Phase.RUNNING),
        (2, True, Phase.RUNNING),
    ],
)
def test_the_last_crash_is_not_announced_as_a_restart(
    failed_pods: int, phase: Phase, *, over: bool
) -> None:
    found = pod(ended(1, "boom"), phase="Failed" if over else "Running")
    training = batch_job(failed_pods=failed_pods)
    assert standing(seen(found, training=training, of=job(backoffLimit=1))).phase is phase


def test_a_trainer_that_a_failing_job_stops_is_not_announced_as_a_restart() -> None:
    found = pod(ended(143, trainer_says(result="paused")), phase="Failed")
    training = batch_job(condition="FailureTarget")
    assert standing(seen(found, training=training)).phase is Phase.RUNNING


def test_success_is_what_the_job_controller_says_it_is() -> None:
    found = pod(ended(0, trainer_says()), phase="Succeeded")
    stand = standing(seen(found, training=batch_job(complete=True)))
    assert (stand.phase, stand.reason) == (Phase.SUCCEEDED, Reason.TRAINING_SUCCEEDED)


def test_a_suspended_job_runs_while_the_trainer_saves_and_is_paused_then() -> None:
    suspended = job(suspend=True)
    saving = seen(pod(running(), phase="Running"), training=batch_job(suspend=True), of=suspended)
    assert (standing(saving).phase, standing(saving).reason) == (Phase.RUNNING, Reason.SUSPENDED)
    saved = seen(training=batch_job(suspend=True), of=suspended)
    assert standing(saved).phase is Phase.PAUSED


def test_a_job_that_is_suspended_from_the_start_is_paused_at_once() -> None:
    found = standing(seen(of=job(suspend=True)))
    assert (found.phase, found.message) == (Phase.PAUSED, "Set spec.suspend to false to begin.")
    saved = job({"startTime": "2026-01-01T00:00:00Z"}, suspend=True)
    assert standing(seen(of=saved)).message.endswith("to continue from the newest checkpoint.")


def test_a_job_that_ended_while_it_was_being_suspended_has_ended() -> None:
    found = seen(training=batch_job(complete=True, suspend=True), of=job(suspend=True))
    assert standing(found).phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (ended(0), "Training is done"),
        (ended(1, "boom"), "is being replaced"),
        (ended(2, "no rows"), "the Job is closing"),
    ],
)
def test_a_container_that_a_webhook_put_into_a_pod_is_named_where_it_keeps_it_open(
    state: dict[str, Any], says: str
) -> None:
    def told(proxy: dict[str, Any]) -> str:
        trainer = {"name": "finetuning", "state": state}
        statuses = [trainer, {"name": "istio-proxy", "state": proxy}]
        found = pod(phase="Running", containerStatuses=statuses)
        return standing(seen(found, training=batch_job())).message

    assert says in told(running())
    for proxy in (running(), waiting("ErrImagePull")):
        assert "before istio-proxy ends" in told(proxy)
    assert "istio" not in told(ended(0))


@pytest.mark.parametrize("over", [False, True])
def test_who_failed_beside_a_trainer_that_did_not_is_named(*, over: bool) -> None:
    trainer = {"name": "finetuning", "state": ended(0, trainer_says())}
    proxy = {"name": "istio-proxy", "state": ended(255)}
    found = pod(phase="Failed", containerStatuses=[trainer, proxy])
    training = batch_job(failed="BackoffLimitExceeded" if over else None, failed_pods=4 * over)
    told = standing(seen(found, training=training)).message
    assert "The trainer ended well, and container istio-proxy with exit code 255" in told
