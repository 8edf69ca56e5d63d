"""What is seen of the cluster: small typed views of API objects, which are all that is cached.

About 1 KB an object instead of the 10 KB of a Pod as the API server sends it. A view is made from
whatever the server sent and never fails: what is missing there is None here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from finetuning.api.v1alpha1 import KIND, Phase
from finetuning.controller import naming

Key = tuple[str, str]
"""Namespace and name of a FineTuningJob."""

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Meta:
    """What all objects have; `parent` is the job that the labels name."""

    namespace: str
    name: str
    uid: str
    version: int = field(compare=False)
    """Two views that differ in nothing else say the same."""
    created: datetime | None
    deletes_at: datetime | None
    """When it is to be gone; a Pod's time to end is counted in."""
    owner_uid: str
    owner_kind: str
    parent: str
    parent_uid: str
    component: str

    @property
    def deleting(self) -> bool:
        return self.deletes_at is not None

    @property
    def parent_key(self) -> Key:
        return (self.namespace, self.parent)


@dataclass(frozen=True)
class Custom:
    """A FineTuningJob: the parts of its body that are used, as text until somebody reads them.

    As dictionaries they are three times as large, and most jobs that are known are over.
    """

    meta: Meta
    text: bytes
    ended_at: str = ""
    """The time as the API writes it, which sorts; empty before the end."""

    @property
    def body(self) -> Raw:
        """Nobody's to change: the next reader gets the same."""
        return _body(self.text)

    @property
    def key(self) -> Key:
        return (self.meta.namespace, self.meta.name)


@dataclass(frozen=True)
class Mark:
    """A condition of another controller that holds."""

    reason: str
    message: str
    since: datetime | None


@dataclass(frozen=True)
class BatchJob:
    """A batch/v1 Job."""

    meta: Meta
    suspend: bool
    active: int
    """Pods that have not ended."""
    failed_pods: int
    completion_time: datetime | None
    complete: Mark | None
    failed: Mark | None
    failing: Mark | None = None
    """It will fail, as soon as its Pods have ended."""
    suspended: Mark | None = None
    """Its controller has not begun, or not yet begun again."""
    started: datetime | None = None
    """When its controller began, anew after each pause."""
    policy: str = ""
    revalidate: str = ""
    generation: int | None = None
    """What a validation Job was made for; see naming's annotations."""
    ttl: int | None = None
    """Seconds from its end to its deletion."""
    deadline: int | None = None
    """Seconds that it may run."""
    folder: str = ""
    """Where its Pods keep the result, as claim/path."""
    wish: str = ""
    """The same of a publishing Job."""
    queue: str = ""
    """The LocalQueue that it names, or was given by Kueue."""
    queued: bool = False
    """Kueue may start it at any moment."""

    @property
    def finished(self) -> bool:
        return self.complete is not None or self.failed is not None

    @property
    def active_since(self) -> datetime | None:
        """From when its controller counts activeDeadlineSeconds; None while it counts nothing."""
        waits = self.suspend or self.suspended is not None
        return None if waits or self.finished else self.started

    @property
    def idle(self) -> bool:
        """It has no Pod and none comes of it as it stands, in the words of its controller."""
        paused = self.suspend and self.suspended is not None and self.active == 0
        return self.finished or (paused and not self.queued)


@dataclass(frozen=True)
class Container:
    """The state of a container; at most one of waiting, running and exit code is known.

    One that waits to be started again keeps the reason and message of its last end.
    """

    name: str
    image: str = ""
    waiting: str | None = None
    waiting_message: str = ""
    running_since: datetime | None = None
    exit_code: int | None = None
    exit_reason: str = ""
    exit_message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True)
