"""Table and picture of a run in docs/performance.md, and its figures beside the bench.

Usage: python -m bench.operator.page [FILE] [--help]

FILE is what `make bench-operator` left in build/bench-operator; by default the newest there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.operator import pictures, report
from hack.cluster.shell import write

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "build" / "bench-operator"
PAGE = Path("docs/performance.md")
PICTURE = Path("docs/images/operator.svg")
KEPT = Path("bench/results/operator.json")
BEGIN, END = "<!-- by bench.operator.page: begin -->", "<!-- by bench.operator.page: end -->"


def newest(folder: Path) -> Path:
    """The last run there; raises ValueError where there is none."""
    runs = sorted(folder.glob("2*Z.json"))
    if not runs:
        raise ValueError(f"{folder}: no figures of a run there; make some: make bench-operator")
    return runs[-1]


def section(found: dict[str, Any]) -> Iterator[str]:
    """Lines of Markdown: where it was measured, the picture, a table for each round."""
    rounds = list(report.pairs(found))
    busy = max(each["machine_busy_elsewhere"] for _, by in rounds for each in by.values())
    yield (
        f"{found['started'][:10]}, {found['cpus']} cores, of which other programs had at most "
        f"{busy:.0%}, Kubernetes {found['kubernetes']}, {found['gpus']} GPUs, "
        f"{found['pod_seconds']:g} s a pod, monitoring mode `{found['monitoring']}`. "
        "In brackets: the ratio to the floor."
    )
    yield ""
    yield f"![The operator beside plain Jobs](images/{PICTURE.name})"
    for name, subjects in rounds:
        yield ""
        yield f"| {name} | {' | '.join(subjects)} |"
        yield "|---" * (len(subjects) + 1) + "|"
        for title, cells in report.rows(subjects):
            yield f"| {title} | {' | '.join(cells)} |"
    yield ""
    yield from (f"- {line}" for line in report.afterwards(found))


def renewed(page: str, lines: list[str]) -> str:
    """The page with the lines between its marks; raises ValueError where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: {BEGIN} and {END} are where the run belongs; put them back")
    return "\n".join([before + BEGIN, "", *lines, "", END + after])


def read(file: Path) -> tuple[Any, list[str]]:
    """Its figures, and lines for the page; raises OSError, and ValueError for what is no run."""
    try:
        found = json.loads(file.read_text())
        return found, list(section(found))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{file}: no figures of a run ({error!s}); make some: make bench-operator"
        raise ValueError(problem) from error


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Exit code: 0, or 2 for a file that is no run."""
    parser = argparse.ArgumentParser(prog="python -m bench.operator.page", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    try:
        file = chosen.file or newest(RUNS)
        found, lines = read(file)
        page = renewed((root / PAGE).read_text(), lines)
    except (OSError, ValueError) as error:
        print(f"error: {error!s}", file=sys.stderr)
        return 2
    write(root / PAGE, page)
    write(root / KEPT, json.dumps(found, indent=1) + "\n")
    pictures.draw(found, root / PICTURE)
    print(f"{file}: now in {PAGE}, {PICTURE} and {KEPT}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
