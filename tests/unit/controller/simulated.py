"""The API server in memory with time: Pods end when they please, events come late or never.

What Kubernetes' own controllers do is done here one step at a time, when somebody says so: the Job
controller by the manifests' own podFailurePolicy, the garbage collector, the protection of claims.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from tests.unit.controller.objects import SETTINGS
from tests.unit.controller.world import Crash, FakeGateway, Name, Process, Raw, World
from typing_extensions import override

from finetuning.controller import naming, observed
from finetuning.controller.gateway import ApiError
from finetuning.controller.observed import Pod

if TYPE_CHECKING:
    import aiohttp

    from finetuning.controller.cache import Store

WATCHED = {"finetuningjobs", "jobs", "pods"}
GRACE = timedelta(seconds=120)


class Cluster(World):
    """Remembers what its watchers have not been told yet, per object and in order."""

    def __init__(self) -> None:
        super().__init__()
        self.untold: defaultdict[str, deque[tuple[str, Raw | None]]] = defaultdict(deque)
        self.made: list[tuple[str, str, str]] = []
        """Plural, name and owner's uid of everything that was ever made."""

    # Every change is an event

    @override
    def create(self, plural: str, body: Mapping[str, Any]) -> Raw:
        new = super().create(plural, body)
        meta = self.objects[plural, new["metadata"]["namespace"], new["metadata"]["name"]]
        meta["metadata"]["creationTimestamp"] = self.stamp()
        self.made.append((plural, new["metadata"]["name"], observed.meta(new).owner_uid))
        self._tell(plural, new)
        return new

    @override
    def patch(self, key: Name, patch: Mapping[str, Any], *, only_status: bool = False) -> Raw:
        changed = super().patch(key, patch, only_status=only_status)
        self._tell(key[0], changed)
        return changed

    def remove(self, key: Name) -> None:
        gone = self.objects.pop(key)
        if key[0] in WATCHED:
            self.untold[gone["metadata"]["uid"]].append((key[0], None))

    @override
    def delete(self, plural: str, name: str) -> None:
        """Only this object: what it owns is the garbage collector's."""
        self.remove((plural, "team", name))

    def _tell(self, plural: str, raw: Raw) -> None:
        if plural in WATCHED:
            self.untold[raw["metadata"]["uid"]].append((plural, raw))

    def stamp(self, later: timedelta = timedelta()) -> str:
        return (self.now + later).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _write(self, key: Name, status: Raw, **metadata: Any) -> None:
        """What a controller writes: the whole status, and fields of the metadata."""
        found = self.objects[key]
        self.objects[key] = {
            **found,
            "status": status,
            "metadata": {**found["metadata"], **metadata},
        }
        self.patch(key, {}, only_status=True)

    # The Job controller

    def sync_job(self, name: str) -> None:
        """One look of the Job controller."""
        key = ("jobs", "team", name)
        raw = self.objects[key]
        view = observed.batch_job(raw)
        if view.finished:
            self._expire(key, view)
            return
        status = dict(raw.get("status") or {})
        self._count(raw, status)
        pods = [observed.pod(pod) for pod in self._pods_of(raw)]
        live = [pod for pod in pods if not pod.over]
        if self._end(raw, status, live):
            pass
        elif view.suspend:
            self._stop(live)
            status |= {"conditions": [_holds("Suspended")], "startTime": None}
        else:
            if status.get("startTime") is None:
                status |= {"startTime": self.stamp()}
            status["conditions"] = []
            if not live:
                self._add_pod(raw)
        pods = [observed.pod(pod) for pod in self._pods_of(raw)]
        live = [pod for pod in pods if not pod.over]
        status["active"] = sum(1 for pod in live if not pod.meta.deleting)
        status["terminating"] = len(live) - status["active"]
        if status != raw.get("status"):
            self._write(key, status)

    def _expire(self, key: Name, view: observed.BatchJob) -> None:
        ended = view.complete or view.failed
        if view.ttl is None or ended is None or ended.since is None:
            return
        if self.now >= ended.since + timedelta(seconds=view.ttl):
            self.remove(key)

    def _count(self, job: Raw, status: Raw) -> None:
        """Ended Pods, each once; those that were to be deleted go then."""
        for raw in self._pods_of(job):
            pod = observed.pod(raw)
            if not pod.over or raw.get("counted"):
                continue
            key = ("pods", "team", pod.meta.name)
            self.objects[key] = {**raw, "counted": True}
            if pod.phase == "Succeeded":
                status["succeeded"] = 1
            else:
                action = _policy(job, raw)
                status["failed"] = status.get("failed", 0) + (action == "Count")
                status["invalid"] = status.get("invalid") or action == "FailJob"
            if pod.meta.deleting:
                self.remove(key)

    def _end(self, job: Raw, status: Raw, live: list[Pod]) -> bool:
        """Complete or Failed, once no Pod is left."""
        too_many = status.get("failed", 0) > job["spec"]["backoffLimit"]
        if status.get("succeeded"):
            kind, reason = "Complete", "CompletionsReached"
        elif status.get("invalid"):
            kind, reason = "Failed", "PodFailurePolicy"
        elif too_many:
            kind, reason = "Failed", "BackoffLimitExceeded"
        elif self._is_late(job, status):
            kind, reason = "Failed", "DeadlineExceeded"
        else:
            return False
        self._stop(live)
        if live and kind == "Failed":
            status["conditions"] = [_holds("FailureTarget", reason, self.stamp())]
        elif not live:
            status["conditions"] = [_holds(kind, reason, self.stamp())]
            status |= {"completionTime": self.stamp()} if kind == "Complete" else {}
        return True

    def _is_late(self, job: Raw, status: Raw) -> bool:
        limit, begun = job["spec"].get("activeDeadlineSeconds"), status.get("startTime")
        if limit is None or begun is None:
            return False
        return self.stamp(timedelta(seconds=-limit)) >= str(begun)

    def _stop(self, pods: list[Pod]) -> None:
        for pod in pods:
            if not pod.meta.deleting:
                self.ask_to_end(pod.meta.name)

    # Kubelet and people

    def ask_to_end(self, name: str) -> None:
        """Eviction, suspension, deletion: the Pod may take its time."""
        key = ("pods", "team", name)
        status = self.objects[key].get("status") or {}
        self._write(key, status, deletionTimestamp=self.stamp(GRACE))

    def report(self, name: str, phase: str, status: Raw) -> None:
        """What kubelet tells of a Pod; one without a Job is gone once it has ended."""
        key = ("pods", "team", name)
        self._write(key, {"phase": phase, **status})
        pod = observed.pod(self.objects[key])
        if pod.over and self._owner_of(pod.meta) is None:
            self.remove(key)

    def _owner_of(self, meta: observed.Meta) -> Raw | None:
        uids = (raw for raw in self.objects.values() if raw["metadata"]["uid"] == meta.owner_uid)
        return next(uids, None)

    def collect(self) -> None:
        """The garbage collector, and the protection of claims that Pods still mount."""
        for key, raw in list(self.objects.items()):
            meta = observed.meta(raw)
            orphan = bool(meta.owner_uid) and self._owner_of(meta) is None
            if key[0] == "pods" and orphan:
                self._end_orphan(key, observed.pod(raw))
            elif key[0] == "persistentvolumeclaims" and (orphan or meta.deleting):
                self._release(key)
            elif orphan:
                self.remove(key)

    def _end_orphan(self, key: Name, pod: Pod) -> None:
        if pod.over:
            self.remove(key)
        elif not pod.meta.deleting:
            self.ask_to_end(pod.meta.name)

    def _release(self, key: Name) -> None:
        folder = f"{key[2]}/"
        users = [observed.pod(raw) for raw in self.of("pods")]
        if any(pod.folder.startswith(folder) and not pod.over for pod in users):
            self.objects[key]["metadata"]["deletionTimestamp"] = self.stamp()
        else:
            self.remove(key)


