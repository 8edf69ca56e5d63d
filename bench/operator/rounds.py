"""One round: some jobs for one subject, from the first creation to the last verdict."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import statistics
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from bench.operator import costs, mishaps, sizes, workload
from bench.operator.costs import WRITES, Meter
from bench.operator.load import Load
from bench.operator.watcher import CONCURRENT, GONE, POD, Client, Stamps, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bench.operator.plane import Plane
    from bench.operator.process import OperatorProcess
    from bench.operator.workload import Round, Subject

SPANS = {
    "create_to_job": ("created", "training job"),
    "create_to_pod": ("created", POD),
    "pod_end_to_job_end": ("training pod ended", "training job ended"),
    "pod_end_to_trained": ("training pod ended", "trained"),
    "pod_end_to_validation_pod": ("training pod ended", "validation pod"),
    "validation_end_to_validated": ("validation pod ended", "validated"),
    "delete_to_gone": ("deleted", GONE),
}
"""Name: from which step to which."""


@dataclass(frozen=True)
class Contest:
    """What takes part in a round."""

    plane: Plane
    client: Client
    subject: Subject
    operator: OperatorProcess | None
    load: Load
    say: Callable[[str], None]

    @property
    def last_step(self) -> str:
        if not self.subject.operator:
            return "training job ended"
        return "validated" if self.subject.validation else "trained"

    def namespace(self, wanted: Round) -> str:
        """Where a round's jobs are."""
        return f"{self.subject.name}-{wanted.name}"

    def pids(self) -> dict[str, int]:
        found = {name: each.pid for name, each in self.plane.processes.items()}
        if self.operator is not None:
            found["operator"] = self.operator.pid
        return found | {"load": os.getpid()}


async def play(contest: Contest, wanted: Round, limit: float) -> dict[str, Any]:
    """Give the figures of one round; raises TimeoutError after `limit` seconds."""
    namespace = contest.namespace(wanted)
    for path, manifest in workload.surroundings(namespace):
        await contest.client.create(path, manifest)
    load = Load() if wanted.one_by_one else contest.load
    coming = wave(contest.subject, namespace, load.names(wanted.jobs), load)
    watcher = Watcher(contest.client, namespace)
    await watcher.start(customs=contest.subject.operator)
    meter = Meter(contest.pids, contest.plane.place.audit_log)
    looked = looks(contest)
    meter.start()
    begun = time.monotonic()
    befall(contest, wanted, load.rate, watcher, coming)
    if contest.operator is not None and load.restart != "operator":
        watcher.beside(mishaps.keep(meter, contest.operator, contest.say))
    depths: list[float] = []
    if contest.operator is not None:
        watcher.beside(sample(contest.operator.depth, depths))
    act = mishaps.action(load.restart, contest.plane, contest.operator)
    try:
        restarting = asyncio.create_task(mishaps.restart(watcher, meter, wanted.jobs, act))
        await watcher.wait(contest.last_step, wanted.jobs, teller(contest, wanted, watcher), limit)
        restarted = await restarting
    finally:
        await watcher.stop()
    used = meter.used()
    busy = meter.busy_elsewhere(used)
    if contest.operator is not None:
        # What a job costs after its verdict is counted too: its monitor goes, Events come.
        await asyncio.to_thread(settle, meter)
    costs_now = spent(contest, used, meter.requests(), wanted.jobs)
    now = looks(contest)
    if now and now.keys() == looked.keys():
        costs_now["operator_looks"] = sum(now[pid] - looked[pid] for pid in now) / wanted.jobs
    return {
        "subject": contest.subject.name,
        "jobs": wanted.jobs,
        "one_by_one": wanted.one_by_one,
        "load": load.told(),
        "restart_ready": restarted,
        **times(watcher.stamps, begun, contest.last_step),
        **costs_now,
        "machine_busy_elsewhere": busy,
        "queue_peak": max(depths, default=None),
        "sizes": await sizes.measure(contest.client, namespace, wanted.jobs),
        "etcd_mib": sizes.database_mib(contest.plane.folder),
    }


def looks(contest: Contest) -> dict[int, float]:
    """Looks at jobs by the operator's process: another one begins at zero."""
    operator = contest.operator
    return {operator.pid: operator.looks()} if operator is not None else {}


async def sample(read: Callable[[], float], found: list[float], seconds: float = 1) -> None:
    """Note it now and then; nothing while the operator is away."""
    while True:
        with contextlib.suppress(OSError, HTTPException):
            found.append(await asyncio.to_thread(read))
        await asyncio.sleep(seconds)