class Pod:
    meta: Meta
    phase: str
    ip: str
    reason: str
    message: str
    unscheduled: Mark | None
    containers: tuple[Container, ...]
    index: int = 0
    """Of a group that trains together; the first one reports."""
    node: str = ""
    folder: str = ""
    """Where it keeps the result, as claim/path."""
    disrupted: bool = False
    """Evicted, preempted or lost with its node, which is no failure of its own."""
    strangers: tuple[str, ...] = ()
    """Containers that have not ended and are none of the operator's: a webhook put them there."""

    @property
    def over(self) -> bool:
        return self.phase in {"Succeeded", "Failed"}

    @property
    def held_open_by(self) -> tuple[str, ...]:
        """Strangers for which it is not over, though the operator's own container has ended."""
        own = [each for each in self.containers if each.name in naming.OWN_CONTAINERS]
        ends = self.over or self.meta.deleting or all(each.exit_code is None for each in own)
        return () if ends else self.strangers

    def container(self, name: str) -> Container | None:
        return next((each for each in self.containers if each.name == name), None)


def _time(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _version(text: Any) -> int:
    return int(text) if isinstance(text, str) and text.isdecimal() else 0


def meta(raw: Raw) -> Meta:
    found = raw.get("metadata") or {}
    labels = found.get("labels") or {}
    owners = found.get("ownerReferences") or []
    owner: Raw = next((each for each in owners if each.get("controller")), {})
    return Meta(
        namespace=found.get("namespace", ""),
        name=found.get("name", ""),
        uid=found.get("uid", ""),
        version=_version(found.get("resourceVersion")),
        created=_time(found.get("creationTimestamp")),
        deletes_at=_time(found.get("deletionTimestamp")),
        owner_uid=owner.get("uid", ""),
        owner_kind=owner.get("kind", ""),
        parent=_parent(labels, owner),
        parent_uid=labels.get(naming.JOB_UID_LABEL, ""),
        component=labels.get(naming.COMPONENT_LABEL, ""),
    )


def _parent(labels: Raw, owner: Raw) -> str:
    """By its owner, where a job is that: anybody who may write labels can change one."""
    own = owner.get("name") if owner.get("kind") == KIND else None
    return str(own or labels.get(naming.JOB_NAME_LABEL) or "")


_ENDED = (Phase.SUCCEEDED, Phase.FAILED)
_KEPT_METADATA = ("namespace", "name", "uid", "generation", "resourceVersion", "creationTimestamp")


_WISHES = (naming.REVALIDATE_ANNOTATION, naming.REPUBLISH_ANNOTATION, naming.SERVE_ANNOTATION)
_ANNOTATION_LIMIT = 256
"""Others may write 256 KiB; what counts of an annotation is less than this."""


def _annotation(raw: Raw, name: str) -> str:
    found = (raw.get("metadata") or {}).get("annotations") or {}
    return str(found.get(name) or "")[:_ANNOTATION_LIMIT]


def custom(raw: Raw) -> Custom:
    kept = {name: raw["metadata"][name] for name in _KEPT_METADATA if name in raw["metadata"]}
    wishes = {name: _annotation(raw, name) for name in _WISHES}
    if any(wishes.values()):
        kept["annotations"] = {name: wish for name, wish in wishes.items() if wish}
    parts = ("apiVersion", "kind", "spec", "status")
    body = {part: raw[part] for part in parts if part in raw} | {"metadata": kept}
    from msgspec import json  # noqa: PLC0415 - only the operator has it

    return Custom(meta=meta(raw), text=json.encode(body), ended_at=_ended_at(body))


@lru_cache(maxsize=256)
def _body(text: bytes) -> Raw:
    from msgspec import json  # noqa: PLC0415 - only the operator has it

    found: Raw = json.decode(text)
    return found


def _ended_at(body: Raw) -> str:
    found = body.get("status") or {}
    if found.get("phase") not in _ENDED:
        return ""
    return str(found.get("completionTime") or body["metadata"].get("creationTimestamp", "?"))


def _conditions(status: Raw) -> dict[str, Mark]:
    """The conditions that hold, by type."""
    return {
        str(each.get("type")): _mark(each)
        for each in status.get("conditions") or []
        if each.get("status") == "True"
    }


def _mark(condition: Raw) -> Mark:
    return Mark(
        reason=condition.get("reason") or "",
        message=condition.get("message") or "",
        since=_time(condition.get("lastTransitionTime")),
    )


def batch_job(raw: Raw) -> BatchJob:
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    conditions = _conditions(status)
    return BatchJob(
        meta=meta(raw),
        suspend=bool(spec.get("suspend")),
        active=(status.get("active") or 0) + (status.get("terminating") or 0),
        failed_pods=status.get("failed") or 0,
        completion_time=_time(status.get("completionTime")),
        complete=conditions.get("Complete"),
        failed=conditions.get("Failed"),
        failing=conditions.get("FailureTarget"),
        suspended=conditions.get("Suspended"),
        started=_time(status.get("startTime")),
        policy=_annotation(raw, naming.POLICY_ANNOTATION),
        revalidate=_annotation(raw, naming.REVALIDATE_ANNOTATION),
        generation=_version(_annotation(raw, naming.GENERATION_ANNOTATION)) or None,
        ttl=spec.get("ttlSecondsAfterFinished"),
        deadline=spec.get("activeDeadlineSeconds"),
        folder=_folder((spec.get("template") or {}).get("spec") or {}),
        wish=_annotation(raw, naming.WISH_ANNOTATION),
        queue=_queue(raw),
        queued=bool(_queue(raw) or _annotation(raw, naming.QUEUED_ANNOTATION)),
    )


def _queue(raw: Raw) -> str:
    labels = (raw.get("metadata") or {}).get("labels") or {}
    return str(labels.get(naming.QUEUE_LABEL) or "")


def _folder(pod: Raw) -> str:
    """The claim of the result and the path in it; empty where there is none."""
    volumes = {str(each.get("name")): each for each in pod.get("volumes") or []}
    claim = (volumes.get(naming.OUTPUT_VOLUME) or {}).get("persistentVolumeClaim")
    if not claim:
        return ""
    mounts = [
        mount
        for container in pod.get("containers") or []
        for mount in container.get("volumeMounts") or []
        if mount.get("name") == naming.OUTPUT_VOLUME
    ]
    path = mounts[0].get("subPath") if mounts else None
    return f"{claim.get('claimName')}/{path or ''}"


def pod(raw: Raw) -> Pod:
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    statuses = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    return Pod(
        meta=meta(raw),
        phase=status.get("phase") or "",
        ip=status.get("podIP") or "",
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        unscheduled=_unscheduled(status.get("conditions") or []),
        containers=tuple(_container(each) for each in statuses),
        index=_version(((raw.get("metadata") or {}).get("labels") or {}).get(naming.INDEX_LABEL)),
        node=spec.get("nodeName") or "",
        folder=_folder(spec),
        disrupted="DisruptionTarget" in _conditions(status),
        strangers=_strangers(status.get("containerStatuses") or []),
    )


def _strangers(statuses: Iterable[Raw]) -> tuple[str, ...]:
    """Not init containers: kubelet ends those that run beside."""
    left = (each for each in statuses if not (each.get("state") or {}).get("terminated"))
    return tuple(n for each in left if (n := str(each.get("name"))) not in naming.OWN_CONTAINERS)


_NOT_PLACED = {"Unschedulable", "SchedulerError", "SchedulingGated"}


def _unscheduled(conditions: Iterable[Raw]) -> Mark | None:
    for each in conditions:
        if each.get("type") == "PodScheduled" and each.get("reason") in _NOT_PLACED:
            return _mark(each)
    return None


def access_modes(claim: Raw) -> tuple[str, ...]:
    """How pods may mount a claim."""
    return tuple(str(each) for each in (claim.get("spec") or {}).get("accessModes") or [])


def _container(raw: Raw) -> Container:
    name, state = raw.get("name", ""), raw.get("state") or {}
    image = str(raw.get("image") or "")
    if ended := state.get("terminated"):
        return Container(
            name,
            image,
            exit_code=ended.get("exitCode"),
            exit_reason=ended.get("reason") or "",
            exit_message=ended.get("message") or "",
            started_at=_time(ended.get("startedAt")),
            finished_at=_time(ended.get("finishedAt")),
        )
    if running := state.get("running"):
        since = _time(running.get("startedAt"))
        return Container(name, image, running_since=since, started_at=since)
    waiting = state.get("waiting") or {}
    before = (raw.get("lastState") or {}).get("terminated") or {}
    return Container(
        name,
        image,
        waiting=waiting.get("reason") or "",
        waiting_message=waiting.get("message") or "",
        exit_reason=before.get("reason") or "",
        exit_message=before.get("message") or "",
    )


@dataclass(frozen=True)
class Children:
    """The Jobs that one job owns and their Pods, newest first; of several attempts the last one.

    Of a group that trains together the newest Pods of each index come first, and among them the
    one that says most about the group: see `_grouped`.
    """

    training: BatchJob | None = None
    validation: BatchJob | None = None
    training_pods: tuple[Pod, ...] = ()
    validation_pods: tuple[Pod, ...] = ()
    publishing: BatchJob | None = None
    publishing_pods: tuple[Pod, ...] = ()

    @property
    def pods(self) -> tuple[Pod, ...]:
        return (*self.training_pods, *self.validation_pods, *self.publishing_pods)


def children(uid: str, jobs: Iterable[BatchJob], pods: Iterable[Pod]) -> Children:
    """Sort out what belongs to the job with this uid; a label alone makes no Job ours."""
    owned = {
        each.meta.component: each
        for each in sorted(jobs, key=_by_attempt)
        if each.meta.owner_uid == uid and each.meta.owner_kind == KIND
    }
    own_pods = sorted(
        (each for each in pods if each.meta.parent_uid == uid), key=_by_age, reverse=True
    )
    training, validation = owned.get(naming.TRAINING), owned.get(naming.VALIDATION)
    publishing = owned.get(naming.PUBLISHING)
    return Children(
        training=training,
        validation=validation,
        training_pods=_grouped(_pods_of(training, own_pods)),
        validation_pods=_pods_of(validation, own_pods),
        publishing=publishing,
        publishing_pods=_pods_of(publishing, own_pods),
    )


def leading(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """Those with index 0, in which the progress and the last words are."""
    return tuple(pod for pod in pods if pod.index == 0)


def lacks_a_pod(pods: Iterable[Pod], workers: int) -> bool:
    """Whether one of a group is still to come, at first or after one that failed."""
    return len({pod.index for pod in pods if pod.phase != "Failed"}) < workers


def began(pods: Iterable[Pod], workers: int) -> datetime | None:
    """When the last worker's trainer began, of each the newest that ever did: they meet first."""
    times: dict[int, datetime] = {}
    for pod in pods:
        trainer = pod.container(naming.TRAINING_CONTAINER)
        if trainer is not None and trainer.started_at is not None:
            times.setdefault(pod.index, trainer.started_at)
    return max(times.values()) if len(times) >= workers else None


def ended(pods: Iterable[Pod], container: str) -> Container | None:
    """The container of that name in the first of the Pods where it has ended."""
    found = (pod.container(container) for pod in pods)
    return next((each for each in found if each is not None and each.exit_code is not None), None)


def _grouped(pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """A group is as far as the last of its Pods: one that does not start holds all of them."""
    newest: dict[int, Pod] = {}
    for pod in pods:
        newest.setdefault(pod.index, pod)
    first = sorted(newest.values(), key=lambda pod: (_standing(pod), pod.index))
    return (*first, *(pod for pod in pods if pod not in first))


def _standing(pod: Pod) -> int:
    """Not started, then ended badly, then running, then done."""
    trainer = pod.container(naming.TRAINING_CONTAINER)
    if trainer is not None and trainer.exit_code is not None:
        return 1 if trainer.exit_code else 3
    if pod.over:
        return 1
    return 2 if trainer is not None and trainer.running_since is not None else 0


def _by_attempt(job: BatchJob) -> tuple[int, str]:
    """-validate, -validate-2, -validate-10."""
    return (len(job.meta.name), job.meta.name)


def _by_age(pod: Pod) -> tuple[bool, float]:
    """Live Pods count as newer: creation times have a resolution of one second."""
    return (not pod.over, pod.meta.created.timestamp() if pod.meta.created else 0.0)


def _pods_of(job: BatchJob | None, pods: Iterable[Pod]) -> tuple[Pod, ...]:
    if job is None:
        return ()
    return tuple(each for each in pods if each.meta.owner_uid == job.meta.uid)
