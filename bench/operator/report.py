"""The table: each figure, and in brackets its ratio to the floor of the same run."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

from bench.operator import sizes
from bench.operator.costs import WRITES
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Figures = dict[str, Any]
FLOOR = "floor"
"""The subject that the others are compared with."""


def _at(*path: str) -> Callable[[Figures], float | None]:
    """A figure below these keys; None where the subject has none."""

    def read(found: Figures) -> float | None:
        here: Any = found
        for key in path:
            here = here.get(key) if isinstance(here, dict) else None
        return None if here is None else float(here)

    return read


def _requests(who: str) -> Callable[[Figures], float | None]:
    def read(found: Figures) -> float | None:
        parts = [n for key, n in found["requests"].items() if key.split()[0] == who]
        return sum(parts) if parts else None

    return read


def _writes(*, events: bool) -> Callable[[Figures], float | None]:
    """What it writes until it is done with a job: all Events, or all else."""

    def read(found: Figures) -> float | None:
        parts = sent(found).items()
        kinds = WRITES - {"delete"}
        return sum(n for what, n in parts
                   if what.split()[0] in kinds and what.endswith(" events") is events)  # fmt: skip

    return read


def _rate(found: Figures) -> float | None:
    """Jobs a second of a burst."""
    return None if found["one_by_one"] else float(found["jobs"] / found["all_done"])


def _kept(found: Figures) -> float:
    return sizes.kept_bytes(found["sizes"]) / 1024


ROWS: tuple[tuple[str, Callable[[Figures], float | None]], ...] = (
    ("create → Job p50, s", _at("create_to_job", "p50")),
    ("create → Pod p50, s", _at("create_to_pod", "p50")),
    ("create → Pod p99, s", _at("create_to_pod", "p99")),
    ("last pod, s", _at("last_pod")),
    ("pod end → Job end p50, s", _at("pod_end_to_job_end", "p50")),
    ("pod end → trained p50, s", _at("pod_end_to_trained", "p50")),
    ("pod end → validation pod p50, s", _at("pod_end_to_validation_pod", "p50")),
    ("validator's end → verdict p50, s", _at("validation_end_to_validated", "p50")),
    ("deletion → pod gone p50, s", _at("delete_to_gone", "p50")),
    ("ready after the restart, s", _at("restart_ready")),
    ("all done, s", _at("all_done")),
    ("jobs a second", _rate),
    ("operator: writes per job", _at("operator_writes")),
    ("of them without Events and deletions", _writes(events=False)),
    ("of them Events", _writes(events=True)),
    ("operator: reads per job", _at("operator_reads")),
    ("operator: looks per job", _at("operator_looks")),
    ("operator: most jobs in its queue", _at("queue_peak")),
    ("controller manager: requests per job", _requests("controller-manager")),
    ("operator: CPU per job, ms", _at("cpu_ms", "operator")),
    ("API server: CPU per job, ms", _at("cpu_ms", "kube-apiserver")),
    ("everything: CPU per job, ms", _at("cpu_ms_all")),
    ("operator: memory, MiB", _at("rss_mib")),
    ("operator: peak memory, MiB", _at("peak_mib")),
    ("objects: kept per job, KiB", _kept),
    ("etcd: size of the database, MiB", _at("etcd_mib")),
    ("machine busy with others, share", _at("machine_busy_elsewhere")),
)


def name_of(found: Figures) -> str:
    return heading(found["jobs"], one_by_one=found["one_by_one"], load=found["load"])


def heading(jobs: int, *, one_by_one: bool, load: str) -> str:
    """A round, and what befell its jobs."""
    return f"{jobs} in a row" if one_by_one else ", ".join(filter(None, (f"{jobs} at once", load)))


def pairs(found: Figures) -> Iterator[tuple[str, dict[str, Figures]]]:
    """Each round's name, and its figures by subject."""
    by_round: dict[str, dict[str, Figures]] = {}
    for subject in found["subjects"]:
        for each in subject["rounds"]:
            by_round.setdefault(name_of(each), {})[subject["subject"]] = each
    yield from by_round.items()


def cell(value: float | None, floor: float | None) -> str:
    if value is None:
        return "-"
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"  # noqa: PLR2004
    return f"{text} ({value / floor:.2f}x)" if floor else text


def table(found: Figures) -> str:
    """All rounds, one table each, and what concerns the operator as a whole."""
    out = StringIO()
    console = Console(file=out, width=110)
    for name, subjects in pairs(found):
        console.print(_round(name, subjects))
        if subjects.keys() - {FLOOR}:
            console.print(_sent(subjects))
    for line in afterwards(found):
        console.print(line)
    return out.getvalue()


def afterwards(found: Figures) -> Iterator[str]:
    """A line for each operator: how long it starts, and what it does when nothing is to do."""
    for subject in found["subjects"]:
        if "ready_again" in subject:
            idle = subject["idle"]
            memory = f", {idle['rss_mib']:.1f} MiB" if "rss_mib" in idle else ""
            yield (
                f"{subject['subject']}: ready {subject['ready_empty']:.2f} s after the start in an "
                f"empty cluster, {subject['ready_again']:.2f} s with all jobs there; idle: "
                f"{idle['cores']:.3f} cores, {idle['requests']} requests in "
                f"{idle['seconds']:.0f} s{memory}"
            )


def _round(name: str, subjects: dict[str, Figures]) -> Table:
    drawn = Table(title=name, title_justify="left")
    drawn.add_column("")
    for subject in subjects:
        drawn.add_column(subject, justify="right")
    for title, cells in rows(subjects):
        drawn.add_row(title, *cells)
    return drawn


def rows(subjects: dict[str, Figures]) -> Iterator[tuple[str, list[str]]]:
    """What was measured of any subject, and a cell for each."""
    floor = subjects.get(FLOOR, {})
    for title, read in ROWS:
        values = {subject: read(each) for subject, each in subjects.items()}
        if any(value is not None for value in values.values()):
            base = read(floor) if floor and "share" not in title else None
            yield title, [cell(v, None if s == FLOOR else base) for s, v in values.items()]


def sent(found: Figures) -> dict[str, float]:
    """Requests of the operator per job: verb and resource, number."""
    parts = ((*key.partition(" "), number) for key, number in found["requests"].items())
    return {what: number for who, _, what, number in parts if who == "operator"}


def _sent(subjects: dict[str, Figures]) -> Table:
    """What the operator asks the API server for."""
    drawn = Table(title="requests of the operator, per job", title_justify="left")
    drawn.add_column("")
    counted = {name: sent(each) for name, each in subjects.items() if name != FLOOR}
    for name in counted:
        drawn.add_column(name, justify="right")
    for what in sorted({key for each in counted.values() for key in each}):
        drawn.add_row(what, *(cell(each.get(what), None) for each in counted.values()))
    return drawn
