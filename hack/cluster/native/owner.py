"""Who runs the machine's one native node, and what a newcomer does about it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from hack.cluster import paths
from hack.cluster.native.process import Process, boot_id, is_alive
from hack.cluster.shell import write

RECORD = paths.NODE / "owner.json"


@dataclass(frozen=True)
class Record:
    """Written before the first process starts, so that a crash leaves a trace to clean up."""

    checkout: str
    versions: str
    boot: str
    processes: tuple[Process, ...] = ()
    sysctls: dict[str, str] = field(default_factory=dict)
    created: tuple[str, ...] = ()
    complete: bool = False


class Verdict(StrEnum):
    """What `up` does with what it finds."""

    FRESH = "fresh"
    REUSE = "reuse"
    RENEW = "renew"
    TAKE_OVER = "take-over"


@dataclass(frozen=True)
class Judgement:
    """The decision and its one line for the user."""

    verdict: Verdict
    why: str = ""


def judge(record: Record | None, checkout: str, versions: str, dead: list[str]) -> Judgement:
    """Decide by the record alone; `dead` names recorded processes that no longer run."""
    if record is None:
        return Judgement(Verdict.FRESH)
    if record.checkout != checkout:
        gone = "" if Path(record.checkout).exists() else ", which is gone"
        return Judgement(Verdict.TAKE_OVER, f"stopping the cluster of {record.checkout}{gone}")
    if not record.complete:
        return Judgement(Verdict.RENEW, "an earlier start did not finish; starting afresh")
    if dead:
        return Judgement(Verdict.RENEW, f"no longer running: {', '.join(dead)}; starting afresh")
    if record.versions != versions:
        return Judgement(Verdict.RENEW, "the pinned versions have changed; starting afresh")
    return Judgement(Verdict.REUSE)


def load() -> Record | None:
    """Read the machine's record; one that cannot be read counts as another checkout's remains."""
    try:
        kept = json.loads(RECORD.read_text())
    except FileNotFoundError:
        return Record("an unknown checkout", "", "") if paths.NODE.exists() else None
    except ValueError:
        return Record("an unknown checkout", "", "")
    kept["processes"] = tuple(Process(**process) for process in kept["processes"])
    kept["created"] = tuple(kept["created"])
    return Record(**kept)


def save(record: Record) -> None:
    """Keep the record on the machine, outside any checkout."""
    write(RECORD, json.dumps(asdict(record), indent=1) + "\n")


def dead_processes(record: Record) -> list[str]:
    """Name the recorded processes that do not run; after a reboot that is all of them."""
    if record.boot != boot_id():
        return [process.name for process in record.processes]
    return [process.name for process in record.processes if not is_alive(process)]
