"""An hour of random faults against a stream of jobs; what must hold at its end, and the memory.

Usage: python -m tests.faults.soak [--minutes 60] [--every 5] [--seed 1] [--record]
Exit code 1 when a job was lost or doubled, or ended otherwise than it had to.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.controlplane import ControlPlane
from tests.faults.install import connect, install, restricted_namespace
from tests.faults.lives import PATIENCE_SECONDS, Lives
from tests.faults.mishaps import Mishaps
from tests.faults.scene import ROOT, Site

from finetuning.controller.gateway import ApiError, Gateway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RECORD = ROOT / "docs/soak.json"
NAMESPACE = "soak"
CALM_SECONDS = (4.0, 12.0)
"""Between two mishaps."""
LOOK_SECONDS = 1.0
WARM_SECONDS = 60.0
"""Of a life of the operator, before its memory is measured."""


@dataclass(frozen=True)
class Sample:
    """Of the operator's memory."""

    seconds: float
    life: int
    mebibytes: float


class Soak:
    """One operator in one namespace of a control plane of its own."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self._rng = random.Random(seed)
        self.mishaps = Mishaps(site, self._rng)
        self.lives = Lives(site, self._rng, self.mishaps.evicted)
        self.samples: list[Sample] = []
        self._begun = time.monotonic()

    async def run(self, minutes: float, every: float) -> None:
        """Faults and new jobs for so long; then the last jobs end in peace."""
        self.site.start_operator()
        at_work = [self._again(act, LOOK_SECONDS) for act in (self._keep, self._look)]
        helpers = [asyncio.create_task(each) for each in (*at_work, self._report())]
        mishaps = asyncio.create_task(self._mishaps(minutes * 60))
        lives = await self._stream(minutes * 60, every)
        await mishaps
        self.site.proxy.faults = []
        await asyncio.wait(lives, timeout=PATIENCE_SECONDS * 2)
        for task in helpers:
            task.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)

    def seconds(self) -> float:
        return time.monotonic() - self._begun

    async def _stream(self, seconds: float, every: float) -> list[asyncio.Task[None]]:
        lives = []
        while self.seconds() < seconds:
            lives.append(asyncio.create_task(self.lives.live()))
            await asyncio.sleep(self._rng.uniform(0, 2 * every))
        return lives

    async def _mishaps(self, seconds: float) -> None:
        """The operator is killed in the first half only, so that one life of it shows a slope."""
        while self.seconds() < seconds:
            await asyncio.sleep(self._rng.uniform(*CALM_SECONDS))
            self.mishaps.spares_operator = self.seconds() > seconds / 2
            await self.mishaps.happen()

    async def _again(self, act: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            with contextlib.suppress(ApiError):
                await act()
            await asyncio.sleep(seconds)

    async def _look(self) -> None:
        await self.lives.look()
        await self.site.node.look()

    async def _keep(self) -> None:
        """As its Deployment would; and note its memory."""
        process = self.site.process
        if self.site.process_is_gone() or process is None:
            self.site.start_operator()
            return
        with contextlib.suppress(OSError, IndexError):
            mebibytes = resident_mebibytes(process.pid)
            self.samples.append(Sample(self.seconds(), self.site.starts, mebibytes))

    async def _report(self) -> None:
        for minute in range(1, 10_000):
            await asyncio.sleep(60)
            ended, begun = self.lives.ended.total(), self.lives.begun
            memory = f"{self.samples[-1].mebibytes:.0f} MiB" if self.samples else "not up"
            print(
                f"minute {minute:3}: {begun} jobs begun, {ended} ended as they had to, "
                f"{len(self.lives.problems)} otherwise, {self.mishaps.counted.total()} faults; "
                f"operator: life {self.site.starts}, {memory}",
                flush=True,
            )

    def outcome(self) -> dict[str, Any]:
        """What `--record` keeps, and what is judged."""
        lives = self.lives
        exits = [code for code in self.mishaps.exits if code]
        return {
            "minutes": round(self.seconds() / 60),
            "jobs": {"begun": lives.begun, **dict(sorted(lives.ended.items()))},
            "lost": lives.begun - lives.ended.total(),
            "problems": lives.problems,
            "writers": self.site.node.most_writers,
            "trainers": sum("-train-" in pod for pod in self.site.node.started),
            "unclean stops": len(exits),
            "forgotten": len(lives.forgotten),
            "lives": self.site.starts,
            "faults": dict(self.mishaps.counted.most_common()),
            "memory": memory(self.samples),
        }


def resident_mebibytes(pid: int) -> float:
    """Raises OSError when the process is gone."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def memory(samples: list[Sample]) -> dict[str, float]:
    """Of the operator's longest life, without its first minute: ends and slope in MiB."""
    by_life: dict[int, list[Sample]] = {}
    for each in samples:
        by_life.setdefault(each.life, []).append(each)
    longest = max(by_life.values(), key=len, default=[])
    kept = [s for s in longest if s.seconds - longest[0].seconds >= WARM_SECONDS]
    if len(kept) < 2:
        return {}
    minutes = (kept[-1].seconds - kept[0].seconds) / 60
    return {
        "minutes": round(minutes, 1),
        "from": round(kept[0].mebibytes, 1),
        "to": round(kept[-1].mebibytes, 1),
        "MiB per hour": round(60 * slope(kept), 1),
    }


