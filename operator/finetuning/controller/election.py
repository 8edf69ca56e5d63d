"""Which of several replicas works: the one that holds a Lease; the others keep their caches warm.

A Lease is no lock: a process that was stopped for longer than its term may wake beside its
successor. That harms nobody, since children have fixed names, are adopted by uid, and statuses
are written against a resource version. What the Lease prevents is wasted work.

All times are this process's monotonic clock: the clock of another machine is never trusted.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from finetuning.controller.desired.metadata import deployment
from finetuning.controller.gateway import DEPLOYMENTS, LEASES, ApiError, Gateway, Raw

log = logging.getLogger(__name__)

LEASE_SECONDS = 15
"""How long a silent holder keeps the Lease; as in Kubernetes' own controllers."""
RENEW_DEADLINE_SECONDS = 10.0
"""A holder that could not renew for this long stops, well before another may start."""
RENEW_SECONDS = 2.0
POLL_SECONDS = 1.0
CALL_SECONDS = 3.0
"""A call that hangs must not outlive the deadline."""
_NOT_FOUND, _CONFLICT = 404, 409


class LostError(Exception):
    """The Lease is not ours any more: this process must not go on working."""


@dataclass(frozen=True)
class Term:
    """What a Lease says, and since when it has said exactly this."""

    holder: str
    seconds: float
    transitions: int
    version: str
    seen: float
    """Time at which this resource version was first met."""

    def free(self, me: str, now: float) -> bool:
        """Released, ours, or not renewed for a whole term as far as this process saw."""
        return self.holder in {"", me} or now > self.seen + self.seconds


def read(raw: Raw, before: Term | None, now: float) -> Term:
    """The Lease as the API server gave it; one that did not change keeps its age."""
    spec, version = raw.get("spec") or {}, raw["metadata"]["resourceVersion"]
    return Term(
        holder=spec.get("holderIdentity") or "",
        seconds=float(spec.get("leaseDurationSeconds") or LEASE_SECONDS),
        transitions=int(spec.get("leaseTransitions") or 0),
        version=version,
        seen=before.seen if before is not None and before.version == version else now,
    )


def claim(term: Term | None, me: str, at: datetime) -> dict[str, Any]:
    """The `spec` with which `me` takes, or keeps, the Lease."""
    moment = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": me, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": moment}
    if term is not None and term.holder == me:
        return spec
    return spec | {
        "acquireTime": moment,
        "leaseTransitions": 0 if term is None else term.transitions + 1,
    }


class Election:
    """One candidate. `me` must differ between processes that can run at the same time."""

    def __init__(self, gateway: Gateway, namespace: str, name: str, me: str) -> None:
        self._gateway, self._me = gateway, me
        self._namespace, self._name = namespace, name
        self._term: Term | None = None
        self._said = ""

    async def win(self) -> None:
        """Return as soon as the Lease is ours."""
        while not await self._tried(self._take()):  # noqa: ASYNC110 - the event is elsewhere
            await asyncio.sleep(POLL_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    async def keep(self) -> None:
        """Renew until somebody else has it, or the API server has been silent too long.

        Raises:
            LostError: always, in the end.
        """
        renewed = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(renewed + RENEW_DEADLINE_SECONDS - time.monotonic()):
                    renewed = await self._renewal()
            except TimeoutError:
                raise LostError(f"the lease {self._name} could not be renewed in time") from None

    async def _renewal(self) -> float:
        """Try until it succeeds; the time before the write, from which the term counts."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            begun = time.monotonic()
            if await self._tried(self._renew()):
                return begun
            if not self._is_ours():
                raise LostError(f"the lease {self._name} was taken by another operator")

    async def release(self) -> None:
        """Let the next one start at once; without this it waits for the end of the term."""
        if self._is_ours():
            await self._tried(self._give_back())

    def _is_ours(self) -> bool:
        return self._term is not None and self._term.holder == self._me

    async def _give_back(self) -> bool:
        """A renewal that the end cut short may have been written: then the Lease is read first."""
        nobody = {"holderIdentity": ""}
        if await self._write(nobody):
            return True
        return await self._look() and self._is_ours() and await self._write(nobody)

    async def _look(self) -> bool:
        """See what the Lease says, if there is one."""
        raw = await self._gateway.get(LEASES, self._namespace, self._name)
        if raw is not None:
            self._term = read(raw, self._term, time.monotonic())
        return raw is not None

    async def _tried(self, attempt: Awaitable[bool]) -> bool:
        """Whether it succeeded; a reason why not is logged once."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                found = await attempt
        except (ApiError, TimeoutError) as error:
            if str(error) != self._said:
                self._said = str(error)
                log.warning("lease %s/%s: %s", self._namespace, self._name, error or "no answer")
            return False
        self._said = ""
        return found

    async def _take(self) -> bool:
        if not await self._look() or self._term is None:
            return await self._create()
        if not self._term.free(self._me, time.monotonic()):
            return False
        return await self._write(claim(self._term, self._me, datetime.now(UTC)))

    async def _renew(self) -> bool:
        """One write; only when somebody else wrote as well, a read before it."""
        spec = claim(self._term, self._me, datetime.now(UTC))
        return await self._write(spec) or await self._take()

    async def _create(self) -> bool:
        """The Deployment of the same name owns it, so that it goes with the release."""
        found = await self._gateway.get(DEPLOYMENTS, self._namespace, self._name)
        owners = [deployment(self._name, found["metadata"]["uid"])] if found else []
        manifest = {
            "apiVersion": f"{LEASES.group}/{LEASES.version}",
            "kind": "Lease",
            "metadata": {
                "namespace": self._namespace,
                "name": self._name,
                "ownerReferences": owners,
            },
            "spec": claim(None, self._me, datetime.now(UTC)),
        }
        return await self._settled(self._gateway.create(LEASES, manifest), _CONFLICT)

    async def _write(self, spec: dict[str, Any]) -> bool:
        """False when the Lease is not any more what this process last saw."""
        version = self._term.version if self._term else ""
        patch = {"metadata": {"resourceVersion": version}, "spec": spec}
        write = self._gateway.patch(LEASES, self._namespace, self._name, patch)
        return await self._settled(write, _CONFLICT, _NOT_FOUND)

    async def _settled(self, write: Awaitable[Raw], *harmless: int) -> bool:
        try:
            raw = await write
        except ApiError as error:
            if error.code in harmless:
                return False
            raise
        self._term = read(raw, self._term, time.monotonic())
        return True
