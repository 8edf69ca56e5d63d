"""Who is waited for at a run's end."""

import pytest

from finetuning.monitoring.scrapers import MOST_CLIENTS, Scrapers

NODE = "10.0.0.7"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def expected(agent: str, visits: tuple[float, ...], now: float) -> bool:
    """Whether one who came at these seconds is waited for by a server that looks a minute back."""
    clock = Clock()
    scrapers = Scrapers(clock)
    for clock.now in visits:
        scrapers.saw(NODE, agent, final=False)
    clock.now = now
    return scrapers.regular(60) == {f"{agent} {NODE}"}


@pytest.mark.parametrize(
    ("agent", "visits", "now", "waited_for"),
    [
        ("Prometheus/3.5.0", (100,), 110, True),
        ("Prometheus/3.5.0", (100,), 161, False),
        ("prometheus-agent", (100,), 110, True),
        ("curl/8.5.0", (100,), 110, False),
        ("curl/8.5.0", (100, 101, 102), 110, False),
        ("curl/8.5.0", (), 110, False),
        # An hour ago, and now: that is no regular visit.
        ("curl/8.5.0", (100, 3700), 3710, False),
        # Other collectors, and curl in a loop.
        ("vm_promscrape", (100, 130), 140, True),
        ("OpenTelemetry Collector/1.0", (100, 160), 170, True),
        ("vm_promscrape", (100, 130), 191, False),
    ],
)
def test_who_comes_regularly_is_waited_for(
    agent: str, visits: tuple[float, ...], now: float, *, waited_for: bool
) -> None:
    assert expected(agent, visits, now) is waited_for


def test_who_has_seen_a_run_go_on_after_its_end_has_not_seen_the_end() -> None:
    scrapers = Scrapers()
    scrapers.saw(NODE, "prometheus", final=True)
    assert scrapers.served == {f"prometheus {NODE}"}
    scrapers.saw(NODE, "prometheus", final=False)
    assert scrapers.served == frozenset()


def test_ever_new_names_take_no_more_memory() -> None:
    scrapers = Scrapers()
    for number in range(MOST_CLIENTS + 10):
        scrapers.saw(NODE, f"prometheus {number}", final=True)
    assert len(scrapers.regular(60)) == MOST_CLIENTS
    assert f"prometheus 9 {NODE}" not in scrapers.served
    assert f"prometheus {MOST_CLIENTS + 9} {NODE}" in scrapers.served
