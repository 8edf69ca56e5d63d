"""What the soak makes of what it saw, and when it is content."""

import asyncio
import os
import signal
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any

import pytest
from tests.faults.counted import count
from tests.faults.growth import MEBI, Rest, grows, growth, slope
from tests.faults.soak import Soak, end_in_order, is_well, table
from typing_extensions import override

WELL = {
    "lost": 0, "problems": [], "unclean stops": 0, "exit codes": "", "writers": 1, "trainers": 3,
    "lives": 2, "forgotten": 0, "faults": {"500": 2}, "jobs": {"begun": 2, "plain": 2},
    "memory": {},
}  # fmt: skip


def rest(number: int, life: int = 1, **more: Any) -> Rest:
    """After forty more jobs each; figures go up and down."""
    noise = number % 3
    held = {
        "resident": (70 + 0.3 * noise) * MEBI, "objects": 100_000 + 30 * noise,
        "blocks": 300_000 + 50 * noise, "malloc": 20 * MEBI, "types": {"Pod": 0, "dict": 5000},
    }  # fmt: skip
    return Rest(300.0 * number, life, 40 * number, {**held, **more})


def test_the_slope_is_that_of_the_line_below_the_noise() -> None:
    along = [float(n) for n in range(20)]
    values = [70 + 0.5 * n + (n % 2) * 0.01 for n in along]
    assert slope(along, values) == pytest.approx(0.5, abs=0.01)


def test_a_process_that_holds_the_same_at_each_rest_does_not_grow() -> None:
    found = growth([rest(n) for n in range(11)])
    assert (found["rests"], found["jobs"], grows(found)) == (10, 360, [])
    assert found["types"] == {}


@pytest.mark.parametrize(
    ("name", "each", "words"),
    [
        ("objects", 9 * 40, "objects more with each job"),
        ("blocks", 40 * 40, "blocks more with each job"),
        ("malloc", 6000 * 40, "malloc more with each job"),
        ("resident", 6 * MEBI / 12, "MiB an hour"),
    ],
)
def test_what_stays_of_each_job_is_told(name: str, each: float, words: str) -> None:
    def leaks(number: int) -> Rest:
        held = rest(number).held
        return rest(number, **{name: held[name] + each * number})

    found = growth([leaks(n) for n in range(11)])
    (told,) = grows(found)
    assert words in told
    assert not is_well(WELL | {"memory": found})
    assert told in table(WELL | {"memory": found})


def test_the_type_that_stays_is_named() -> None:
    rests = [rest(n, types={"Pod": 40 * n, "dict": 5000}) for n in range(11)]
    assert growth(rests)["types"] == {"Pod": 1.0}


def test_only_the_longest_life_counts_and_not_its_beginning() -> None:
    first = [rest(n, resident=500 * MEBI) for n in range(3)]
    second = [rest(3, 2, objects=1), *(rest(n, 2) for n in range(4, 9))]
    found = growth([*first, *second])
    assert (found["rests"], found["MiB"][0], found["objects"][0]) == (5, 70.3, 100_030)
    assert growth(second[:4]) == {}, "too few to say anything"
    assert grows({}) == []


def test_a_short_run_says_nothing_of_the_hour() -> None:
    found = growth([rest(n, resident=(70 + n) * MEBI) for n in range(6)])
    assert found["minutes"] == 20.0
    assert "MiB an hour" in grows(found)[0]
    assert grows({**found, "minutes": 19.0}) == []


def test_bounded_caches_do_not_count_and_others_do() -> None:
    @lru_cache(maxsize=10_000)
    def bounded(number: int) -> list[int]:
        return [number]

    @cache
    def unbounded(number: int) -> set[int]:
        return {number}

    before = count()["types"]
    for number in range(5000):
        bounded(number)
        unbounded(number)
    after = count()["types"]
    # What else this process held goes and comes meanwhile.
    assert after["list"] < before["list"] + 1000
    assert after["set"] > before["set"] + 4000


def test_a_process_counts_what_it_holds() -> None:
    before = count()
    kept = [[number] for number in range(5000)]
    after = count()
    assert after["types"]["list"] > before["types"]["list"] + 0.8 * len(kept)
    assert after["objects"] > before["objects"] + 4000
    assert after["blocks"] > before["blocks"] + 4000
    assert after["resident"] > MEBI


@pytest.mark.parametrize(
    "harm",
    [{"lost": 1}, {"problems": ["plain-1: 2 trainers"]}, {"unclean stops": 1}, {"writers": 2}],
)
def test_anything_lost_or_doubled_spoils_it(harm: dict[str, object]) -> None:
    assert is_well(WELL)
    assert not is_well(WELL | harm)
    assert "jobs plain" in table(WELL)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_one_that_is_told_to_stop_ends_what_it_started(how: signal.Signals) -> None:
    ended = []

    async def soaks() -> None:
        end_in_order()
        try:
            os.kill(os.getpid(), how)
            await asyncio.sleep(30)
        finally:
            ended.append(how)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(soaks())
    assert ended == [how]


class Interrupted(Soak):
    """Its operator is started again by a helper, as its Deployment would."""

    def __init__(self) -> None:
        self.site: Any = SimpleNamespace(start_operator=lambda: None)

    @override
    async def _keep(self) -> None:
        pass

    @override
    async def _look(self) -> None:
        pass

    @override
    async def _rounds(self, end: float, every: float) -> None:
        await asyncio.sleep(end + every)


async def test_nobody_is_left_to_start_the_operator_of_one_that_was_stopped() -> None:
    before = asyncio.all_tasks()
    task = asyncio.create_task(Interrupted().run(60, 5))
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks() - before) > 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() - before == set()
