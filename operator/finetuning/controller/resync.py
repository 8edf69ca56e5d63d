"""What watches cannot promise: that nothing was missed.

A list of names (no specs, no states) finds what is gone and was never told, and every job is looked
at again.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from finetuning.controller import heap, naming
from finetuning.controller.cache import Cache, Store
from finetuning.controller.gateway import CUSTOMS, JOBS, PODS, ApiError, Gateway, Resource
from finetuning.controller.namespaces import in_each
from finetuning.controller.observed import Key
from finetuning.controller.workqueue import Turn, WorkQueue

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 600.0
JITTER = 0.1
_NOT_FOUND = 404


@dataclass(frozen=True)
class Resync:
    """Compares the cache with the cluster."""

    cache: Cache
    gateway: Gateway
    queue: WorkQueue[Key]
    namespaces: tuple[str, ...]

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
            ask = partial(self._listed, store, resource)
            async for where, started, listed in in_each(self.namespaces, ask):
                for key in store.sweep(listed, started, where):
                    log.info("job=%s/%s a deleted object was missed", *key)
                    self.queue.add(key, Turn.ROUTINE)
        heap.give_back()
        for custom in self.cache.customs:
            self.queue.add(custom.key, Turn.ROUTINE)

    def _kinds(self) -> list[tuple[Store[Any], Resource]]:
        cache = self.cache
        return [(cache.customs, CUSTOMS), (cache.jobs, JOBS), (cache.pods, PODS)]

    async def _listed(
        self, store: Store[Any], resource: Resource, namespace: str | None
    ) -> AsyncIterator[tuple[tuple[str, ...], int, set[str]]]:
        """Where was looked, since when, and who is there."""
        started = store.now()
        listed = await self._uids(resource, namespace)
        yield (namespace,) if namespace else (), started, listed

    async def _uids(self, resource: Resource, namespace: str | None) -> set[str]:
        selectors = {} if resource is CUSTOMS else {"labelSelector": naming.CHILD_SELECTOR}
        try:
            return await self.gateway.uids(resource, namespace, **selectors)
        except ApiError as error:
            # Without its definition there are no objects of a kind.
            if error.code != _NOT_FOUND:
                raise
        return set()