@dataclass(frozen=True)
class Wave:
    """The jobs of a round, made before its clock starts.

    A plain Job is built by the operator's own code, in a millisecond that is no part of its cost.
    """

    path: str
    objects: dict[str, dict[str, Any]]
    leaving: dict[str, str]
    """Where those are that get deleted."""


def wave(subject: Subject, namespace: str, names: list[str], load: Load) -> Wave:
    path, objects = workload.objects(subject, namespace, names)
    leaving = {n: f"{path}/{objects[n]['metadata']['name']}" for n in load.leaving(names)}
    return Wave(path, objects, leaving)


def befall(contest: Contest, wanted: Round, rate: float, watcher: Watcher, coming: Wave) -> None:
    """Let the jobs come, and those leave again that shall, beside the watches."""
    watcher.beside(
        in_a_row(contest, watcher, coming.path, coming.objects)
        if wanted.one_by_one
        else at_once(contest, watcher, coming.path, coming.objects, rate)
    )
    watcher.beside(mishaps.delete(contest.client, watcher, coming.leaving))


def teller(contest: Contest, wanted: Round, watcher: Watcher) -> Callable[[], None]:
    """Say how far the round is."""
    begun = time.monotonic()
    steps = ("created", POD, contest.last_step)

    def tell() -> None:
        counts = ", ".join(f"{watcher.count(step)} {step}" for step in steps)
        passed = time.monotonic() - begun
        contest.say(f"{contest.subject.name} {wanted.name}: {counts} after {passed:.0f} s")

    return tell


async def in_a_row(
    contest: Contest, watcher: Watcher, path: str, objects: Mapping[str, dict[str, Any]]
) -> None:
    """Each when the pod of the one before it is there."""
    for number, (name, manifest) in enumerate(objects.items(), start=1):
        watcher.stamps[name]["created"] = time.monotonic()
        await contest.client.create(path, manifest)
        await watcher.wait(POD, number, lambda: None, 60)
        await asyncio.sleep(0.2)


async def at_once(
    contest: Contest,
    watcher: Watcher,
    path: str,
    objects: Mapping[str, dict[str, Any]],
    rate: float,
) -> None:
    """A few at a time, or so many a second."""
    gate, begun = asyncio.Semaphore(CONCURRENT), time.monotonic()
    apart = 1 / rate if rate else 0.0

    async def one(name: str, manifest: dict[str, Any], due: float) -> None:
        await asyncio.sleep(due - time.monotonic())
        async with gate:
            watcher.stamps[name]["created"] = time.monotonic()
            await contest.client.create(path, manifest)

    every = enumerate(objects.items())
    await asyncio.gather(*(one(*each, begun + number * apart) for number, each in every))


def times(stamps: Stamps, begun: float, last_step: str) -> dict[str, Any]:
    """Seconds: the spans' 50th and 99th percentile, and when the last one got there."""
    found: dict[str, Any] = {}
    for name, (start, end) in SPANS.items():
        values = sorted(s[end] - s[start] for s in stamps.values() if start in s and end in s)
        if values:
            found[name] = {"p50": statistics.median(values), "p99": percentile(values, 0.99)}
    found["last_pod"] = max(s[POD] for s in stamps.values() if POD in s) - begun
    # A deleted job is done when nothing of it is left.
    found["all_done"] = max(s.get(GONE, s.get(last_step, begun)) for s in stamps.values()) - begun
    return found


def percentile(values: list[float], share: float) -> float:
    """The smallest of the sorted values that so many of them do not exceed."""
    return values[max(1, math.ceil(share * len(values))) - 1]


def spent(
    contest: Contest,
    used: Mapping[str, float],
    requests: Mapping[tuple[str, str, str], int],
    jobs: int,
) -> dict[str, Any]:
    """Per job: requests and processor milliseconds; memory in MiB."""
    found: dict[str, Any] = {
        "cpu_ms": {name: 1000 * seconds / jobs for name, seconds in used.items()},
        "cpu_ms_all": 1000 * sum(used.values()) / jobs,
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
    meter = Meter(lambda: {"operator": operator.pid}, plane.place.audit_log)
    meter.start()
    settle(meter)
    meter.start()
    time.sleep(seconds)
    return {
        "cores": meter.used()["operator"] / seconds,
        "requests": asked(meter),
        "seconds": seconds,
        "rss_mib": costs.memory_mib(operator.pid, "VmRSS"),
    }


def settle(meter: Meter, sleep: Callable[[float], None] = time.sleep) -> None:
    """Until the operator has asked for nothing for three seconds, or asks on for thirty."""
    for _ in range(10):
        before = asked(meter)
        sleep(3)
        if asked(meter) == before:
            return


def asked(meter: Meter) -> int:
    """Requests of the operator since the meter's start."""
    return sum(number for (who, *_), number in meter.requests().items() if who == "operator")
