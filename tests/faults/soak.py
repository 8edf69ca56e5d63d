"""An hour of random faults against a stream of jobs; what must hold at its end, and the memory.

Usage: python -m tests.faults.soak [--minutes 60] [--every 5] [--seed 1] [--record]
Exit code 1 when a job was lost or doubled, or ended otherwise than it had to, when the operator
holds more and more whenever nothing is left to do, or when somebody ends it early.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.controlplane import ControlPlane
from tests.faults.growth import MEBI, Rest, grows, growth
from tests.faults.install import connect, install, restricted_namespace
from tests.faults.lives import PATIENCE_SECONDS, Lives
from tests.faults.mishaps import Mishaps
from tests.faults.scene import ROOT, Site

from finetuning.controller.gateway import PODS, ApiError, Gateway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RECORD = ROOT / "docs/soak.json"
COUNT = "memory.json"
NAMESPACE = "soak"
CALM_SECONDS = (4.0, 12.0)
"""Between two mishaps."""
LOOK_SECONDS = 1.0
ROUND_SECONDS = 60.0
"""Of faults and new jobs, before everything is let come to rest."""
REST_SECONDS = 6.0
"""After the last object is gone, so that its watch events and delayed looks are done with."""


class Soak:
    """One operator in one namespace of a control plane of its own."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self._rng = random.Random(seed)
        self.mishaps = Mishaps(site, self._rng)
        self.lives = Lives(site, self._rng, self.mishaps.evicted)
        self.rests: list[Rest] = []
        site.program = ["-m", "tests.faults.counted", str(site.plane.folder / COUNT)]
        self._begun = time.monotonic()

    async def run(self, minutes: float, every: float) -> None:
        """Rounds of faults and new jobs for so long; the last jobs of each end in peace."""
        self.site.start_operator()
        at_work = [self._again(act, LOOK_SECONDS) for act in (self._keep, self._look)]
        helpers = [asyncio.create_task(each) for each in (*at_work, self._report())]
        try:
            await self._rounds(minutes * 60, every)
        finally:
            # Also where the soak is told to stop: one of them starts the operator again.
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _rounds(self, end: float, every: float) -> None:
        while self.seconds() < end:
            # The operator is killed in the first quarter only, so that one life shows a slope.
            self.mishaps.spares_operator = self.seconds() >= end / 4
            await self._round(min(self.seconds() + ROUND_SECONDS, end), every)
            await self._rest()

    async def _round(self, end: float, every: float) -> None:
        mishaps = asyncio.create_task(self._mishaps(end))
        lives = await self._stream(end, every)
        await mishaps
        self.site.proxy.faults = []
        await asyncio.wait(lives, timeout=PATIENCE_SECONDS * 2)

    async def _rest(self) -> None:
        """Nothing is left to do: what the operator holds now, it may hold for ever."""
        await self._until_empty()
        await asyncio.sleep(REST_SECONDS)
        process, file = self.site.process, self.site.plane.folder / COUNT
        file.unlink(missing_ok=True)
        if process is None or self.site.process_is_gone():
            return
        process.send_signal(signal.SIGUSR1)
        for _ in range(100):
            if file.exists():
                held = json.loads(file.read_text())
                jobs = self.lives.ended.total()
                self.rests.append(Rest(self.seconds(), self.site.starts, jobs, held))
                print(f"after {jobs} jobs: {in_words(self.rests[-1])}", flush=True)
                return
            await asyncio.sleep(0.1)

    async def _until_empty(self) -> None:
        """The garbage collector takes the last Pods away after their Jobs."""
        end = self.seconds() + PATIENCE_SECONDS
        while self.seconds() < end:
            with contextlib.suppress(ApiError):
                if not [each async for each in self.site.admin.items(PODS, NAMESPACE)]:
                    return
            await asyncio.sleep(1)

    def seconds(self) -> float:
        return time.monotonic() - self._begun

    async def _stream(self, seconds: float, every: float) -> list[asyncio.Task[None]]:
        lives = []
        while self.seconds() < seconds:
            lives.append(asyncio.create_task(self.lives.live()))
            await asyncio.sleep(self._rng.uniform(0, 2 * every))
        return lives

    async def _mishaps(self, seconds: float) -> None:
        while self.seconds() < seconds:
            await asyncio.sleep(self._rng.uniform(*CALM_SECONDS))
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
        """As its Deployment would."""
        if self.site.process_is_gone():
            self.site.start_operator()

    async def _report(self) -> None:
        for minute in range(1, 10_000):
            await asyncio.sleep(60)
            ended, begun = self.lives.ended.total(), self.lives.begun
            print(
                f"minute {minute:3}: {begun} jobs begun, {ended} ended as they had to, "
                f"{len(self.lives.problems)} otherwise, {self.mishaps.counted.total()} faults; "
                f"operator: life {self.site.starts}",
                flush=True,
            )

    def outcome(self) -> dict[str, Any]:
        """What `--record` keeps, and what is judged."""
        lives = self.lives
        exits = [code for code in self.mishaps.exits if code]
        told = growth(self.rests)
        return {
            "minutes": round(self.seconds() / 60),
            "jobs": {"begun": lives.begun, **dict(sorted(lives.ended.items()))},
            "lost": lives.begun - lives.ended.total(),
            "problems": lives.problems,
            "writers": self.site.node.most_writers,
            "trainers": sum("-train-" in pod for pod in self.site.node.started),
            "unclean stops": len(exits),
            "exit codes": " ".join(map(str, exits)),
            "forgotten": len(lives.forgotten),
            "lives": self.site.starts,
            "faults": dict(self.mishaps.counted.most_common()),
            "memory": told | ({"grows": grows(told)} if told else {}),
        }


