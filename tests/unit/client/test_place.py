"""Where a followed output goes on after its connection was cut."""

from finetuning.client.logs import Place

FIRST, LATER = "2026-01-01T10:00:00.000000001Z", "2026-01-01T10:00:00.5Z"


def test_it_begins_with_the_last_lines_or_all() -> None:
    assert Place().connection(None) == {"follow": "true", "timestamps": "true"}
    assert Place().connection(0)["tailLines"] == "0"


def test_lines_of_one_time_come_once_each() -> None:
    place = Place()
    place.connection(None)
    assert place.new(f"{FIRST} a\n{FIRST} b\n") == "a\nb\n"
    assert place.connection(5)["sinceTime"] == "2026-01-01T10:00:00+00:00"
    assert place.new(f"{FIRST} a\n{FIRST} b\n{FIRST} c\n{LATER} d\n") == "c\nd\n"


def test_a_clock_that_was_set_back_hides_nothing() -> None:
    place = Place()
    assert place.new(f"{LATER} a\n{FIRST} b\n") == "a\nb\n"


def test_what_a_kubelet_says_itself_has_no_time() -> None:
    said = "unable to retrieve container logs for containerd://1\n"
    assert Place().new(said) == said


def test_the_rest_of_a_long_line_has_no_time_either() -> None:
    place = Place()
    assert place.new(f"{FIRST} a bar\r of") + place.new(f" {LATER}\n") == f"a bar\r of {LATER}\n"
    place.connection(None)
    assert place.new(f"{FIRST} a bar\r of") + place.new(f" {LATER}\n{LATER} b\n") == "b\n"


def test_an_empty_line_stays_one() -> None:
    assert Place().new(f"{FIRST} \n{LATER} a\n") == "\na\n"
