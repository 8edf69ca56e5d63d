"""What a round cost: processor seconds and memory of each process, requests by who sent them."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
WHO = {
    "bench-load": "load",
    "bench-operator": "operator",
    "bench-kwok": "kwok",
    "system:kube-scheduler": "scheduler",
}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, what: str) -> float:
    """`VmRSS`, or `VmHWM` for its peak."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split(f"{what}:")[1].split()[0]) / 1024


def machine_seconds() -> tuple[float, float]:
    """Busy and idle processor seconds of the whole machine since boot."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    ticks = os.sysconf("SC_CLK_TCK")
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / ticks, idle / ticks


@dataclass
class Meter:
    """Reads everything at the start of a round and again at its end."""

    pids: Callable[[], Mapping[str, int]]
    """Processes by name, as they are now."""
    audit_log: Path
    cpu: dict[str, float] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)
    machine: tuple[float, float] = (0.0, 0.0)
    offset: int = 0

    def start(self) -> None:
        self.known = dict(self.pids())
        self.cpu = {name: cpu_seconds(pid) for name, pid in self.known.items()}
        self.machine = machine_seconds()
        self.offset = self.audit_log.stat().st_size

    def used(self) -> dict[str, float]:
        """Processor seconds since the start, by process; of one that ended, as last seen."""
        for name, pid in self.known.items():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                self.seen[name] = cpu_seconds(pid) - self.cpu[name]
        return dict(self.seen)

    def across(self, act: Callable[[], T]) -> T:
        """Do what replaces processes, and count both lives of each; give what `act` gives."""
        before = self.used()
        given = act()
        for name, pid in self.pids().items():
            if pid != self.known[name]:
                self.known[name], self.cpu[name] = pid, -before[name]
        return given

    def busy_elsewhere(self, used: Mapping[str, float]) -> float:
        """Share of the machine that programs outside this bench took meanwhile."""
        busy, idle = (now - was for now, was in zip(machine_seconds(), self.machine, strict=True))
        return max(0.0, busy - sum(used.values())) / max(busy + idle, 0.01)

    def requests(self) -> Counter[tuple[str, str, str]]:
        """Requests since the start as (who, verb, resource)."""
        with self.audit_log.open("rb") as log:
            log.seek(self.offset)
            return count(json.loads(line) for line in log if line.endswith(b"\n"))


def count(events: Iterable[Mapping[str, Any]]) -> Counter[tuple[str, str, str]]:
    """A watch counts when it ends, so one that goes on is in none."""
    found: Counter[tuple[str, str, str]] = Counter()
    for event in events:
        about = event.get("objectRef") or {}
        resource = "/".join(filter(None, (about.get("resource"), about.get("subresource"))))
        if event["verb"] != "watch":
            found[who(event["user"]["username"]), event["verb"], resource] += 1
    return found


def who(user: str) -> str:
    if user.startswith(("system:serviceaccount:kube-system:", "system:kube-controller")):
        return "controller-manager"
    return WHO.get(user, "apiserver" if user == "system:apiserver" else user)