def slope(samples: list[Sample]) -> float:
    """MiB a minute, by least squares."""
    times = [each.seconds / 60 for each in samples]
    mean = sum(times) / len(times)
    level = sum(each.mebibytes for each in samples) / len(samples)
    spread = sum((t - mean) ** 2 for t in times)
    pairs = zip(times, samples, strict=True)
    return sum((t - mean) * (each.mebibytes - level) for t, each in pairs) / spread


def is_well(outcome: dict[str, Any]) -> bool:
    """Nothing lost, nothing doubled, every end as it had to be."""
    broken = (outcome["lost"], outcome["problems"], outcome["unclean stops"])
    return not any(broken) and outcome["writers"] == 1


def table(outcome: dict[str, Any]) -> str:
    """The faults that happened, and what held."""
    rows = [*outcome["faults"].items(), ("all faults", sum(outcome["faults"].values()))]
    rows += [(f"jobs {kind}", count) for kind, count in outcome["jobs"].items()]
    for name in ("lost", "writers", "trainers", "lives", "unclean stops", "forgotten"):
        rows.append((name, outcome[name]))
    rows += [(f"memory: {name}", value) for name, value in outcome["memory"].items()]
    lines = [f"{name:40} {value:>8}" for name, value in rows]
    return "\n".join([*lines, *outcome["problems"]])


async def soak(folder: Path, minutes: float, every: float, seed: int) -> dict[str, Any]:
    plane = ControlPlane(folder)
    admin: Gateway | None = None
    site: Site | None = None
    try:
        plane.start()
        admin = await connect(plane)
        await install(admin)
        await restricted_namespace(admin, NAMESPACE)
        site = Site(plane, admin, NAMESPACE)
        await site.proxy.start()
        run = Soak(site, seed)
        await run.run(minutes, every)
        return run.outcome()
    finally:
        if site is not None:
            await site.close()
        if admin is not None:
            await admin.close()
        plane.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60, help="default: %(default)s")
    parser.add_argument("--every", type=float, default=5, help="seconds between two jobs")
    parser.add_argument("--seed", type=int, default=1, help="of what happens when")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.relative_to(ROOT)}")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(soak(Path(folder), chosen.minutes, chosen.every, chosen.seed))
    found |= {"seconds between jobs": chosen.every, "seed": chosen.seed}
    print(table(found))
    if chosen.record:
        RECORD.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if is_well(found) else 1


if __name__ == "__main__":
    sys.exit(main())
