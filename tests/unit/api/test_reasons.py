"""Every reason is explained once, and what can be mended says how."""

import dataclasses
import itertools

import pytest

from finetuning.api.reasons import FAILED, SECTIONS, Explained
from finetuning.api.status import Reason
from finetuning.artifacts.exits import TrainFailure

EXPLAINED = [each for section in SECTIONS.values() for each in section.items()]


def test_the_list_is_closed_and_each_reason_stands_in_one_section() -> None:
    assert sorted(reason for reason, _ in EXPLAINED) == sorted(Reason)
    assert all(not (a.keys() & b.keys()) for a, b in itertools.combinations(SECTIONS.values(), 2))


@pytest.mark.parametrize(("reason", "told"), EXPLAINED, ids=lambda value: str(value)[:30])
def test_words_are_sentences(reason: Reason, told: Explained) -> None:
    for words in dataclasses.asdict(told).values():
        assert not words or words.endswith(".")
        assert len(words) < 200


def test_a_failed_job_always_has_a_remedy() -> None:
    assert [reason for reason, told in FAILED.items() if not told.remedy] == []


def test_what_a_trainer_says_is_among_the_failures() -> None:
    assert {Reason(each.value) for each in TrainFailure} <= FAILED.keys()
