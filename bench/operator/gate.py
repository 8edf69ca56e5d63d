"""Figures that do not depend on how busy the machine is, held against those that were kept.

Requests are counted, and processor time is compared as a ratio to the floor of the same run. Each
may be a fifth worse than what was kept, as Kueue's rule is for its own; of requests, a quarter of
one more for each job, since on a busy machine some job waits long enough to be read again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.operator.report import pairs
from hack.cluster.shell import write

KEPT = Path(__file__).with_name("kept.json")
ROOM = 1.2
COUNTED = ("operator_writes", "operator_reads")
GRAIN = 0.25
ENOUGH = 20
"""Jobs whose processor time is more than a few ticks of the clock that measures it."""


def figures(found: dict[str, Any]) -> dict[str, float]:
    """Name: value, for every subject but the floor."""
    kept: dict[str, float] = {}
    for name, subjects in pairs(found):
        floor = subjects["floor"]["cpu_ms_all"]
        for subject, each in subjects.items():
            if subject == "floor":
                continue
            kept |= {f"{name}, {subject}: {part}": each[part] for part in COUNTED}
            if each["jobs"] >= ENOUGH:
                kept[f"{name}, {subject}: CPU / floor"] = each["cpu_ms"]["operator"] / floor
    return kept


def keep(found: dict[str, Any]) -> None:
    rounded = {name: round(value, 3) for name, value in figures(found).items()}
    write(KEPT, json.dumps(rounded, indent=1) + "\n")


def worse(now: dict[str, float], kept: dict[str, float]) -> list[str]:
    """A line for each figure that is missing or beyond its room."""
    lines = []
    for name, was in kept.items():
        value = now.get(name)
        allowed = was * ROOM + (GRAIN if name.endswith(COUNTED) else 0)
        if value is None:
            lines.append(f"{name}: not measured (kept: {was:.3g})")
        elif value > allowed:
            lines.append(f"{name}: {value:.3g}, kept {was:.3g}, allowed {allowed:.3g}")
    return lines


def judge(found: dict[str, Any]) -> int:
    """Exit code 1 when anything got worse, or nothing was kept; 0 otherwise."""
    if not KEPT.exists():
        print(f"gate: no figures in {KEPT}; make them with --small --keep", file=sys.stderr)
        return 1
    lines = worse(figures(found), json.loads(KEPT.read_text()))
    for line in lines:
        print(f"gate: {line}", file=sys.stderr)
    if not lines:
        print("gate: no kept figure got worse than its room allows")
    return int(bool(lines))
