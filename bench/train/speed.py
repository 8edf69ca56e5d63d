"""The trainer beside TRL, torchtune and a bare loop: speed, start, memory, the cost of metrics.

Usage: python -m bench.train.speed [--rounds N] [--only NAME ...] [--results FILE]

Same model, rows, order, loss and tokens on every side, one thread, each side in a process of its
own; they take turns, mostly after every step. A ratio is taken within a round; the table has the
median of the rounds and, in brackets, the lowest and the highest. Processor seconds stand beside
wall seconds: on a machine that others use as well only the former say what the code costs.

Table and picture of the documentation are renewed at the end, unless the figures go into another
file; `python -m bench.train.page` renews them without measuring.
"""

import argparse
import atexit
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bench.train import start
from bench.train.page import RESULTS, renew
from bench.train.sides import TELEMETRY_BLOCK, Order, flags
from bench.train.table import Rounds, Run, in_text
from bench.train.turns import listening, take

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
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


@dataclass(frozen=True)
class Case:
    """One comparison; `sides` maps a name to what that side is told besides."""

    model: str
    steps: int
    batch: int
    sides: dict[str, dict[str, Any]]
    rows: str = "rows"
    method: str = "full"
    turn: int = 1
    """Steps of a side before the next one's; more than one where a step is shorter than what it
    takes to have its own data in the processor's caches again."""


ALL: dict[str, dict[str, Any]] = {"ours": {}, "trl": {}, "bare": {}}
WITH_PEERS = ALL | ({"torchtune": {}} if PEERS.exists() else {})
CASES = {
    "full": Case("10M", 12, 4, WITH_PEERS),
    "lora": Case("10M", 12, 4, WITH_PEERS, method="lora"),
    "large": Case("100M", 8, 2, WITH_PEERS, method="lora"),
    "short": Case(
        "10M",
        8,
        8,
        {"ours": {"packing": True, "plain": False, "batch": 2}, "trl": {"plain": False}},
    ),
    "fixed": Case("tiny", 301, 1, ALL, rows="eight", method="lora", turn=20),
}
# Of few rows, so that steps with and without take the same ones.
TELEMETRY = {
    "telemetry-tiny": Case("tiny", 200, 1, {"ours": {}}, "eight", "lora"),
    "telemetry-10M": Case("10M", 200, 1, {"ours": {}}, "eight", "full"),
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
        turn=case.turn,
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

    def start(self, order: Order) -> IO[str]:
        """Begin a run; the answer is where a line comes when it has ended."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        return self._process.stdout

    def figures(self, order: Order) -> Run:
        """Of the run that was started; raises RuntimeError with its log."""
        if self._process.stdout is None:
            raise AssertionError
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


def run(orders: dict[str, Order]) -> dict[str, Run]:
    """Figures of each side; they take turns where there are several."""
    address = f"\0finetuning-bench-{os.getpid()}" if len(orders) > 1 else ""
    orders = {name: replace(order, turns=address) for name, order in orders.items()}
    starts = {name: partial(side_of(name).start, order) for name, order in orders.items()}
    if address:
        with listening(address) as place:
            take(place, starts)
    else:
        for begin in starts.values():
            begin()
    return {name: side_of(name).figures(order) for name, order in orders.items()}


def speeds(seen: Run) -> Run:
    """Means over the steps, the first ones left out, and the median step's processor time."""
    wall, cpu, tokens = (
        seen[key][SKIPPED : len(seen["wall"])] for key in ("wall", "cpu", "tokens")
    )
    return {
        "cpu_ms": 1000 * sum(cpu) / len(cpu),
        "median_cpu_ms": 1000 * statistics.median(cpu),
        "wall_ms": 1000 * sum(wall) / len(wall),
        "median_wall_ms": 1000 * statistics.median(wall),
        "tokens_per_cpu_s": sum(tokens) / sum(cpu),
        "tokens_per_s": sum(tokens) / sum(wall),
        "peak_rss_mb": seen["peak_rss"] / 1e6,
        "losses": seen["losses"],
    }


def telemetry(seen: Run) -> Run:
    """Processor milliseconds of a step without metrics, state and history, and what they add.

    Each block of steps with them is compared with the block after it, which has none.
    """
    blocks = [
        statistics.median(seen["cpu"][at : at + TELEMETRY_BLOCK])
        for at in range(2 * TELEMETRY_BLOCK, len(seen["cpu"]) - TELEMETRY_BLOCK, TELEMETRY_BLOCK)
    ]
    added = [on - off for on, off in list(pairwise(blocks))[::2]]
    return {
        "off_ms": 1000 * statistics.median(blocks[1::2]),
        "added_ms": 1000 * statistics.median(added),
    }


def one_round(case: Case, root: Path, number: int) -> dict[str, Run]:
    """Every side once, another one first in each round."""
    names = list(case.sides)
    at = number % len(names)
    with tempfile.TemporaryDirectory() as outputs:
        orders = {}
        for side in names[at:] + names[:at]:
            output = Path(outputs, side)
            output.mkdir()
            orders[side] = order_of(case, side, root, output)
        return {side: speeds(seen) for side, seen in run(orders).items()}


def telemetry_round(case: Case, root: Path) -> dict[str, Run]:
    with tempfile.TemporaryDirectory() as output:
        order = replace(order_of(case, "ours", root, Path(output)), telemetry=False)
        return {"ours": telemetry(run({"ours": order})["ours"])}


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
    began = time.monotonic()
    for number in range(count):
        for name in names:
            minutes, seconds = divmod(int(time.monotonic() - began), 60)
            where = f"{minutes}:{seconds:02} round {number + 1} of {count}: {name}"
            print(where, file=sys.stderr, flush=True)
            found[name].append(kinds[name](number))
            keep({name: rounds for name, rounds in found.items() if rounds}, results)
    return found


def keep(found: dict[str, Rounds], path: Path) -> dict[str, Any]:
    """What was measured now and, of the other cases, before."""
    before = json.loads(path.read_text())["rounds"] if path.exists() else {}
    results = {"machine": MACHINE, "rounds": before | found}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    return results


MACHINE = {
    "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    "cores": os.cpu_count(),
    "load_before": round(os.getloadavg()[0], 1),
    "threads": 1,
}


def main() -> None:
    names = [*CASES, *TELEMETRY, "start"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not PEERS.exists():
        print("torchtune is left out: `make bench-peers` has not installed it", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"HF_HOME": f"{folder}/cache", "HF_HUB_OFFLINE": "1", **QUIET}
        models = {(CASES | TELEMETRY).get(name, CASES["lora"]).model for name in options.only}
        print(f"making models: {', '.join(sorted(models))}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "bench.train.material", folder, *sorted(models)]
        subprocess.run(command, check=True, cwd=ROOT, stderr=subprocess.DEVNULL)
        found = collect(options.only, options.rounds, Path(folder), options.results)
    results = keep(found, options.results)
    print(in_text({**results, "rounds": found}))
    if options.results == RESULTS:
        renew(results)


if __name__ == "__main__":
    main()
