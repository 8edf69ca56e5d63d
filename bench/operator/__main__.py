"""The operator's speed and cost beside plain batch Jobs, in one run on one machine.

Usage: python -m bench.operator [--rounds 10x1,100,1000] [--small] [--gate] [--help]

Each subject has a control plane of its own, real and empty (etcd, API server, controller manager
and scheduler on free ports; nodes and pods by KWOK), and plays the same rounds there. Figures of
one run compare with each other; another machine, or the same one on a busy day, has others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.operator import gate, load, pictures, report, rounds, sizes, stand_ins, workload
from bench.operator.command import exit_code
from bench.operator.plane import Plane
from bench.operator.process import OperatorProcess
from bench.operator.rounds import Contest
from bench.operator.watcher import Client, established, usable
from bench.operator.workload import (
    CRD,
    DEFINITIONS,
    ROOT,
    SETTINGS,
    SUBJECTS,
    Round,
    Subject,
)
from hack.cluster import monitoring, tools
from hack.cluster.shell import write

from finetuning.controller.gateway import POD_MONITORS, SERVICE_MONITORS
from finetuning.controller.settings import MonitoringMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.operator.load import Load

IDLE_SECONDS = 10.0
NO_PEER = (
    "Kubeflow Trainer is left out: its JobSet cannot be had from here; "
    "docs/performance.md has what both cost elsewhere"
)
SMALL = {"rounds": "3x1,40", "pod_seconds": 2.0, "subjects": "floor,validated"}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m bench.operator", description=__doc__)
    found.add_argument("--rounds", default="10x1,100,1000", help="jobs at once, or Nx1 in a row")
    found.add_argument("--subjects", default=",".join(SUBJECTS), help="of %(default)s")
    found.add_argument("--gpus", type=int, default=160, help="that the nodes offer")
    found.add_argument("--pod-seconds", type=float, default=10.0, help="that each pod runs")
    found.add_argument(
        "--monitoring",
        default=MonitoringMode.PER_JOB.value,
        choices=[mode.value for mode in MonitoringMode],
        help="the operator's monitoring mode",
    )
    found.add_argument("--rate", default="", help="of creations at once, such as 10/s")
    found.add_argument("--failing", default="0", help="share of jobs whose training fails")
    found.add_argument("--deleted", default="0", help="share deleted when their pod is there")
    found.add_argument("--restart", default="", help="operator or apiserver, in the middle")
    found.add_argument("--limit", type=float, default=900.0, help="seconds that a round may take")
    found.add_argument(
        "--small", action="store_true", help=f"the gate's form, where nothing else is said: {SMALL}"
    )
    found.add_argument(
        "--gate",
        nargs="?",
        const="all",
        choices=("all", "counted"),
        help="exit 1 when a kept figure got worse; counted: a count of requests",
    )
    found.add_argument("--keep", action="store_true", help="make this run's figures the gate's")
    found.add_argument("--output", type=Path, default=ROOT / "build" / "bench-operator")
    found.add_argument("--profile", type=Path, help="folder for cProfile's record of the operator")
    return found


def read_rounds(text: str) -> list[Round]:
    """Raises ValueError for what is neither N nor Nx1."""
    found = []
    for word in text.split(","):
        number, x, each = word.partition("x")
        if not number.isdecimal() or int(number) < 1 or (x and each != "1"):
            raise ValueError(f"--rounds {word!r}: give counts such as 100, or 10x1 for one by one")
        found.append(Round(int(number), one_by_one=bool(x)))
    once("rounds", text, found)
    return found


def once(option: str, text: str, found: Sequence[object]) -> None:
    """Raises ValueError for what is there twice: both would have the same names."""
    if len(set(found)) < len(found):
        raise ValueError(f"--{option} {text}: give each once")


def read_subjects(text: str) -> list[Subject]:
    """Raises ValueError for a name that is none."""
    unknown = set(text.split(",")) - set(SUBJECTS)
    if unknown:
        raise ValueError(f"--subjects {unknown.pop()!r}: choose from {', '.join(SUBJECTS)}")
    once("subjects", text, text.split(","))
    return [SUBJECTS[name] for name in text.split(",")]


def check(chosen: argparse.Namespace) -> None:
    """Raises ValueError for an amount of which nothing comes."""
    for name in ("gpus", "pod_seconds", "limit"):
        value = getattr(chosen, name)
        if not 0 < value < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} {value:g}: give more than 0")
    for name in ("output", "profile"):
        folder: Path | None = getattr(chosen, name)
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"--{name} {folder}: {error.strerror}; give a folder that can be made"
            raise ValueError(problem) from error


def definitions() -> list[Path]:
    """Of the jobs, and of what the operator makes for Prometheus in any of its modes."""
    made = tuple(f"_{resource.plural}.yaml" for resource in (SERVICE_MONITORS, POD_MONITORS))
    return [CRD, *(file for file in monitoring.crds() if file.name.endswith(made))]


def check_floor(chosen: argparse.Namespace, subjects: list[Subject]) -> None:
    """Raises ValueError where figures are to be compared with a floor that is not measured."""
    if (chosen.gate or chosen.keep) and all(each.name != report.FLOOR for each in subjects):
        problem = f"--subjects {chosen.subjects}: --gate and --keep need {report.FLOOR} as well"
        raise ValueError(problem)


def check_gate(
    chosen: argparse.Namespace, subjects: list[Subject], wanted: list[Round], befalling: Load
) -> None:
    """Raises ValueError where the gate has nothing of what is going to be measured."""
    if not chosen.gate or chosen.keep:
        return
    rounds_of = [
        report.heading(each.jobs, one_by_one=each.one_by_one,
                       load="" if each.one_by_one else befalling.told())
        for each in wanted
    ]  # fmt: skip
    names = {f"{name}, {each.name}" for name in rounds_of for each in subjects if each.operator}
    kept = gate.compared()
    if kept and not (names and names <= kept):
        here = "; ".join(sorted(names - kept)) or "no subject with an operator"
        problem = f"--rounds {chosen.rounds} --subjects {chosen.subjects}: --gate has no figures"
        raise ValueError(f"{problem} of {here}; kept are {'; '.join(sorted(kept))} (--small)")


def say(line: str) -> None:
    print(f"bench: {line}", flush=True)


class Bench:
    """One run with its choices."""

    def __init__(self, chosen: argparse.Namespace, load: Load, folder: Path) -> None:
        self.chosen, self.load, self.folder = chosen, load, folder

    def run(self, subjects: Iterable[Subject], wanted: list[Round]) -> dict[str, Any]:
        """All figures; where something breaks, those that were there before it are told."""
        results: list[dict[str, Any]] = []
        about: dict[str, Any] = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "load": self.load.figures(),
            "kubernetes": tools.kubernetes_version(),
            "cpus": os.cpu_count(),
            **{name: getattr(self.chosen, name) for name in ("gpus", "pod_seconds", "monitoring")},
            "subjects": results,
        }
        try:
            for subject in subjects:
                results.append({"subject": subject.name, "rounds": []})
                self._contend(subject, wanted, results[-1])
        except (Exception, KeyboardInterrupt):
            self._tell(about)
            raise
        return about

    def _tell(self, found: dict[str, Any]) -> None:
        """A run that broke has no picture, no verdict and no place on the page."""
        found["subjects"] = [each for each in found["subjects"] if each["rounds"]]
        if found["subjects"]:
            print(report.table(found))
            file = self.chosen.output / f"{found['started'].replace(':', '')}.broken.json"
            write(file, json.dumps(found, indent=1) + "\n")
            say(f"figures until then: {file}")

    def _contend(self, subject: Subject, wanted: list[Round], found: dict[str, Any]) -> None:
        """One subject on a control plane of its own; its figures go into `found`."""
        say(f"{subject.name}: starting a control plane")
        with ExitStack() as stack:
            plane = stack.enter_context(Plane(self.folder / subject.name, self.chosen.pod_seconds))
            asyncio.run(self._furnish(plane))
            operator = None
            if subject.operator:
                operator = OperatorProcess(plane, self.chosen.monitoring, self._record(subject))
                stack.callback(operator.stop)
                found["ready_empty"] = operator.start()
            for each in wanted:
                found["rounds"].append(asyncio.run(self._play(plane, subject, operator, each)))
            if operator is not None:
                found |= self._afterwards(plane, operator)

    def _record(self, subject: Subject) -> Path | None:
        folder: Path | None = self.chosen.profile
        if folder is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{subject.name}.prof"

    async def _furnish(self, plane: Plane) -> None:
        """Definitions, nodes, and the namespace where the operator has its Lease."""
        client = Client(plane)
        try:
            for file in definitions():
                await client.create_text(DEFINITIONS, file.read_text())
            await client.until(DEFINITIONS, established)
            plane.start_rest()
            own = workload.named("Namespace", SETTINGS.deployment_namespace)
            await client.create("/api/v1/namespaces", own)
            for number in range(-(-self.chosen.gpus // stand_ins.GPUS_PER_NODE)):
                node = stand_ins.node(number, SETTINGS.gpu_resource_name)
                await client.create("/api/v1/nodes", node)
            await client.until("/api/v1/nodes", usable)
        finally:
            await client.close()

    async def _play(
        self, plane: Plane, subject: Subject, operator: OperatorProcess | None, wanted: Round
    ) -> dict[str, Any]:
        client = Client(plane)
        try:
            contest = Contest(plane, client, subject, operator, self.load, say)
            found = await rounds.play(contest, wanted, self.chosen.limit)
            if subject.validation:
                objects = await sizes.one_job(client, contest.namespace(wanted))
                write(self.chosen.output / "objects.json", json.dumps(objects) + "\n")
        finally:
            await client.close()
        say(f"{subject.name} {wanted.name}: all done after {found['all_done']:.1f} s")
        return found

    def _afterwards(self, plane: Plane, operator: OperatorProcess) -> dict[str, Any]:
        """What finished jobs cost, and how long a restart takes with all of them there."""
        say("idle for a while, then a restart")
        idle = rounds.idle(plane, operator, IDLE_SECONDS)
        operator.stop()
        return {"idle": idle, "ready_again": operator.start()}


def read(arguments: list[str]) -> argparse.Namespace:
    """The flags; the gate's form changes what is said where they are silent."""
    known = parser()
    if known.parse_args(arguments).small:
        known.set_defaults(**SMALL)
    return known.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Exit code: 0, 1 where the gate or the bench fails, 2 for wrong arguments."""
    chosen = read(arguments)
    try:
        check(chosen)
        subjects, wanted = read_subjects(chosen.subjects), read_rounds(chosen.rounds)
        check_floor(chosen, subjects)
        befalling = load.read(chosen.rate, chosen.failing, chosen.deleted, chosen.restart)
        check_gate(chosen, subjects, wanted, befalling)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    if not chosen.small:
        say(NO_PEER)

    def run() -> int:
        temporary = tempfile.TemporaryDirectory(
            prefix="finetuning-bench-", ignore_cleanup_errors=True
        )
        with temporary as folder:
            found = Bench(chosen, befalling, Path(folder)).run(subjects, wanted)
        return conclude(found, chosen)

    return exit_code(run)


def conclude(found: dict[str, Any], chosen: argparse.Namespace) -> int:
    """Print the table, keep the figures, draw, and judge."""
    print(report.table(found))
    file = chosen.output / f"{found['started'].replace(':', '')}.json"
    write(file, json.dumps(found, indent=1) + "\n")
    say(f"figures: {file}")
    for kind in ("svg", "png"):
        picture = chosen.output / f"operator.{kind}"
        pictures.draw(found, picture)
        say(f"picture: {picture}")
    if chosen.keep:
        gate.keep(found)
    return gate.judge(found, counted=chosen.gate == "counted") if chosen.gate else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
