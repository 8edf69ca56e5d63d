"""docs/scale.md: what it says was measured is what the kept run measured, and the rest follows."""

import json
from pathlib import Path
from typing import Any

import pytest
from bench.operator import report, sizes

from finetuning.controller.specs import KEPT

ROOT = Path(__file__).resolve().parents[3]
PLAINLY = str.maketrans("\u00d7\u2013", "x-")
PAGE = " ".join((ROOT / "docs" / "scale.md").read_text().translate(PLAINLY).split())
RUN = json.loads((ROOT / "bench" / "results" / "operator.json").read_text())
BURST = dict(report.pairs(RUN))["100 at once"]
VALIDATED, PLAIN = BURST["validated"], BURST[report.FLOOR]
SIZES = VALIDATED["sizes"]
FINDERS = ("Service", "Endpoints", "EndpointSlice")
"""By which Prometheus finds a job."""


def size(form: str, *kinds: str) -> float:
    return sum(float(SIZES[kind][form]) for kind in kinds)


def processor(found: dict[str, Any]) -> str:
    parts = [found["cpu_ms"].get("operator"), found["cpu_ms"]["kube-apiserver"]]
    return ", ".join("-" if n is None else f"{n:.0f}" for n in [*parts, found["cpu_ms_all"]])


def writes(found: dict[str, Any], who: str = "") -> float:
    return sum(
        float(number)
        for key, number in found["requests"].items()
        if key.startswith(who) and key.split()[1] not in {"get", "list"}
    )


def kept(*kinds: str) -> float:
    """Bytes of one job's, as etcd has them."""
    return sizes.kept_bytes({kind: SIZES[kind] for kind in kinds})


LASTING = kept("FineTuningJob", "Job", "Pod", *FINDERS)
BARE = kept("FineTuningJob", "Job", "Pod")


@pytest.mark.parametrize(
    ("kinds", "name"),
    [
        (("FineTuningJob",), "FineTuningJob with its last status | 1"),
        (("Job",), "Job | 2"),
        (("Pod",), "Pod | 2"),
        (FINDERS, "Service, Endpoints, EndpointSlice | 1 each"),
        (("Event",), f"Event, of all controllers, for an hour | {SIZES['Event']['per_job']:.1f}"),
    ],
)
def test_sizes_are_those_of_the_run(kinds: tuple[str, ...], name: str) -> None:
    assert f"| {name} | {size('json', *kinds):,.0f} | {size('kept', *kinds):,.0f} |" in PAGE


def test_what_a_job_costs_is_what_it_cost_in_the_run() -> None:
    assert f"{processor(VALIDATED)} ms (plain Job: {processor(PLAIN)})" in PAGE
    who = {"operator": ".1f", "controller-manager": ".0f", "scheduler": ".0f"}
    told = ", ".join(f"{each.replace('-', ' ')} {writes(VALIDATED, each):{form}}"
                     for each, form in who.items())  # fmt: skip
    every, plain = writes(VALIDATED), writes(PLAIN)
    assert f"writes: {told}, kubelet 4, user 1 | {every:.0f} ({plain:.0f} for a plain Job)" in PAGE


@pytest.mark.parametrize(
    "told",
    [
        f"{(LASTING + kept('Event')) / 1024:.0f} KiB with its Events",
        f"{LASTING / 1024:.0f} KiB an hour later, and {BARE / 1024:.0f} KiB without a Service",
        f"{kept('FineTuningJob', *FINDERS) / 1024:.0f} KiB stay",
        f"or {kept('FineTuningJob') / 1024:.0f} in the mode",
        f"{LASTING / 1024:.0f} KiB x n, history and Events apart | {LASTING / 100:.0f} MB |",
        f"| database | {LASTING / 1e4:.1f} GB, over",
        f"{kept('FineTuningJob') / 1e4:.1f} GB, and {kept('Job', 'Pod') / 1000:.0f} KB for each",
        f"every 30 s, {size('json', 'Service') / 10:.0f} MB with 100,000",
        f"1.2 a second x {writes(VALIDATED):.0f} | - | {writes(VALIDATED) * 1e5 / 86400:.0f} a",
        f"at most {1000 / VALIDATED['cpu_ms']['operator']:.0f} new jobs a second",
    ],
)
def test_what_follows_from_the_run_follows(told: str) -> None:
    assert told in PAGE


def test_memory_is_what_each_job_takes_beside_what_there_is_without() -> None:
    own, each, busy = 85, 18, 45
    assert f"{own} MiB of its own | {each} KiB, and {busy} KiB while it is under way |" in PAGE
    known = own + each * 10_000 / 1024
    told = f"{own} MiB + {each} KiB x n + {busy} KiB x those under way, up to {KEPT:,} of them"
    assert f"{told} | {known + busy * KEPT / 1024:.0f} MiB |" in PAGE
    assert f"10,000 jobs each | {known + busy * KEPT / 1024:.0f} MiB each" in PAGE
    assert f"{(own + each * 100_000 / 1024) / 1024:.1f} GiB; the chart's limit" in PAGE
    started = 314
    assert f"300 and {started} MiB where this gives {known:.0f}" in PAGE
    of_each = (started - own) / 10_000
    enough = (512 - own - busy * KEPT / 1024) / of_each
    told = f"512 MiB is enough for {enough // 1000:.0f},000 jobs, {KEPT:,} of them under way"
    assert told in PAGE
    assert f"so {of_each * 1024:.0f} KiB a job" in PAGE
