"""The trainer beside TRL, torchtune and a bare loop: speed, start, memory, the cost of metrics.

Usage: python -m bench.train.speed [--rounds N] [--only NAME ...] [--results FILE]

Same model, rows, order, loss and tokens on every side, one thread, each run in a process of its
own, the sides by turns within each round. A ratio is taken within a round; the table has the median
of the rounds and, in brackets, the lowest and the highest. Processor seconds stand beside wall
seconds: on a machine that others use as well only the former say what the code costs.
"""

import argparse
import atexit
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.train import start
from bench.train.picture import draw
from bench.train.sides import TELEMETRY_BLOCK, Order, flags

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "train.json"
PICTURE = ROOT / "docs" / "images" / "speed.svg"
PEERS = Path(sys.prefix) / "peers" / "bin" / "python"
"""Of the environment with torchtune, where it could be made."""
SKIPPED = 2
"""First steps that are left out: buffers are made there, and files read for the first time."""

QUIET = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""For all sides, as this trainer sets it for itself."""

Run = dict[str, Any]
Rounds = list[dict[str, Run]]


@dataclass(frozen=True)
class Case:
    """One comparison; `sides` maps a name to what that side is told besides."""

    about: str
    model: str
    steps: int
    batch: int
    sides: dict[str, dict[str, Any]]
    rows: str = "rows"
    method: str = "full"


ALL: dict[str, dict[str, Any]] = {"ours": {}, "trl": {}, "bare": {}}
WITH_PEERS = ALL | ({"torchtune": {}} if PEERS.exists() else {})
CASES = {
    "full": Case("10 M parameters, full", "10M", 10, 4, WITH_PEERS),
    "lora": Case("10 M parameters, lora", "10M", 10, 4, WITH_PEERS, method="lora"),
    "large": Case("100 M parameters, lora", "100M", 6, 2, WITH_PEERS, method="lora"),
    "short": Case(
        "short rows: packing beside TRL's defaults",
        "10M",
        7,
        8,
        {"ours": {"packing": True, "plain": False, "batch": 2}, "trl": {"plain": False}},
    ),
    "fixed": Case("a step of next to nothing", "tiny", 150, 1, ALL, rows="eight", method="lora"),
}
TELEMETRY = {
    # Of few rows, so that steps with and without take the same ones.
    "telemetry-tiny": Case("metrics on and off", "tiny", 150, 1, {"ours": {}}, "eight", "lora"),
}


def order_of(case: Case, side: str, root: Path, output: Path) -> Order:
    suffix = "" if side == "ours" else "-taken"
    order = Order(
        side=side,
        model=str(root / case.model),
        rows=str(root / f"{case.rows}{suffix}"),
        output=str(output),
        steps=case.steps,
        batch=case.batch,
        method=case.method,
    )
    return replace(order, **case.sides[side])


class Side:
    """A process with everything loaded that forks for each run."""

    def __init__(self, name: str) -> None:
        python = PEERS if name == "torchtune" else sys.executable
        command = [python, "-m", "bench.train.sides", name]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, order: Order) -> Run:
        """The figures of one run; raises RuntimeError with its log."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline().strip() != "0":
            log = Path(order.output, "log.txt")
            raise RuntimeError(f"{order}:\n{log.read_text()[-3000:] if log.exists() else ''}")
        found: Run = json.loads(Path(order.output, "seen.json").read_text())
        return found

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


@cache
def side_of(name: str) -> Side:
    side = Side(name)
    atexit.register(side.close)
    return side


def run(order: Order) -> Run:
    return side_of(order.side).run(order)


def speeds(seen: Run) -> Run:
    """Means over the steps, the first ones left out; the last one has no end that was seen."""
    wall, cpu, tokens = (seen[key][SKIPPED:] for key in ("wall", "cpu", "tokens"))
    steps, done = len(wall) - 1, sum(tokens[:-1])
    return {
        "cpu_ms": 1000 * (cpu[-1] - cpu[0]) / steps,
        "wall_ms": 1000 * (wall[-1] - wall[0]) / steps,
        "tokens_per_cpu_s": done / (cpu[-1] - cpu[0]),
        "tokens_per_s": done / (wall[-1] - wall[0]),
        "peak_rss_mb": seen["peak_rss"] / 1e6,
        "losses": seen["losses"],
    }


