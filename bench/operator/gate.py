"""Figures that do not depend on how busy the machine is, held against those that were kept.

Requests are counted, each kind for itself, without those about Events, which have a budget and ask
only where something takes long. Processor time is compared as a ratio to the floor of the same run.
Each may be a fifth worse than what was kept, as Kueue's rule is for its own; of requests, a quarter
of one more for each job, since on a busy machine some job waits long enough to be told of twice.
An operator whose jobs are all over asks for nothing, but for the lists of a resync.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.operator.report import FLOOR, pairs, sent
from hack.cluster.shell import write

KEPT = Path(__file__).with_name("kept.json")
ROOM = 1.2
GRAIN = 0.25
RATIO = "CPU / floor"
IDLE = "requests while idle"
RESYNC = 3
"""Lists that an operator with nothing to do sends every ten minutes."""
ENOUGH = 20
"""Jobs whose processor time is more than a few ticks of the clock that measures it."""


def figures(found: dict[str, Any]) -> dict[str, float]:
    """Name: value, for every subject but the floor."""
    kept: dict[str, float] = {}
    for name, subjects in pairs(found):
        floor = subjects[FLOOR]["cpu_ms_all"]
        for subject, each in subjects.items():
            if subject == FLOOR:
                continue
            asked = {what: n for what, n in sent(each).items() if not what.endswith(" events")}
            kept |= {f"{name}, {subject}: {what}": number for what, number in asked.items()}
            if each["jobs"] >= ENOUGH:
                kept[f"{name}, {subject}: {RATIO}"] = each["cpu_ms"]["operator"] / floor
    idle = {each["subject"]: each["idle"] for each in found["subjects"] if "idle" in each}
    return kept | {f"{subject}: {IDLE}": each["requests"] for subject, each in idle.items()}


def room(name: str) -> float:
    """How much more than the fifth a figure may be."""
    if name.endswith(RATIO):
        return 0.0
    return RESYNC if name.endswith(IDLE) else GRAIN


def compared() -> set[str]:
    """Round and subject of what was kept; nothing where nothing was."""
    if not KEPT.exists():
        return set()
    return {name.rpartition(": ")[0] for name in json.loads(KEPT.read_text())
            if not name.endswith(IDLE)}  # fmt: skip


def keep(found: dict[str, Any]) -> None:
    rounded = {name: round(value, 3) for name, value in figures(found).items()}
    write(KEPT, json.dumps(rounded, indent=1) + "\n")


def worse(now: dict[str, float], kept: dict[str, float]) -> dict[str, str]:
    """By its name, a line for each figure beyond its room; requests that are gone are no fault."""
    lines = {}
    for name in {**kept, **now}:
        value, was = now.get(name, 0.0), kept.get(name, 0.0)
        allowed = was * ROOM + room(name)
        if name.endswith(RATIO) and name not in now:
            lines[name] = f"{name}: not measured (kept: {was:.3g})"
        elif value > allowed:
            lines[name] = f"{name}: {value:.3g}, kept {was:.3g}, allowed {allowed:.3g}"
    return lines


def judge(found: dict[str, Any], *, counted: bool = False) -> int:
    """Exit code 1 when anything got worse, or nothing was kept; 0 otherwise.

    `counted` has requests alone decide; ratios of processor time are told in any case.
    """
    if not KEPT.exists():
        print(f"gate: no figures in {KEPT}; make them with --small --keep", file=sys.stderr)
        return 1
    now, kept = figures(found), json.loads(KEPT.read_text())
    for name in (each for each in now if each.endswith(RATIO)):
        print(f"gate: {name}: {now[name]:.3g}, kept {kept.get(name, 0.0):.3g}")
    lines = worse(now, kept)
    if counted:
        lines = {name: line for name, line in lines.items() if not name.endswith(RATIO)}
    for line in lines.values():
        print(f"gate: {line}", file=sys.stderr)
    if not lines:
        print("gate: no kept figure got worse than its room allows")
    return int(bool(lines))