def _holds(kind: str, reason: str = "", since: str | None = None) -> Raw:
    return {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": since}


def _policy(job: Raw, pod: Raw) -> str:
    """What the Job's own podFailurePolicy says of a failed Pod."""
    conditions = {each["type"] for each in (pod.get("status") or {}).get("conditions") or []}
    view = observed.pod(pod)
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        on_exit = rule.get("onExitCodes")
        if on_exit is not None:
            ended = view.container(on_exit["containerName"])
            if ended is not None and ended.exit_code in on_exit["values"]:
                return str(rule["action"])
        elif {each["type"] for each in rule["onPodConditions"]} & conditions:
            return str(rule["action"])
    return "Count"


class FaultyGateway(FakeGateway):
    """Fails at one call in a chosen way."""

    fault, at = "", 0
    happened = 0

    @override
    async def _call(self, verb: str, resource: Any, method: str, path: str, **more: Any) -> Raw:
        self.at -= 1
        fault = self.fault if self.at == 0 else ""
        self.happened += bool(fault)
        if fault == "refused":
            raise ApiError(503, "ServiceUnavailable", "try later")
        if fault == "conflict" and method == "PATCH":
            raise ApiError(409, "Conflict", "the object has been modified")
        done = await super()._call(verb, resource, method, path, **more)
        if fault == "lost answer":
            raise ApiError(0, "Unreachable", "connection reset")
        if fault == "crash":
            raise Crash
        return done


class Operator(Process):
    """One life of the operator, told of changes one by one."""

    def __init__(self, cluster: Cluster, time: float) -> None:
        super().__init__(
            cluster, cast("aiohttp.ClientSession", None), SETTINGS
        )  # No Pod has an address.
        self.cluster, self.time = cluster, time
        self.faulty = FaultyGateway(cluster)
        self.reconciler._gateway = self.faulty
        cache = self.cache
        self.kinds: dict[str, tuple[Store[Any], Callable[[Raw], Any]]] = {
            "finetuningjobs": (cache.customs, observed.custom),
            "jobs": (cache.jobs, observed.batch_job),
            "pods": (cache.pods, observed.pod),
        }
        self.watch()

    def hear(self, uid: str) -> None:
        """The next event about an object."""
        events = self.cluster.untold[uid]
        plural, raw = events.popleft()
        if not events:
            del self.cluster.untold[uid]
        store, view = self.kinds[plural]
        if raw is None:
            store.drop(uid)
        else:
            store.put(view(raw))

    def hear_all(self) -> None:
        for uid in list(self.cluster.untold):
            while uid in self.cluster.untold:
                self.hear(uid)


def component(pod: Pod) -> str:
    training = pod.meta.component == naming.TRAINING
    return naming.TRAINING_CONTAINER if training else naming.VALIDATION_CONTAINER
