"""Losses of one model on fixed texts, told by the trainer and asked again by the validator."""

import math

import pytest
from pydantic import ValidationError

from finetuning.artifacts.reference import VERSION, Reference


def test_the_distance_is_per_token_whichever_way_they_differ() -> None:
    told = Reference.of([1.0, 2.0, 3.0, 4.0])
    assert told is not None
    assert told.distance([1.0, 2.0, 3.0, 4.0]) == 0
    assert told.distance([2.0, 1.0, 4.0, 3.0]) == pytest.approx(1.0)
    assert told.distance([1.0, 2.0, 3.0, 8.0]) == pytest.approx(2.0)
    assert Reference.model_validate(told.model_dump()) == told


def test_an_adapter_is_told_apart_from_what_storing_does_to_its_base() -> None:
    """Both lie 0.5 higher here, since the base is stored otherwise; the adapter does the same."""
    told = Reference.of([1.0, 2.0], [3.0, 3.0])
    assert told is not None
    assert told.base_distance([3.5, 3.5]) == pytest.approx(0.5)
    assert told.distance([1.5, 2.5]) == pytest.approx(0.5)
    assert told.effect_distance([1.5, 2.5], [3.5, 3.5]) == pytest.approx(0)
    assert told.effect_distance([1.5, 2.5], [3.5]) is None
    alone = Reference.of([1.0, 2.0])
    assert alone is not None
    assert alone.base_distance([3.0, 3.0]) is None
    assert alone.effect_distance([1.0, 2.0], [3.0, 3.0]) is None
    assert Reference.of([1.0], [math.nan]) is None


def test_what_cannot_be_compared_says_nothing() -> None:
    told = Reference.of([1.0, 2.0])
    assert told is not None
    assert told.distance([1.0]) is None
    later = told.model_copy(update={"texts": VERSION + 1})
    assert later.distance([1.0, 2.0]) is None


@pytest.mark.parametrize("losses", [[], [1.0, math.nan], [math.inf]])
def test_a_model_of_nonsense_has_no_reference(losses: list[float]) -> None:
    assert Reference.of(losses) is None


@pytest.mark.parametrize("losses", ["", "1,2", "nan", "1 inf", "1\n2", "1  2"])
def test_a_garbled_line_is_refused(losses: str) -> None:
    with pytest.raises(ValidationError, match="losses"):
        Reference(texts=1, losses=losses)
