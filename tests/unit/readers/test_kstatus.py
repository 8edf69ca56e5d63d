"""The real kstatus, by which Flux waits, over jobs at each of their turns."""

import copy
from collections import Counter
from typing import Any

import pytest
from tests.unit.readers.conftest import Ask
from tests.unit.readers.moments import BROKEN, DONE, WAITS, Moment

pytestmark = pytest.mark.timeout(900)  # The first test may have to build it.


def read(ask: Ask, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return ask([{"object": each} for each in bodies])


def test_a_job_is_ready_when_all_is_there_and_failed_when_it_never_will_be(
    ask: Ask, lives: list[Moment]
) -> None:
    found = read(ask, [each.body for each in lives])
    read_as = {each.name: it["kstatus"] for each, it in zip(lives, found, strict=True)}
    assert read_as == {each.name: each.kstatus for each in lives}
    assert min(Counter(read_as.values())[each] for each in (WAITS, DONE, BROKEN)) >= 5


def test_flux_says_why_a_job_failed(ask: Ask, lives: list[Moment]) -> None:
    broken = [each.body for each in lives if each.kstatus == BROKEN]
    told = [each["message"] for each in read(ask, broken)]
    assert all(told)
    assert any("no such bucket" in each for each in told)


def test_without_the_two_conditions_every_job_would_be_taken_for_ready(
    ask: Ask, lives: list[Moment]
) -> None:
    """The tests above could not fail if kstatus knew a job by anything else."""
    bodies = [copy.deepcopy(each.body) for each in lives]
    for body in bodies:
        held = body["status"].pop("conditions", [])
        kept = [each for each in held if each["type"] not in {"Ready", "Stalled"}]
        body["status"]["conditions"] = kept
        body["status"]["observedGeneration"] = body["metadata"]["generation"]
    assert {each["kstatus"] for each in read(ask, bodies)} == {DONE}


def test_a_job_that_is_being_deleted_is_that(ask: Ask, lives: list[Moment]) -> None:
    body = copy.deepcopy(lives[-1].body)
    body["metadata"]["deletionTimestamp"] = "2026-01-01T10:00:00Z"
    assert [each["kstatus"] for each in read(ask, [body])] == ["Terminating"]
