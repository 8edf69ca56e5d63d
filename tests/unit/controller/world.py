"""An API server in memory, with the controllers that matter here, for the tests of the reconciler.

It keeps what the real one keeps to: resource versions and conflicts, unique names, merge patches,
the status subresource, garbage collection by owner. Jobs get Pods; Pods do what a test says.
"""

import asyncio
import copy
import itertools
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
from tests.unit.controller.objects import ENDED, SETTINGS, STARTED, ended, job_body, running
from typing_extensions import override

from finetuning.api.crd import job_schema
from finetuning.controller import naming, observed
from finetuning.controller.cache import Cache, Store
from finetuning.controller.errors import RetryLaterError
from finetuning.controller.gateway import ApiError, Gateway
from finetuning.controller.metrics import OperatorMetrics
from finetuning.controller.monitoring_mode import ModeKeeper
from finetuning.controller.observed import Key
from finetuning.controller.reconcile import Reconciler
from finetuning.controller.settings import Settings

KEY: Key = ("team", "demo")
BEGINNING = [
    ("get", "servicemonitors"),
    ("get", "podmonitors"),
    ("list", "services"),
    ("list", "servicemonitors"),
]
"""What a process reads before anything else: what another mode left, and what the jobs have."""
IDLE_SECONDS = 3.0
STATUS_OF_THE_SCHEMA = job_schema()["properties"]["status"]["default"]
"""What a job has from its creation on, before any operator looked."""
Raw = dict[str, Any]
Name = tuple[str, str, str]


class Crash(BaseException):
    """The operator's process is gone; nothing in it can catch this."""


