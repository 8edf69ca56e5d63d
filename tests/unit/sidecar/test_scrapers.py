"""Who is waited for at a run's end."""

from finetuning.monitoring.scrapers import MOST_CLIENTS, Scrapers


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_who_has_not_come_for_long_is_not_expected() -> None:
    clock = Clock()
    scrapers = Scrapers(clock)
    scrapers.saw("curl", final=False)
    clock.now += 100
    scrapers.saw("prometheus", final=False)
    assert scrapers.since(60) == {"prometheus"}
    assert scrapers.since(100) == {"prometheus", "curl"}


def test_who_has_seen_a_run_go_on_after_its_end_has_not_seen_the_end() -> None:
    scrapers = Scrapers()
    scrapers.saw("prometheus", final=True)
    assert scrapers.served == {"prometheus"}
    scrapers.saw("prometheus", final=False)
    assert scrapers.served == frozenset()


def test_ever_new_names_take_no_more_memory() -> None:
    scrapers = Scrapers()
    for number in range(MOST_CLIENTS + 10):
        scrapers.saw(f"client {number}", final=True)
    assert len(scrapers.since(60)) == MOST_CLIENTS
    assert "client 9" not in scrapers.served
    assert f"client {MOST_CLIENTS + 9}" in scrapers.served
