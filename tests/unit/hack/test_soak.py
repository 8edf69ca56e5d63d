"""What the soak makes of its samples, and when it is content."""

import pytest
from tests.faults.soak import Sample, is_well, memory, slope, table

WELL = {
    "lost": 0, "problems": [], "unclean stops": 0, "writers": 1, "trainers": 3, "lives": 2,
    "forgotten": 0,
    "faults": {"500": 2}, "jobs": {"begun": 2, "plain": 2}, "memory": {"MiB per hour": 0.1},
}  # fmt: skip


def test_the_slope_is_that_of_the_line_below_the_noise() -> None:
    samples = [Sample(60.0 * m, 1, 70 + 0.5 * m + (m % 2) * 0.01) for m in range(20)]
    assert slope(samples) == pytest.approx(0.5, abs=0.01)


def test_memory_is_that_of_the_longest_life_once_it_is_warm() -> None:
    first = [Sample(float(s), 1, 500.0) for s in range(100)]
    second = [Sample(float(s), 2, 60.0 if s < 160 else 70.0) for s in range(100, 400)]
    assert memory([*first, *second]) == {
        "minutes": 4.0, "from": 70.0, "to": 70.0, "MiB per hour": 0.0,
    }  # fmt: skip
    assert memory([]) == {}


@pytest.mark.parametrize(
    "harm",
    [{"lost": 1}, {"problems": ["plain-1: 2 trainers"]}, {"unclean stops": 1}, {"writers": 2}],
)
def test_anything_lost_or_doubled_spoils_it(harm: dict[str, object]) -> None:
    assert is_well(WELL)
    assert not is_well(WELL | harm)
    assert "jobs plain" in table(WELL)
