"""One round: some jobs for one subject, from the first creation to the last verdict."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.operator import costs, workload
from bench.operator.costs import WRITES, Meter
from bench.operator.watcher import CONCURRENT, Client, Stamps, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.operator.plane import Plane
    from bench.operator.process import OperatorProcess
    from bench.operator.workload import Round, Subject

POD = "training pod"
SPANS = {
    "create_to_job": ("created", "training job"),
    "create_to_pod": ("created", POD),
    "pod_end_to_trained": ("training pod ended", "trained"),
    "pod_end_to_validation_pod": ("training pod ended", "validation pod"),
    "validation_end_to_validated": ("validation pod ended", "validated"),
}
"""Name: from which step to which."""


@dataclass(frozen=True)
class Contest:
    """What takes part in a round."""

    plane: Plane
    client: Client
    subject: Subject
    operator: OperatorProcess | None
    say: Callable[[str], None]

    @property
    def last_step(self) -> str:
        if not self.subject.operator:
            return "training job ended"
        return "validated" if self.subject.validation else "trained"

    def pids(self) -> dict[str, int]:
        found = {name: each.pid for name, each in self.plane.processes.items()}
        if self.operator is not None:
            found["operator"] = self.operator.pid
        return found | {"load": os.getpid()}


async def play(contest: Contest, wanted: Round, limit: float) -> dict[str, Any]:
    """Give the figures of one round; raises TimeoutError after `limit` seconds."""
    namespace = f"{contest.subject.name}-{wanted.name}"
    for path, manifest in workload.surroundings(namespace):
        await contest.client.create(path, manifest)
    path, objects = workload.objects(contest.subject, namespace, wanted.jobs)
    watcher = Watcher(contest.client, namespace)
    await watcher.start(customs=contest.subject.operator)
    meter = Meter(contest.pids(), contest.plane.place.audit_log)
    meter.start()
    begun = time.monotonic()
    tell = teller(contest, wanted, watcher, begun)
    try:
        creating = asyncio.create_task(create(contest, watcher, path, objects, wanted))
        await watcher.wait(contest.last_step, wanted.jobs, tell, limit)
        await creating
    finally:
        await watcher.stop()
    return {
        "subject": contest.subject.name,
        "jobs": wanted.jobs,
        "one_by_one": wanted.one_by_one,
        **times(watcher.stamps, begun, contest.last_step),
        **spent(contest, meter, wanted.jobs),
    }


def teller(contest: Contest, wanted: Round, watcher: Watcher, begun: float) -> Callable[[], None]:
    """Say how far the round is."""
    steps = ("created", POD, contest.last_step)

    def tell() -> None:
        counts = ", ".join(f"{watcher.count(step)} {step}" for step in steps)
        passed = time.monotonic() - begun
        contest.say(f"{contest.subject.name} {wanted.name}: {counts} after {passed:.0f} s")

    return tell


async def create(
    contest: Contest, watcher: Watcher, path: str, objects: dict[str, Any], wanted: Round
) -> None:
    """All at once, a few at a time; or each when the pod of the one before it is there."""
    gate = asyncio.Semaphore(CONCURRENT)

    async def one(name: str, manifest: dict[str, Any]) -> None:
        async with gate:
            watcher.stamps[name]["created"] = time.monotonic()
            await contest.client.create(path, manifest)

    if not wanted.one_by_one:
        await asyncio.gather(*(one(name, each) for name, each in objects.items()))
        return
    for number, (name, manifest) in enumerate(objects.items(), start=1):
        await one(name, manifest)
        await watcher.wait(POD, number, lambda: None, 60)
        await asyncio.sleep(0.2)


def times(stamps: Stamps, begun: float, last_step: str) -> dict[str, Any]:
    """Seconds: the spans' 50th and 99th percentile, and when the last one got there."""
    found: dict[str, Any] = {}
    for name, (start, end) in SPANS.items():
        values = sorted(s[end] - s[start] for s in stamps.values() if start in s and end in s)
        if values:
            found[name] = {"p50": statistics.median(values), "p99": percentile(values, 0.99)}
    found["last_pod"] = max(s[POD] for s in stamps.values()) - begun
    found["all_done"] = max(s[last_step] for s in stamps.values()) - begun
    return found


def percentile(values: list[float], share: float) -> float:
    """The smallest of the sorted values that `share` of them do not exceed."""
    return values[min(len(values) - 1, int(share * len(values)))]


def spent(contest: Contest, meter: Meter, jobs: int) -> dict[str, Any]:
    """Per job: requests and processor milliseconds; memory in MiB."""
    used, requests = meter.used(), meter.requests()
    found: dict[str, Any] = {
        "cpu_ms": {name: 1000 * seconds / jobs for name, seconds in used.items()},
        "cpu_ms_all": 1000 * sum(used.values()) / jobs,
        "machine_busy_elsewhere": meter.busy_elsewhere(used),
        "requests": {" ".join(key): number / jobs for key, number in sorted(requests.items())},
    }
    mine = {key[1:]: number for key, number in requests.items() if key[0] == "operator"}
    found["operator_writes"] = total(mine.items(), WRITES) / jobs
    found["operator_reads"] = total(mine.items(), {"get", "list"}) / jobs
    if contest.operator is not None:
        pid = contest.operator.pid
        found["rss_mib"] = costs.memory_mib(pid, "VmRSS")
        found["peak_mib"] = costs.memory_mib(pid, "VmHWM")
    return found


def total(counted: Iterable[tuple[tuple[str, str], int]], verbs: set[str]) -> int:
    return sum(number for (verb, _), number in counted if verb in verbs)


def idle(plane: Plane, operator: OperatorProcess, seconds: float) -> dict[str, float]:
    """What an operator does whose jobs are all finished: cores, and requests of any kind."""
    meter = Meter({"operator": operator.pid}, plane.place.audit_log)
    time.sleep(1)
    meter.start()
    time.sleep(seconds)
    sent = sum(number for (who, *_), number in meter.requests().items() if who == "operator")
    return {
        "cores": meter.used()["operator"] / seconds,
        "requests": sent,
        "seconds": seconds,
    }
