"""What watches cannot promise: that the start is over, and that nothing was missed.

Both list names only (no specs, no states). The first list says when the cache is complete; the
later ones find what was deleted while a watch was expired, which kopf never reports.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

from finetuning.controller import naming
from finetuning.controller.cache import Cache, Store
from finetuning.controller.gateway import CUSTOMS, JOBS, PODS, ApiError, Gateway, Resource
from finetuning.controller.observed import Key
from finetuning.controller.workqueue import Turn, WorkQueue

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 600.0
JITTER = 0.1
_RELIST_SECONDS = 5.0
_POLL_SECONDS = 0.05
_NOT_FOUND = 404


@dataclass(frozen=True)
class Resync:
    """Compares the cache with the cluster."""

    cache: Cache
    gateway: Gateway
    queue: WorkQueue[Key]
    namespaces: tuple[str, ...]

    async def first(self) -> None:
        """Return when all that was there at the start has arrived through the watches."""
        while not await self._covered(await self._listed()):
            log.debug("still waiting for the watches")
        for store, _ in self._kinds():
            store.synced()

    async def forever(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - jitter
            try:
                await self.sweep()
            except ApiError as error:
                log.warning("resync is put off: %s", error)

    async def sweep(self) -> None:
        """Drop what is gone, and ask for a look at every job that is left."""
        for store, resource in self._kinds():
            started = store.now()
            listed = await self._uids(resource)
            for key in store.sweep(listed, started, self.namespaces):
                log.info("job=%s/%s a deleted object was missed", *key)
                self.queue.add(key, Turn.ROUTINE)
        for custom in self.cache.customs:
            self.queue.add(custom.key, Turn.ROUTINE)

    def _kinds(self) -> list[tuple[Store[Any], Resource]]:
        cache = self.cache
        return [(cache.customs, CUSTOMS), (cache.jobs, JOBS), (cache.pods, PODS)]

    async def _listed(self) -> list[tuple[Store[Any], set[str]]]:
        return [(store, await self._uids(resource)) for store, resource in self._kinds()]

    async def _covered(self, listed: Iterable[tuple[Store[Any], set[str]]]) -> bool:
        """Wait a little for the watches; what was deleted meanwhile needs a new list."""
        wanted = list(listed)
        deadline = asyncio.get_running_loop().time() + _RELIST_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if all(store.covers(uids) for store, uids in wanted):
                return True
            await asyncio.sleep(_POLL_SECONDS)
        return False

    async def _uids(self, resource: Resource) -> set[str]:
        return {uid async for uids in self._per_namespace(resource) for uid in uids}

    async def _per_namespace(self, resource: Resource) -> AsyncIterator[set[str]]:
        selectors = {} if resource is CUSTOMS else {"labelSelector": naming.CHILD_SELECTOR}
        for namespace in self.namespaces or (None,):
            try:
                yield await self.gateway.uids(resource, namespace, **selectors)
            except ApiError as error:
                # Without its definition there are no objects of a kind.
                if error.code != _NOT_FOUND:
                    raise
