"""Where the training is: ordered rules over what is seen; the first that matches counts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from finetuning.api.v1alpha1 import FineTuningJob, FineTuningJobStatus, Phase, Reason, Usage
from finetuning.artifacts.exits import ExitCode, TrainFailure
from finetuning.artifacts.models import TrainingState
from finetuning.artifacts.plain import plain
from finetuning.controller import last_words, naming, observed, remedies
from finetuning.controller.desired import group
from finetuning.controller.observed import BatchJob, Children, Container, Pod

_UNDER_WAY = {"", "ContainerCreating", "PodInitializing"}
"""For which a container waits that nothing stands against, in kubelet's words."""
_CRASHES = "CrashLoopBackOff"
_OUT_OF_MEMORY = "OOMKilled"
_BY_A_SIGNAL = 128
"""Exit codes above it are 128 and the number of a signal."""

NODE_SILENT = timedelta(seconds=60)
"""Beyond the time that a Pod has to end; a node that lives tells of the end within seconds."""


@dataclass(frozen=True)
class Problem:
    """Why a child could not be written; final when no later look can change it."""

    reason: Reason
    message: str
    final: bool = False


@dataclass(frozen=True)
class Nodes:
    """What the operator was told of the GPUs of its nodes."""

    gpu_model: str
    """Such as MI300X; empty when nobody said."""
    gpu_resource: str


@dataclass(frozen=True)
class Seen:
    """Everything that the status is computed from, besides the clock."""

    job: FineTuningJob
    children: Children
    live: TrainingState | None = None
    problem: Problem | None = None
    validation_problem: Problem | None = None
    publish_problem: Problem | None = None
    served: Problem | None = None
    """What came of creating what serves the model; None when nobody tried now."""
    monitoring: Problem | None = None
    nodes: Nodes | None = None
    """None where no cluster's GPU is asked for."""
    claim_modes: tuple[str, ...] | None = None
    """How the user's claim for the output may be mounted; None while nobody looked."""
    used: Usage | None = None
    """Counted up to now; None where nobody counts."""
    hint: str = ""
    """What an event said about a Pod that does not come or does not start."""
    now: datetime | None = None
    """By the API server's clock; None where no node can be lost."""


@dataclass(frozen=True)
class Standing:
    """What the rules decide."""

    phase: Phase
    reason: Reason
    message: str


Rule = Callable[[Seen], Standing | None]


_TRAINED = {Reason.VALIDATING, Reason.VALIDATION_FAILED, Reason.VALIDATOR_ERROR}


def is_trained(status: FineTuningJobStatus) -> bool:
    """The model is there, whatever its verdict makes of the phase."""
    return status.phase is Phase.SUCCEEDED or status.reason in _TRAINED


def is_over(status: FineTuningJobStatus) -> bool:
    """The training has ended and will not begin again."""
    return status.phase is Phase.FAILED or is_trained(status)


def standing(seen: Seen) -> Standing:
    """The last rule always matches."""
    return next(found for rule in RULES if (found := rule(seen)) is not None)


def _final_problem(seen: Seen) -> Standing | None:
    if seen.problem is None or not seen.problem.final:
        return None
    return Standing(Phase.FAILED, seen.problem.reason, seen.problem.message)


def _succeeded(seen: Seen) -> Standing | None:
    training = seen.children.training
    if training is None or training.complete is None:
        return None
    return Standing(Phase.SUCCEEDED, Reason.TRAINING_SUCCEEDED, "The model is trained.")


def _failed(seen: Seen) -> Standing | None:
    training = seen.children.training
    if training is None or training.failed is None:
        return None
    reason, message = failure(seen.job, training, seen.children.training_pods)
    return Standing(Phase.FAILED, reason, message)


def _node_lost(seen: Seen) -> Standing | None:
    """Nobody can say whether its Pod still writes, so no other one is started."""
    pod = lost(seen.children.training_pods, seen.now)
    if pod is None:
        return None
    return Standing(Phase.PENDING, Reason.NODE_LOST, of_a_lost_node(pod))


def lost(pods: Iterable[Pod], now: datetime | None) -> Pod | None:
    """The first whose end is overdue, by the API server's clock."""
    return next((pod for pod in pods if _is_lost(pod, now)), None)


def of_a_lost_node(pod: Pod) -> str:
    """What keeps others from being started, and the commands that end that."""
    name, namespace = pod.meta.name, pod.meta.namespace
    message = (
        f"Node {pod.node} does not confirm that pod {name} has ended, and it may still write to "
        "the volume: no other pod is started before that. When the node is off for good: kubectl "
        f"delete node {pod.node}. When only the pod is known to be gone: kubectl --namespace "
        f"{namespace} delete pod {name} --force --grace-period=0"
    )
    return plain(message, 1024)