def in_words(rest: Rest) -> str:
    mebibytes = rest.held["resident"] / MEBI
    blocks = f"{rest.held['blocks']} blocks, {rest.held['malloc'] / MEBI:.1f} MiB of malloc"
    return f"{mebibytes:.1f} MiB, {rest.held['objects']} objects, {blocks} with nothing to do"


def is_well(outcome: dict[str, Any]) -> bool:
    """Nothing lost, nothing doubled, every end as it had to be, and no growth without end."""
    broken = [outcome[name] for name in ("lost", "problems", "unclean stops")]
    return not any([*broken, grows(outcome["memory"])]) and outcome["writers"] == 1


def table(outcome: dict[str, Any]) -> str:
    """The faults that happened, and what held."""
    rows = [*outcome["faults"].items(), ("all faults", sum(outcome["faults"].values()))]
    rows += [(f"jobs {kind}", count) for kind, count in outcome["jobs"].items()]
    held = ("lost", "writers", "trainers", "lives", "unclean stops", "exit codes", "forgotten")
    rows += [(name, outcome[name]) for name in held]
    lines = [f"{name:40} {value:>8}" for name, value in rows]
    memory = [f"memory, {name}: {value}" for name, value in outcome["memory"].items()]
    return "\n".join([*lines, *memory, *grows(outcome["memory"]), *outcome["problems"]])


def end_in_order() -> None:
    """Let SIGTERM, and the end of the terminal, cancel this task as Ctrl-C does.

    By themselves they would end this process alone, and leave what it has started.
    """
    me = asyncio.current_task()
    assert me is not None
    for each in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(each, me.cancel)


async def soak(folder: Path, minutes: float, every: float, seed: int) -> dict[str, Any]:
    end_in_order()
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
        try:
            found = asyncio.run(soak(Path(folder), chosen.minutes, chosen.every, chosen.seed))
        except (asyncio.CancelledError, KeyboardInterrupt):
            print("stopped before its end: nothing is judged, and nothing recorded", flush=True)
            return 1
    found |= {"seconds between jobs": chosen.every, "seed": chosen.seed}
    print(table(found))
    if chosen.record:
        RECORD.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if is_well(found) else 1


if __name__ == "__main__":
    sys.exit(main())
