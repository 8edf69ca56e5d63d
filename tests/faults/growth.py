"""Whether a process grows without end: what it holds whenever nothing is left to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MEBI = 1 << 20
SETTLING = 1
"""Rests at the start of a life that are not counted: late imports, pools of connections."""
FEWEST = 4
"""Rests that say something."""
MOST = {"objects": 5.0, "blocks": 25.0, "malloc": 4096.0}
"""Per job. What is kept for a job is more than that, and noise over forty jobs less."""
MOST_RESIDENT = 4.0
"""MiB an hour: what is free within Python's and glibc's arenas varies by about a MiB,"""
FEWEST_MINUTES = 20.0
"""so that less time than this says nothing of it."""


@dataclass(frozen=True)
class Rest:
    """A moment with no job in the cluster."""

    seconds: float
    life: int
    """Of the operator; a new process begins anew."""
    jobs: int
    """Ended so far."""
    held: dict[str, Any]
    """As `counted.count` tells it."""


def settled(rests: list[Rest]) -> list[Rest]:
    """Those of the longest life, once it has warmed up."""
    lives: dict[int, list[Rest]] = {}
    for each in rests:
        lives.setdefault(each.life, []).append(each)
    return max(lives.values(), key=len, default=[])[SETTLING:]


def growth(rests: list[Rest]) -> dict[str, Any]:
    """By the job and by the hour; empty where too few rests say anything."""
    kept = settled(rests)
    if len(kept) < FEWEST:
        return {}
    jobs = [float(each.jobs) for each in kept]
    hours = [each.seconds / 3600 for each in kept]
    by_job = {name: slope(jobs, [float(each.held[name]) for each in kept]) for name in MOST}
    resident = [each.held["resident"] / MEBI for each in kept]
    return {
        "rests": len(kept),
        "minutes": round((kept[-1].seconds - kept[0].seconds) / 60, 1),
        "jobs": kept[-1].jobs - kept[0].jobs,
        "per job": {name: round(value, 3) for name, value in by_job.items()},
        "MiB": [round(each, 1) for each in resident],
        "objects": [each.held["objects"] for each in kept],
        "MiB per hour": round(slope(hours, resident), 2),
        "types": _types_that_grow(jobs, kept),
        "most per job": MOST,
        "most resident": MOST_RESIDENT,
        "fewest minutes": FEWEST_MINUTES,
    }


def slope(along: list[float], values: list[float]) -> float:
    """Of the line below the noise, by least squares."""
    middle, level = sum(along) / len(along), sum(values) / len(values)
    spread = sum((each - middle) ** 2 for each in along)
    pairs = zip(along, values, strict=True)
    return sum((each - middle) * (value - level) for each, value in pairs) / spread


def grows(found: dict[str, Any]) -> list[str]:
    """What is beyond its bound, in words; nothing where too few rests were seen."""
    if not found:
        return []
    beyond = [
        f"{value} {name} more with each job, at most {MOST[name]}"
        for name, value in found["per job"].items()
        if value > MOST[name]
    ]
    if found["minutes"] >= FEWEST_MINUTES and found["MiB per hour"] > MOST_RESIDENT:
        beyond.append(f"{found['MiB per hour']} MiB an hour, at most {MOST_RESIDENT}")
    return beyond


def _types_that_grow(jobs: list[float], kept: list[Rest]) -> dict[str, float]:
    """Those of which a good part of an object stays with each job."""
    names = {name for each in kept for name in each.held["types"]}
    found = {
        name: slope(jobs, [float(each.held["types"].get(name, 0)) for each in kept])
        for name in sorted(names)
    }
    limit = MOST["objects"] / 10
    return {name: round(value, 2) for name, value in found.items() if value > limit}