def _is_lost(pod: Pod, now: datetime | None) -> bool:
    ends = pod.meta.deletes_at
    return ends is not None and now is not None and not pod.over and now - ends > NODE_SILENT


_NOT_OURS_TO_PAUSE = (
    "Kueue has taken its Job, and would start again what spec.suspend stops: set spec.suspend back "
    "to false, and spec.active to false in its Workload (kubectl get workloads)."
)


def _suspended(seen: Seen) -> Standing | None:
    if not seen.job.spec.suspend:
        return None
    runs = any(trainer_runs(pod) for pod in seen.children.training_pods)
    training = seen.children.training
    if training is not None and training.queued:
        return Standing(Phase.RUNNING if runs else Phase.PENDING, Reason.QUEUED, _NOT_OURS_TO_PAUSE)
    if runs and seen.problem is not None:
        return Standing(Phase.RUNNING, seen.problem.reason, seen.problem.message)
    if runs:
        message = "Saving a checkpoint before the pause."
        return Standing(Phase.RUNNING, Reason.SUSPENDED, message)
    began = seen.job.status.start_time is not None
    goes_on = "continue from the newest checkpoint" if began else "begin"
    return Standing(Phase.PAUSED, Reason.SUSPENDED, f"Set spec.suspend to false to {goes_on}.")


_WAITS_IN = "Waiting for Kueue to admit it to LocalQueue {}."
_WAITS_OUTSIDE = (
    "Waiting for Kueue, which takes Jobs without a queue as well here: create the job again with "
    "spec.queueName."
)


def _queued(seen: Seen) -> Standing | None:
    """Suspended by Kueue: before its turn, or to give its place to others."""
    training = seen.children.training
    if training is None or not (training.queued and training.suspend):
        return None
    if any(trainer_runs(pod) for pod in seen.children.training_pods):
        message = f"Kueue takes the place back; saving a checkpoint first. {seen.hint}"
        return Standing(Phase.RUNNING, Reason.QUEUED, message.strip())
    message = _WAITS_IN.format(training.queue) if training.queue else _WAITS_OUTSIDE
    if seen.job.status.start_time is not None:
        message += " It continues from its newest checkpoint."
    return Standing(Phase.PENDING, Reason.QUEUED, f"{message} {seen.hint}".strip())


def _not_created(seen: Seen) -> Standing | None:
    if seen.problem is not None:
        return Standing(Phase.PENDING, seen.problem.reason, seen.problem.message)
    if seen.children.training is None:
        return Standing(Phase.PENDING, Reason.ACCEPTED, "The training Job is being created.")
    return None


_WAITING = Standing(Phase.PENDING, Reason.JOB_CREATED, "Waiting for the training pod.")


def _no_pod(seen: Seen) -> Standing | None:
    """Of a group each has to come: those that run wait for it."""
    pods = seen.children.training_pods
    if len({pod.index for pod in pods}) >= seen.job.spec.workers:
        return None
    if seen.hint:
        return _forbidden(seen)
    return None if pods and not trainer_runs(pods[0]) else _WAITING


def _forbidden(seen: Seen) -> Standing:
    message = plain(remedies.named(seen.job, seen.hint), 1024)
    return Standing(Phase.PENDING, Reason.PODS_FORBIDDEN, message)


def _training(seen: Seen) -> Standing | None:
    pod = seen.children.training_pods[0]
    if trainer_runs(pod):
        return Standing(Phase.RUNNING, Reason.TRAINING, f"Training in pod {pod.meta.name}.")
    trainer = pod.container(naming.TRAINING_CONTAINER)
    if trainer is not None and trainer.exit_code == 0 and pod.phase != "Failed":
        message = f"Training is done; pod {pod.meta.name} is closing.{_held(pod)}"
        return Standing(Phase.RUNNING, Reason.TRAINING, message)
    return None


def _restarting(seen: Seen) -> Standing | None:
    pod = seen.children.training_pods[0]
    trainer = pod.container(naming.TRAINING_CONTAINER)
    if not pod.over and (trainer is None or trainer.exit_code is None):
        return None
    if seen.hint and observed.lacks_a_pod(seen.children.training_pods, seen.job.spec.workers):
        # That of the Job, which has tried to make the next one.
        return _forbidden(seen)
    if _was_paused(seen.children.training, pod):
        return _WAITING
    if _is_last_try(seen, pod):
        message = f"Pod {pod.meta.name} ended; the Job is closing.{_held(pod)}"
        return Standing(Phase.RUNNING, Reason.TRAINING, message)
    telling = _most_telling(seen.children.training_pods)
    _, why = pod_failure(seen.job, telling)
    message = f"Pod {telling.meta.name} ended and is being replaced.{_held(telling)} {why}"
    return Standing(Phase.PENDING, Reason.RESTARTING, plain(message, 1024))


