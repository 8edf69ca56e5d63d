"""kopf as the runner of the process: start, signals, the order in which things end.

It watches nothing: see docs/decisions on what its watches cost.
"""

import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import kopf

_BACKOFF_SECONDS = (1, 2, 4, 8, *(15,) * 20)
"""About five minutes: an upgrade of the control plane takes that long."""


class Backoffs:
    """kopf iterates over this anew for every request that fails."""

    def __iter__(self) -> Iterator[float]:
        return (each * random.uniform(0.7, 1.3) for each in _BACKOFF_SECONDS)  # noqa: S311 - jitter


def operator(stop: Callable[[], Awaitable[None]]) -> Coroutine[Any, Any, None]:
    """Run until SIGTERM or SIGINT, and `stop` before the end."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(id="login", registry=registry)(kopf.login_via_client)

    @kopf.on.cleanup(id="drain", registry=registry)
    async def drain(**_: object) -> None:
        await stop()

    return kopf.operator(registry=registry, settings=settings(), clusterwide=True)


def settings() -> kopf.OperatorSettings:
    """Nothing is scanned, posted or peered."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.peering.standalone = True
    found.scanning.disabled = True
    found.networking.connect_timeout = 10
    found.networking.request_timeout = 30
    found.networking.error_backoffs = Backoffs()
    found.process.ultimate_exiting_timeout = 25
    return found