class World:
    """Objects by plural, namespace and name."""

    def __init__(self, *, with_monitoring: bool = True) -> None:
        self.objects: dict[Name, Raw] = {}
        self.writes: list[tuple[str, str, str]] = []
        self.reads: list[tuple[str, str]] = []
        self.crash_after: int | None = None
        self.crashes = 0
        self.now = datetime(2026, 1, 1, 10, 0, 30, tzinfo=UTC)
        self.fail_with: Callable[[str, str], ApiError | None] = lambda _verb, _plural: None
        self.admission: Callable[[str, Raw], None] = lambda _plural, _new: None
        self.kinds = {"jobs", "pods", "persistentvolumeclaims", "services", "finetuningjobs"}
        self.kinds |= {"events", "deployments", "leases"}
        self.kinds |= {"servicemonitors", "podmonitors"} if with_monitoring else set()
        self._versions = itertools.count(1)

    # The API

    def create(self, plural: str, body: Mapping[str, Any]) -> Raw:
        new = copy.deepcopy(dict(body))
        meta = new["metadata"]
        version = str(next(self._versions))
        name = meta.setdefault("name", f"{meta.get('generateName', '')}{version}")
        key = (plural, meta["namespace"], name)
        if key in self.objects:
            raise ApiError(409, "AlreadyExists", f"{plural} {name} already exists")
        meta.setdefault("uid", f"uid-{plural}-{version}")
        meta |= {"resourceVersion": version, "creationTimestamp": STARTED}
        if plural == "finetuningjobs":
            new["status"] = copy.deepcopy(STATUS_OF_THE_SCHEMA)
        self.admission(plural, new)
        self.objects[key] = new
        return copy.deepcopy(new)

    def patch(self, key: Name, patch: Mapping[str, Any], *, only_status: bool = False) -> Raw:
        found = self.objects.get(key)
        if found is None:
            raise ApiError(404, "NotFound", f"{key} not found")
        wanted = patch.get("metadata") or {}
        for field in ("resourceVersion", "uid"):
            if field in wanted and wanted[field] != found["metadata"][field]:
                raise ApiError(409, "Conflict", f"{field} does not match")
        parts = {"status"} if only_status else {"spec"}
        merged = {**found, **merge(found, {name: patch[name] for name in parts & set(patch)})}
        meta = merged["metadata"] = {**found["metadata"]}
        meta["resourceVersion"] = str(next(self._versions))
        if merged.get("spec") != found.get("spec"):
            meta["generation"] = meta.get("generation", 1) + 1
        if not only_status and "metadata" in patch and "annotations" in patch["metadata"]:
            meta["annotations"] = merge(meta.get("annotations"), patch["metadata"]["annotations"])
        self.objects[key] = merged
        return copy.deepcopy(merged)

    def of(self, plural: str) -> list[Raw]:
        return [raw for (kind, _, _), raw in self.objects.items() if kind == plural]

    def get(self, plural: str, name: str) -> Raw:
        return self.objects[plural, KEY[0], name]

    # The controllers

    def run_jobs(self) -> None:
        """Give every Job the Pods that it wants, take them from one that is suspended."""
        for raw in self.of("jobs"):
            view = observed.batch_job(raw)
            live = [pod for pod in self._pods_of(raw) if not observed.pod(pod).over]
            if view.suspend:
                for pod in live:
                    self.delete("pods", pod["metadata"]["name"])
            elif not view.finished:
                there = {observed.pod(pod).index for pod in live}
                for index in range(raw["spec"].get("completions", 1)):
                    if index not in there:
                        self._add_pod(raw, index)

    def _pods_of(self, job: Raw) -> list[Raw]:
        uid = job["metadata"]["uid"]
        return [pod for pod in self.of("pods") if observed.meta(pod).owner_uid == uid]

    def _add_pod(self, job: Raw, index: int = 0) -> None:
        meta = job["metadata"]
        indexed = {naming.INDEX_LABEL: str(index)} if "completions" in job["spec"] else {}
        owner = {"kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
        template = job["spec"]["template"]
        self.create(
            "pods",
            {
                "metadata": {
                    "generateName": f"{meta['name']}-",
                    "namespace": meta["namespace"],
                    "labels": {**template["metadata"]["labels"], **indexed},
                    "ownerReferences": [owner],
                },
                "spec": template["spec"],
                "status": {"phase": "Pending"},
            },
        )

    def set_pods(self, component: str, phase: str, state: Raw) -> None:
        """Let kubelet report on the live Pods of one kind."""
        container = {
            naming.TRAINING: naming.TRAINING_CONTAINER,
            naming.VALIDATION: naming.VALIDATION_CONTAINER,
            naming.PUBLISHING: naming.PUBLISHING_CONTAINER,
        }[component]
        for raw in self.of("pods"):
            view = observed.pod(raw)
            if view.meta.component == component and not view.over:
                statuses = [{"name": container, "state": state}]
                status = {"status": {"phase": phase, "containerStatuses": statuses}}
                self.patch(("pods", *KEY[:1], view.meta.name), status, only_status=True)

    def end_job(self, name: str, kind: str, reason: str = "") -> None:
        condition = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": ENDED}
        self.patch(
            ("jobs", KEY[0], name), {"status": {"conditions": [condition]}}, only_status=True
        )

    def delete(self, plural: str, name: str) -> None:
        """With all that it owns, as the garbage collector does."""
        gone = self.objects.pop((plural, KEY[0], name))
        for kind, _, child in list(self.objects):
            raw = self.objects.get((kind, KEY[0], child))
            if raw is not None and observed.meta(raw).owner_uid == gone["metadata"]["uid"]:
                self.delete(kind, child)

    # What a person and a day bring

    def apply(self, **spec: Any) -> None:
        body = job_body(**spec)
        body["metadata"].pop("uid")
        self.create("finetuningjobs", body)

    def change(self, **spec: Any) -> None:
        self.patch(("finetuningjobs", *KEY), {"spec": spec})

    def annotate(self, value: str | None, name: str = naming.REVALIDATE_ANNOTATION) -> None:
        patch = {"metadata": {"annotations": {name: value}}}
        self.patch(("finetuningjobs", *KEY), patch)

    @property
    def status(self) -> Raw:
        found: Raw = self.get("finetuningjobs", KEY[1]).get("status") or {}
        return found

    def start(self, component: str) -> None:
        self.run_jobs()
        self.set_pods(component, "Running", running())

    def finish(self, component: str, message: str, code: int = 0) -> None:
        views = [observed.batch_job(raw) for raw in self.of("jobs")]
        (name,) = (
            each.meta.name
            for each in views
            if each.meta.component == component and not (each.finished or each.suspend)
        )
        self.set_pods(component, "Failed" if code else "Succeeded", ended(code, message))
        self.end_job(name, "Failed" if code else "Complete", "PodFailurePolicy" if code else "")


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    base = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            base.pop(name, None)
        else:
            base[name] = merge(base.get(name), value)
    return base


class FakeGateway(Gateway):
    """The real gateway down to its methods that would send something."""

    def __init__(self, world: World) -> None:
        self.world = world

    @override
    def now(self) -> datetime:
        return self.world.now

    @override
    async def _call(
        self,
        verb: str,
        resource: Any,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        accept: str = "application/json",
    ) -> Raw:
        await asyncio.sleep(0)
        failure = self.world.fail_with(verb, resource.plural)
        if failure is not None:
            raise failure
        if resource.plural not in self.world.kinds:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        if method == "GET":
            return self._read(verb, resource.plural, path, query or {})
        return self._write(verb, resource.plural, path, body)

    @override
    async def _ask(self, verb: str, resource: Any, method: str, path: str, **rest: Any) -> bytes:
        return json.dumps(await self._call(verb, resource, method, path, **rest)).encode()

    def _read(self, verb: str, plural: str, path: str, query: Mapping[str, str]) -> Raw:
        self.world.reads.append((verb, plural))
        if verb == "list":
            wanted = _selected(query.get("labelSelector", ""))
            items = [raw for raw in self.world.of(plural) if wanted(raw)]
            return {"items": copy.deepcopy(items), "metadata": {}}
        if "/namespaces/" not in path:
            return {"resources": [{"name": each} for each in self.world.kinds]}
        _, _, namespace, _, name = path.rsplit("/", 4)
        found = self.world.objects.get((plural, namespace, name))
        if found is None:
            raise ApiError(404, "NotFound", f"{name} not found")
        return copy.deepcopy(found)

    def _write(self, verb: str, plural: str, path: str, body: Raw) -> Raw:
        if verb == "delete":
            done = self._delete(plural, path, body)
        elif verb == "create":
            done = self.world.create(plural, body)
        else:
            parts = path.split("/namespaces/")[1].split("/")
            key = (plural, parts[0], parts[2])
            done = self.world.patch(key, body, only_status=parts[-1] == "status")
        self.world.writes.append((verb, plural, done["metadata"]["name"]))
        if self.world.crash_after is not None and len(self.world.writes) >= self.world.crash_after:
            self.world.crash_after = None
            self.world.crashes += 1
            raise Crash
        return done

    def _delete(self, plural: str, path: str, body: Raw) -> Raw:
        _, _, namespace, _, name = path.rsplit("/", 4)
        found = self.world.objects.get((plural, namespace, name))
        if found is None:
            raise ApiError(404, "NotFound", f"{name} not found")
        if body["preconditions"]["uid"] != found["metadata"]["uid"]:
            raise ApiError(409, "Conflict", "the uid is another")
        return self.world.objects.pop((plural, namespace, name))


def _selected(selector: str) -> Callable[[Raw], bool]:
    wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
    return lambda raw: wanted.items() <= (raw["metadata"].get("labels") or {}).items()


class Process:
    """One life of the operator: its cache and memory die with it."""

    def __init__(
        self, world: World, http: aiohttp.ClientSession, settings: Settings = SETTINGS
    ) -> None:
        self.world, self.http, self.settings = world, http, settings
        self.cache = Cache()
        self.time = 1000.0
        self.gateway = FakeGateway(world)
        self.metrics = OperatorMetrics(self.cache, settings)
        self.keeper = ModeKeeper(
            self.gateway, settings, self.metrics.monitor_failed, lambda: self.time
        )
        self._keep = self.time
        self.reconciler = Reconciler(
            self.cache,
            self.gateway,
            settings,
            metrics=self.metrics,
            keeper=self.keeper,
            wake=lambda _: None,
            clock=lambda: self.time,
        )

    def watch(self) -> None:
        """Bring the cache up to date, deletions included."""
        self._fill(self.cache.customs, "finetuningjobs", observed.custom)
        self._fill(self.cache.jobs, "jobs", observed.batch_job)
        self._fill(self.cache.pods, "pods", observed.pod)

    def _fill(self, store: Store[Any], plural: str, view: Callable[[Raw], Any]) -> None:
        items = [view(raw) for raw in self.world.of(plural)]
        for item in items:
            store.put(item)
        store.sweep({item.meta.uid for item in items}, store.now(), ())

    async def settle(self, limit: int = 30) -> None:
        """Look until nothing more is written for three seconds."""
        idle = 0.0
        for _ in range(limit):
            before = len(self.world.writes)
            if self.time >= self._keep:
                self._keep = self.time + await self.keeper.attempt()
            self.watch()
            try:
                again = await self.reconciler.reconcile(KEY)
            except (RetryLaterError, ApiError):
                again = 1.0
            idle = idle if len(self.world.writes) == before else 0.0
            if again is None or idle >= IDLE_SECONDS:
                return
            step = min(max(again, 0.1), 1.0)
            self.time, idle = self.time + step, idle + step
        raise AssertionError(f"no rest after {limit} looks: {self.world.writes}")

    async def outlived(self) -> "Process":
        """Come to rest; after a crash the life that follows does, and is the answer."""
        try:
            await self.settle()
        except Crash:
            after = Process(self.world, self.http, self.settings)
            await after.settle()
            return after
        return self