def _held(pod: Pod) -> str:
    return f" {held_open(pod)}" if pod.held_open_by else ""


def held_open(pod: Pod) -> str:
    """A Pod is over when all of its containers are, also those that somebody else put into it."""
    names = ", ".join(pod.held_open_by)
    return (
        f"Pod {pod.meta.name} is not over before {names} ends, which a webhook put into it: keep "
        "that out of this namespace, or have it made a native sidecar."
    )


def _was_paused(training: BatchJob | None, pod: Pod) -> bool:
    """The Pod ended for a pause that is over: its successor is no restart."""
    if training is None or training.suspended is not None:
        return True
    began, created = training.started, pod.meta.created
    return began is not None and created is not None and created < began


def _is_last_try(seen: Seen, pod: Pod) -> bool:
    """No other Pod will come: the Job says so itself a moment later."""
    training, trainer = seen.children.training, pod.container(naming.TRAINING_CONTAINER)
    if training is None or training.failing is not None:
        return True
    # A Pod is counted some time after it is over, not when its trainer has ended.
    counted = training.failed_pods + (0 if pod.over else 1)
    failures = max(counted, sum(map(_costs_a_try, seen.children.training_pods)))
    invalid = trainer is not None and trainer.exit_code == ExitCode.INVALID
    return invalid or failures > group.pods_to_lose(seen.job)


def _costs_a_try(pod: Pod) -> bool:
    """By the Job's podFailurePolicy, whose first matching rule counts."""
    trainer = pod.container(naming.TRAINING_CONTAINER)
    saved = trainer is not None and trainer.exit_code == ExitCode.INTERRUPTED
    return _ended_badly(pod) and not saved and not pod.disrupted


def _stuck(seen: Seen) -> Standing | None:
    found = trouble(seen.children.training_pods[0], seen.hint)
    if found is None:
        return None
    reason, words = found
    return Standing(Phase.PENDING, reason, plain(remedies.named(seen.job, words), 1024))


def _starting(seen: Seen) -> Standing | None:
    pod = seen.children.training_pods[0]
    return Standing(Phase.PENDING, Reason.CONTAINER_STARTING, f"Pod {pod.meta.name} is starting.")


RULES: tuple[Rule, ...] = (
    _final_problem,
    _succeeded,
    _failed,
    _node_lost,
    _suspended,
    _not_created,
    _queued,
    # From here on there is a training Job that is neither over nor suspended,
    _no_pod,
    # and from here on a Pod of it.
    _training,
    _restarting,
    _stuck,
    _starting,
)


def trainer_runs(pod: Pod) -> bool:
    trainer = pod.container(naming.TRAINING_CONTAINER)
    return not pod.over and trainer is not None and trainer.running_since is not None


def trouble(pod: Pod, hint: str) -> tuple[Reason, str] | None:
    """Why a Pod that exists does not start, in the words of scheduler and kubelet."""
    if pod.unscheduled is not None:
        return Reason.UNSCHEDULABLE, plain(pod.unscheduled.message, 1024)
    for each in pod.containers:
        why, words = _waits_for(each, pod)
        if why not in _UNDER_WAY:
            image = why in remedies.IMAGE_TROUBLE
            reason = Reason.IMAGE_PULL_FAILED if image else Reason.CONTAINER_CONFIG_ERROR
            return reason, plain(f"Container {each.name}: {why}: {words}", 1024)
    if hint:
        return Reason.CONTAINER_CONFIG_ERROR, hint
    return None


def _waits_for(container: Container, pod: Pod) -> tuple[str, str]:
    """Kubelet's word for it, and the same at length: of one that crashes, what it ended with.

    Its sidecar that has ended is started again, and the trainer is not before it runs.
    """
    ended = container.exit_code and container.name == naming.SIDECAR_CONTAINER
    if container.waiting == _CRASHES or (ended and not pod.meta.deleting):
        told = ": ".join(filter(None, (container.exit_reason, container.exit_message)))
        return _CRASHES, told or container.waiting_message
    return container.waiting or "", container.waiting_message


