"""What the sidecar costs, by measures that a busy machine does not change.

`make bench-sidecar` holds it against the clock; here time is CPU time, as a multiple of what the
same machine needs for something else.
"""

import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from bench.sidecar.cost import (
    PROMISED,
    cpu_seconds,
    resident_mib,
    scrape,
    sidecar,
    write_state,
)

SCRAPES = 300
LIBRARIES = "import prometheus_client, pydantic"


@dataclass(frozen=True)
class Costs:
    start_seconds: float
    scrape_seconds: float
    memory_mib: float
    grown_mib: float
    """From the fiftieth scrape to the last."""


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Costs]:
    """Of a run on eight GPUs; the times are of the CPU."""
    folder = tmp_path_factory.mktemp("state")
    write_state(folder)
    with sidecar(folder) as (process, port):
        scrape(port)
        start = cpu_seconds(process.pid)
        for _ in range(50):
            scrape(port)
        warm, began = resident_mib(process.pid), cpu_seconds(process.pid)
        for _ in range(SCRAPES):
            scrape(port)
        each = (cpu_seconds(process.pid) - began) / SCRAPES
        memory = resident_mib(process.pid)
        yield Costs(start, each, memory, memory - warm)


def test_it_keeps_to_its_memory_and_takes_no_more_from_scrape_to_scrape(costs: Costs) -> None:
    assert costs.memory_mib <= PROMISED["memory, MiB"]
    assert costs.grown_mib < 1


def test_a_start_is_little_more_than_loading_its_two_libraries(costs: Costs) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", LIBRARIES], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    loading = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert costs.start_seconds <= 4 * loading


def test_a_scrape_is_a_small_part_of_a_start(costs: Costs) -> None:
    """By what is promised, 10 ms beside 0.7 s."""
    assert costs.scrape_seconds <= costs.start_seconds / 70
