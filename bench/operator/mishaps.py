"""What befalls the jobs of a round on the way: deletions, and a restart in the middle."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from bench.operator.watcher import POD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.operator.costs import Meter
    from bench.operator.plane import Plane
    from bench.operator.process import OperatorProcess
    from bench.operator.watcher import Client, Watcher

LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 3600
"""A round that takes too long ends sooner."""


async def delete(client: Client, watcher: Watcher, paths: Mapping[str, str]) -> None:
    """Delete each job when its training pod was heard of: its name, and where its object is."""
    waiting = dict(paths)
    while waiting:
        for name in [each for each in waiting if POD in watcher.stamps[each]]:
            watcher.stamps[name]["deleted"] = time.monotonic()
            await client.delete(waiting.pop(name))
        await asyncio.sleep(LOOK_SECONDS)


async def restart(
    watcher: Watcher, meter: Meter, jobs: int, act: Callable[[], float] | None
) -> float | None:
    """Do it when half of the training pods were heard of; seconds until it was ready again."""
    if act is None:
        return None
    await watcher.wait(POD, -(-jobs // 2), lambda: None, PATIENCE_SECONDS)
    return await asyncio.to_thread(meter.across, act)


async def keep(meter: Meter, operator: OperatorProcess, say: Callable[[str], None]) -> None:
    """Start it again when it ended by itself, as a kubelet does: for example without its Lease."""
    while True:
        await asyncio.sleep(1)
        if await asyncio.to_thread(meter.across, operator.revive):
            say("the operator ended by itself and is started again")


def action(what: str, plane: Plane, operator: OperatorProcess | None) -> Callable[[], float] | None:
    """How to restart it; nothing where the subject has no such thing."""
    if what == "apiserver":
        return lambda: _again(plane.stop_api, plane.start_api)
    if what == "operator" and operator is not None:
        return lambda: _again(operator.stop, operator.lead)
    return None


def _again(stop: Callable[[], None], start: Callable[[], float]) -> float:
    stop()
    return start()