def failure(job: FineTuningJob, training: BatchJob, pods: tuple[Pod, ...]) -> tuple[Reason, str]:
    """Why the Job failed: what its last Pod says, where that is more than that it failed."""
    mark = training.failed
    assert mark is not None, "only asked of a failed Job"  # noqa: S101 - for the type checker
    if mark.reason == "DeadlineExceeded":
        return Reason.DEADLINE_EXCEEDED, _of_a_deadline(job, training)
    reason, words = Reason.TRAINING_FAILED, mark.message
    if any(map(_ended_badly, pods)):
        reason, words = pod_failure(job, _most_telling(pods))
    if mark.reason == "BackoffLimitExceeded":
        stop = "" if words.endswith((".", "!", "?")) else "."
        often = tries(job, training)
        words = f"{words}{stop} Tried {'once' if often == 1 else f'{often} times'}."
        if reason is Reason.TRAINING_FAILED:
            reason = Reason.BACKOFF_LIMIT_EXCEEDED
    return reason, plain(words, 1024)


def _of_a_deadline(job: FineTuningJob, training: BatchJob) -> str:
    """Of the job, or one that a policy or a person gave its Job."""
    limit = job.spec.active_deadline_seconds
    if limit is None:
        return (
            f"Ran longer than activeDeadlineSeconds of Job {training.meta.name} "
            f"({training.deadline} s), which somebody else has set: see what limits the Jobs of "
            "this namespace, then create the job again."
        )
    return (
        f"Ran longer than spec.activeDeadlineSeconds ({limit} s), the wait for a node included: "
        "create the job again with a longer one, or with fewer steps."
    )


def tries(job: FineTuningJob, training: BatchJob) -> int:
    """How often the training ended badly: with one Pod of a group all of them do."""
    return -(-training.failed_pods // job.spec.workers)


def _most_telling(pods: tuple[Pod, ...]) -> Pod:
    """One that failed by itself, before those that only lost it, before one that was evicted."""
    ended = [pod for pod in pods if _ended_badly(pod)] or list(pods)
    return min(ended, key=lambda pod: (pod.disrupted, _lost_another(pod)))


def _lost_another(pod: Pod) -> bool:
    trainer = pod.container(naming.TRAINING_CONTAINER)
    result = last_words.training_result(trainer) if trainer is not None else None
    return result is not None and result.reason == TrainFailure.WORKER_LOST


def _ended_badly(pod: Pod) -> bool:
    trainer = pod.container(naming.TRAINING_CONTAINER)
    return pod.phase == "Failed" or (trainer is not None and bool(trainer.exit_code))


def pod_failure(job: FineTuningJob, pod: Pod) -> tuple[Reason, str]:
    """Why one Pod failed, from the most to the least telling source."""
    trainer = pod.container(naming.TRAINING_CONTAINER)
    if trainer is None or trainer.exit_code is None:
        words = ": ".join(part for part in (pod.reason, pod.message) if part)
        return Reason.TRAINING_FAILED, words or "The pod failed before the trainer started."
    if trainer.exit_reason == _OUT_OF_MEMORY:
        return Reason.OOM_KILLED, _out_of_memory(job)
    if (other := _failed_beside(pod)) is not None and trainer.exit_code == 0:
        return Reason.TRAINING_FAILED, _of_another(other)
    return _own_words(trainer)


def _failed_beside(pod: Pod) -> Container | None:
    """Whoever is not the operator's: a Pod fails with each of its containers."""
    own = {*naming.OWN_CONTAINERS, naming.SIDECAR_CONTAINER}
    return next((each for each in pod.containers if each.exit_code and each.name not in own), None)


def _of_another(container: Container) -> str:
    return (
        f"The trainer ended well, and container {container.name} with exit code "
        f"{container.exit_code}; a webhook put it there: keep that out of this namespace, or have "
        "it made a native sidecar."
    )


def _out_of_memory(job: FineTuningJob) -> str:
    limit = job.spec.resources.limits.get("memory")
    found = f"its memory limit of {limit}" if limit is not None else "the memory of its node"
    return (
        f"The trainer needed more than {found}. Raise spec.resources.limits.memory, or lower "
        "hyperparameters.batchSize or maxSeqLength."
    )


def _own_words(trainer: Container) -> tuple[Reason, str]:
    result = last_words.training_result(trainer)
    if result is not None:
        known = result.reason in set(TrainFailure)
        reason = Reason(result.reason) if known else Reason.TRAINING_FAILED
        return reason, plain(result.message or result.reason, 900)
    reason = (
        Reason.CONFIG_INVALID if trainer.exit_code == ExitCode.INVALID else Reason.TRAINING_FAILED
    )
    return reason, f"The trainer ended with exit code {trainer.exit_code}. {_last_line(trainer)}"


def _last_line(trainer: Container) -> str:
    """What a crash wrote last is why; what one that was killed wrote is what it happened to do."""
    line = last_words.last_line(trainer)
    if not line:
        return "It left no message."
    signal = (trainer.exit_code or 0) - _BY_A_SIGNAL
    if signal <= 0:
        return line
    return f"Signal {signal} ended it; the last line of its log: {line}"