def telemetry(seen: Run) -> Run:
    """Median processor milliseconds of a step, with metrics, state and history and without."""
    gaps = [after - before for before, after in zip(seen["cpu"], seen["cpu"][1:], strict=False)]
    block = [n // TELEMETRY_BLOCK % 2 for n in range(len(gaps))]
    on, off = (
        [gap for n, gap in enumerate(gaps) if block[n] == wish and n >= 2 * TELEMETRY_BLOCK]
        for wish in (0, 1)
    )
    return {"on_ms": 1000 * statistics.median(on), "off_ms": 1000 * statistics.median(off)}


def one_round(case: Case, root: Path, number: int) -> dict[str, Run]:
    """Every side once, another one first in each round."""
    names = list(case.sides)
    at = number % len(names)
    found = {}
    for side in names[at:] + names[:at]:
        with tempfile.TemporaryDirectory() as output:
            found[side] = speeds(run(order_of(case, side, root, Path(output))))
    return found


def telemetry_round(case: Case, root: Path) -> dict[str, Run]:
    with tempfile.TemporaryDirectory() as output:
        order = replace(order_of(case, "ours", root, Path(output)), telemetry=False)
        return {"ours": telemetry(run(order))}


def start_round(root: Path) -> dict[str, Run]:
    """To the first loss, and to the end of the help."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        order = order_of(CASES["lora"], "ours", root, Path(folder) / "ours")
        mine = [sys.executable, "-m", "finetuning.base.app"]
        theirs = start.trl_sft(root / "10M", root / "rows-taken", Path(folder) / "trl")
        for side, command, help_command in (
            ("ours", [*mine, *flags(replace(order, steps=1))], [*mine, "--help"]),
            ("trl", theirs, [start.trl(), "sft", "--help"]),
        ):
            first, shown = start.to_first_loss(command), start.whole(help_command)
            found[side] = {
                "cpu_s": first.cpu,
                "wall_s": first.wall,
                "help_cpu_s": shown.cpu,
                "help_wall_s": shown.wall,
            }
    return found


def ratio(rounds: Rounds, key: str, over: str, under: str) -> tuple[float, float, float]:
    """Median, lowest and highest of the ratio within each round."""
    found = [each[over][key] / each[under][key] for each in rounds]
    return statistics.median(found), min(found), max(found)


def shown(figures: tuple[float, float, float]) -> str:
    return "{:.2f} ({:.2f}-{:.2f})".format(*figures)


def median(rounds: Rounds, side: str, key: str) -> float:
    return statistics.median(each[side][key] for each in rounds)


def loss_difference(rounds: Rounds, side: str) -> float:
    """The largest between this trainer's and a side's losses of the same step."""
    return max(
        abs(a - b)
        for each in rounds
        for a, b in zip(each["ours"]["losses"], each[side]["losses"], strict=True)
    )


def print_case(name: str, rounds: Rounds) -> None:
    case = CASES[name]
    print(f"\n{case.about} ({len(rounds)} rounds)")
    print(f"  {'':<10}{'tokens/CPU s':>13}{'tokens/s':>10}{'CPU ms/step':>13}{'peak MB':>9}")
    for side in case.sides:
        keys = ("tokens_per_cpu_s", "tokens_per_s", "cpu_ms", "peak_rss_mb")
        figures = [median(rounds, side, key) for key in keys]
        print("  {:<10}{:>13.0f}{:>10.0f}{:>13.2f}{:>9.0f}".format(side, *figures))
    for side in list(case.sides)[1:]:
        by_cpu, by_wall, memory = (
            shown(ratio(rounds, key, "ours", side))
            for key in ("tokens_per_cpu_s", "tokens_per_s", "peak_rss_mb")
        )
        print(f"  ours / {side}: tokens {by_cpu} by CPU, {by_wall} by the clock; memory {memory}")
        if name == "full":
            print(f"    losses differ by at most {loss_difference(rounds, side):.1e}")
    if name == "fixed":
        for side in ("ours", "trl"):
            extra = [each[side]["cpu_ms"] - each["bare"]["cpu_ms"] for each in rounds]
            figures = statistics.median(extra), min(extra), max(extra)
            print(f"  {side} over the bare loop: {shown(figures)} ms of CPU a step")


def print_start(rounds: Rounds) -> None:
    print(f"\nfrom the command to the first loss, and --help ({len(rounds)} rounds)")
    for side in ("ours", "trl"):
        keys = ("cpu_s", "wall_s", "help_cpu_s", "help_wall_s")
        figures = [median(rounds, side, key) for key in keys]
        text = "  {:<6}{:>7.2f} CPU s{:>8.2f} s    help {:>6.2f} CPU s{:>7.2f} s"
        print(text.format(side, *figures))
    by_cpu, by_wall = (shown(ratio(rounds, key, "ours", "trl")) for key in ("cpu_s", "wall_s"))
    print(f"  ours / trl: {by_cpu} by CPU, {by_wall} by the clock")


def print_telemetry(name: str, rounds: Rounds) -> None:
    costs = [each["ours"]["on_ms"] - each["ours"]["off_ms"] for each in rounds]
    shares = [cost / each["ours"]["off_ms"] for cost, each in zip(costs, rounds, strict=True)]
    cost = shown((statistics.median(costs), min(costs), max(costs)))
    print(f"\nmetrics, state and history, {name.removeprefix('telemetry-')} ({len(rounds)} rounds)")
    print(f"  {cost} ms of CPU a step, {100 * statistics.median(shares):.1f} % of it")


def collect(names: list[str], count: int, root: Path, results: Path) -> dict[str, Rounds]:
    """Round by round; what is there is kept after each comparison."""
    kinds: dict[str, Callable[[int], dict[str, Run]]] = {
        **{name: lambda n, case=case: one_round(case, root, n) for name, case in CASES.items()},  # type: ignore[misc]
        **{
            name: lambda _, case=case: telemetry_round(case, root)  # type: ignore[misc]
            for name, case in TELEMETRY.items()
        },
        "start": lambda _: start_round(root),
    }
    found: dict[str, Rounds] = {name: [] for name in names}
    for number in range(count):
        for name in names:
            print(f"round {number + 1} of {count}: {name}", file=sys.stderr)
            found[name].append(kinds[name](number))
            keep({name: rounds for name, rounds in found.items() if rounds}, results)
    return found


def show(found: dict[str, Rounds]) -> None:
    for name, rounds in found.items():
        if name in CASES:
            print_case(name, rounds)
        elif name in TELEMETRY:
            print_telemetry(name, rounds)
        else:
            print_start(rounds)


def keep(found: dict[str, Rounds], path: Path) -> dict[str, Rounds]:
    """What was measured now and, of the other cases, before."""
    before = json.loads(path.read_text())["rounds"] if path.exists() else {}
    rounds = before | found
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "threads": 1}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rounds": rounds}, indent=1) + "\n")
    return rounds


def main() -> None:
    names = [*CASES, *TELEMETRY, "start"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args()
    if not PEERS.exists():
        print("torchtune is left out: `make bench-peers` has not installed it", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"HF_HOME": f"{folder}/cache", "HF_HUB_OFFLINE": "1", **QUIET}
        models = {(CASES | TELEMETRY).get(name, CASES["lora"]).model for name in options.only}
        command = [sys.executable, "-m", "bench.train.material", folder, *sorted(models)]
        subprocess.run(command, check=True, cwd=ROOT, stderr=subprocess.DEVNULL)
        found = collect(options.only, options.rounds, Path(folder), options.results)
    show(found)
    draw(keep(found, options.results), options.picture)


if __name__ == "__main__":
    main()
