"""What events and Kueue say about a Job or Pod that does not start.

For each question the API server goes through all events of the namespace, whatever it asks for. So
they are read once for all jobs that wait there: in a burst of 1,000, a read for each of them cost
it more than the Jobs themselves.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from finetuning.api.v1alpha1 import KIND
from finetuning.artifacts.plain import plain
from finetuning.controller import kueue
from finetuning.controller.budget import Budget
from finetuning.controller.gateway import EVENTS, ApiError, Gateway
from finetuning.controller.memory import NEVER
from finetuning.controller.observed import Meta

FRESH_SECONDS = 5.0
"""An answer this old is good: whoever asks has waited for longer."""
READS_PER_SECOND = 10.0
READS_BURST = 50.0
"""For jobs that wait in a thousand namespaces, a minute's delay is the smaller evil."""

_TELLING = {"FailedCreate", "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"}
_OF_A_CLAIM = {"ProvisioningFailed", "ExternalProvisioning"}
"""Where a volume is made once a node is known, scheduler and Pod say nothing of it."""
_OFTEN = ("FailedScheduling", "BackOff", "Unhealthy")
"""Warnings of which there may be thousands, and which tell nothing that the Pod does not."""
_WARNINGS = ",".join(["", "type=Warning", *(f"reason!={each}" for each in _OFTEN)])
_CLAIM = "PersistentVolumeClaim"
_RECENT = timedelta(minutes=4)
"""kubelet and the Job controller repeat their events more often than this while they still hold."""
_FORBIDDEN = 403


@dataclass(frozen=True)
class Obstructed:
    """The object of which others say why nothing runs."""

    about: Meta
    in_queue: bool = False
    """A Job that Kueue has not admitted; else one without Pod, or a Pod not started."""
    since: datetime | None = None
    """What was said before is about a Pod that did come."""
    claim: str = ""
    """Of a Pod that no node was found for and nobody says why: its volume may not come."""

    @property
    def is_job(self) -> bool:
        return self.about.owner_kind == KIND


class Place(NamedTuple):
    """Where one read finds all that is said."""

    namespace: str
    kind: str


class Complaint(NamedTuple):
    """One event."""

    when: datetime
    words: str


@dataclass
class _Read:
    at: float = NEVER
    found: dict[str, list[Complaint]] = field(default_factory=dict)
    """By the uid of the object, or by the name of the claim."""
    forbidden: bool = False
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)


class Complaints:
    """Asks on behalf of all jobs, within a budget."""

    def __init__(self, gateway: Gateway, clock: Callable[[], float]) -> None:
        """`clock` is a monotonic one, in seconds."""
        self._gateway, self._clock = gateway, clock
        self.budget = Budget(READS_PER_SECOND, READS_BURST, clock)
        self._reads: dict[Place, _Read] = {}

    async def about(self, waits: Obstructed) -> str | None:
        """Kueue's words, or the newest warning that still holds; empty when there is none.

        None when nobody could be asked, for too many were asked just now.
        """
        if waits.in_queue:
            return await kueue.hint(self._gateway, waits.about) if self.budget.take() else None
        read = await self._fresh(Place(waits.about.namespace, "Job" if waits.is_job else "Pod"))
        words = self._answer(read, waits) if read is not None else None
        return await self._about_claim(waits) if words == "" and waits.claim else words

    async def _about_claim(self, waits: Obstructed) -> str | None:
        read = await self._fresh(Place(waits.about.namespace, _CLAIM))
        words = self._newest(read, waits.claim, waits) if read is not None else None
        return f"Claim {waits.claim}: {words}" if words else words

    async def _fresh(self, place: Place) -> _Read | None:
        read = self._reads.setdefault(place, _Read())
        async with read.one_at_a_time:
            if self._is_fresh(read):
                return read
            if not self.budget.take():
                return None
            await self._renew(place, read)
            read.at = self._clock()
        self._forget_old_ones()
        return read

    def _is_fresh(self, read: _Read) -> bool:
        return self._clock() - read.at < FRESH_SECONDS

    async def _renew(self, place: Place, read: _Read) -> None:
        of_claims = place.kind == _CLAIM
        fields = f"involvedObject.kind={place.kind}" + ("" if of_claims else _WARNINGS)
        reasons, by = (_OF_A_CLAIM, "name") if of_claims else (_TELLING, "uid")
        found: dict[str, list[Complaint]] = defaultdict(list)
        try:
            async for event in self._gateway.items(EVENTS, place.namespace, fieldSelector=fields):
                if event.get("reason") in reasons:
                    found[str(event["involvedObject"].get(by))].append(_complaint(event))
        except ApiError as error:
            if error.code != _FORBIDDEN:
                raise
            read.forbidden = True
        else:
            read.found, read.forbidden = dict(found), False

    def _answer(self, read: _Read, waits: Obstructed) -> str:
        about = waits.about
        if read.forbidden:
            see = f"kubectl -n {about.namespace} describe job {about.name}"
            return f"No pod appears; see: {see}" if waits.is_job else ""
        return self._newest(read, about.uid, waits)

    def _newest(self, read: _Read, whose: str, waits: Obstructed) -> str:
        now = self._gateway.now()
        holding = [each for each in read.found.get(whose, ()) if _holds(each, waits, now)]
        newest = max(holding, key=lambda each: each.when, default=None)
        return newest.words if newest is not None else ""

    def _forget_old_ones(self) -> None:
        for place, read in list(self._reads.items()):
            if not self._is_fresh(read) and not read.one_at_a_time.locked():
                del self._reads[place]


def _complaint(event: dict[str, Any]) -> Complaint:
    return Complaint(_when(event), plain(f"{event['reason']}: {event.get('message', '')}", 1024))


def _when(event: dict[str, Any]) -> datetime:
    text = event.get("lastTimestamp") or event.get("eventTime")
    try:
        return datetime.fromisoformat(text) if text else datetime.min.replace(tzinfo=UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _holds(complaint: Complaint, waits: Obstructed, now: datetime) -> bool:
    """Whoever tells events has the API server's clock, or one that is kept beside it."""
    is_news = waits.since is None or complaint.when > waits.since
    return is_news and now - complaint.when < _RECENT
