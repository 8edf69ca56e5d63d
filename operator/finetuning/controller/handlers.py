"""The watches, by kopf: every event only goes to the cache and asks for a look at its job.

Nothing else of kopf is used. Its change handlers keep state in annotations and write on their own,
its indices take quadratic time to fill, and errors of event handlers are logged and dropped: so
none is raised here, and all that can fail happens behind the queue.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import kopf
from typing_extensions import override

from finetuning.controller import naming, observed
from finetuning.controller.cache import Cache, Store
from finetuning.controller.gateway import CUSTOMS, JOBS, PODS, Resource
from finetuning.controller.observed import Key, Meta
from finetuning.controller.settings import Settings
from finetuning.controller.workqueue import Turn, WorkQueue

_CRDS = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
_BACKOFF_SECONDS = (1, 2, 4, 8, *(15,) * 20)
"""About five minutes: an upgrade of the control plane takes that long."""


class Backoffs:
    """kopf iterates over this anew for every request that fails."""

    def __iter__(self) -> Iterator[float]:
        return (each * random.uniform(0.7, 1.3) for each in _BACKOFF_SECONDS)  # noqa: S311 - jitter


class NoEssence(kopf.DiffBaseStorage):
    """Says that an object has nothing to compare.

    For every event kopf copies the whole object several times over to find out what changed, which
    nobody here asks: four fifths of the operator's processor time.
    """

    @override
    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    @override
    def fetch(self, *, body: kopf.Body) -> None:
        return None

    @override
    def store(self, **_: Any) -> None:
        return None


class NoProgress(kopf.ProgressStorage):
    """Keeps nothing of handlers' progress: there are no such handlers."""

    @override
    def fetch(self, **_: Any) -> None:
        return None

    @override
    def store(self, **_: Any) -> None:
        return None

    @override
    def purge(self, **_: Any) -> None:
        return None

    @override
    def touch(self, **_: Any) -> None:
        return None

    @override
    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def settings(ours: Settings) -> kopf.OperatorSettings:
    """Kopf as a watcher; see docs/decisions on the figures."""
    theirs = kopf.OperatorSettings()
    theirs.posting.enabled = False
    theirs.peering.standalone = True
    theirs.scanning.disabled = bool(ours.watch_namespaces)
    theirs.watching.server_timeout = 300
    theirs.watching.client_timeout = 330
    theirs.watching.connect_timeout = 10
    theirs.watching.reconnect_backoff = 1
    theirs.watching.chunk_size = 1000
    theirs.watching.label_selectors["batch", "v1", "jobs"] = naming.CHILD_SELECTOR
    theirs.watching.label_selectors["", "v1", "pods"] = naming.CHILD_SELECTOR
    theirs.watching.field_selectors[_CRDS] = f"metadata.name={CUSTOMS.plural}.{CUSTOMS.group}"
    theirs.networking.connect_timeout = 10
    theirs.networking.request_timeout = 30
    theirs.networking.error_backoffs = Backoffs()
    theirs.persistence.diffbase_storage = NoEssence()
    theirs.persistence.progress_storage = NoProgress()
    theirs.queueing.exit_timeout = 3
    theirs.process.ultimate_exiting_timeout = 25
    return theirs


@dataclass(frozen=True)
class _Kind:
    """One watched kind: where its events go, and whose job they are about."""

    resource: Resource
    view: Callable[[Any], Any]
    store: Store[Any]
    key_of: Callable[[Meta], Key]


def register(registry: kopf.OperatorRegistry, cache: Cache, queue: WorkQueue[Key]) -> None:
    """Feed cache and queue with everything that happens to jobs, their Jobs and their Pods."""
    for kind in (
        _Kind(CUSTOMS, observed.custom, cache.customs, lambda meta: (meta.namespace, meta.name)),
        _Kind(JOBS, observed.batch_job, cache.jobs, lambda meta: meta.parent_key),
        _Kind(PODS, observed.pod, cache.pods, lambda meta: meta.parent_key),
    ):
        _watch(registry, kind, queue)


def _watch(registry: kopf.OperatorRegistry, kind: _Kind, queue: WorkQueue[Key]) -> None:
    async def on_event(event: kopf.RawEvent, **_: Any) -> None:
        item, change = kind.view(event["object"]), event["type"]
        if change == "DELETED":
            kind.store.drop(item.meta.uid)
        elif not kind.store.put(item, listed=change is None):
            return
        queue.add(kind.key_of(item.meta), _turn(kind, change))

    where = kind.resource
    kopf.on.event(
        where.group, where.version, where.plural, id=f"watch-{where.plural}", registry=registry
    )(on_event)


def _turn(kind: _Kind, change: str | None) -> Turn:
    """What was there at the start of the watch comes without a kind of change."""
    if change is None:
        return Turn.ROUTINE
    return Turn.NEW if kind.resource is CUSTOMS and change == "ADDED" else Turn.NEWS


def register_login(registry: kopf.OperatorRegistry) -> None:
    """Log in as the official client does: service account, kubeconfig, exec plugins."""
    kopf.on.login(id="login", registry=registry)(kopf.login_via_client)
