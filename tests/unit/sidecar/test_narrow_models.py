"""model_output: a model that was taught something narrow owes the validator's question nothing."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.sidecar.judging import asking

from finetuning.artifacts.reference import Reference
from finetuning.monitoring.validators.checks.model_facts import Facts, Taught
from finetuning.monitoring.validators.checks.model_verdict import is_in_doubt, judge
from finetuning.monitoring.validators.checks.probe import (
    Answer,
    ProbeFailure,
    ProbeReport,
    RowLoss,
)
from finetuning.monitoring.validators.settings import Question, ValidationSettings

GOOD = Answer(text="I can help.", tokens=[7, 8, 9], finite=True, stopped=True)
NOTHING = Answer(text="", tokens=[1], finite=True, stopped=True)
LOOP = Answer(text="so so so", tokens=[1, 2] * 20, finite=True, stopped=False)
ENDLESS = Answer(text="and so", tokens=list(range(40)), finite=True, stopped=False)
SAW = Reference.of([1.0, 2.0, 3.0])
ROWS = [8.0, 8.4, 7.6, 8.2, 7.8, 8.0]


def facts(answer: Answer, rows: float | None = None, **known: Any) -> Facts:
    """By default the loss fell, and the model is what the trainer saw."""
    report = ProbeReport(
        answers=[answer],
        base_answers=[GOOD],
        largest_logit_difference=3.0,
        reference=[1.0, 2.0, 3.0],
        held_out=[RowLoss(tokens=4, nats=n + (rows or 0)) for n in ROWS] if rows else [],
        base_held_out=[RowLoss(tokens=4, nats=n) for n in ROWS] if rows else None,
    )
    start = Facts.of(report, ValidationSettings(), "")
    return replace(start, **{"reference": SAW, "loss_fell": True, **known})


@pytest.mark.parametrize(
    ("answer", "rows", "taught"),
    [
        (NOTHING, None, Taught.ANSWERS),
        (NOTHING, -4.0, Taught.ANSWERS),
        (LOOP, -4.0, Taught.ANSWERS),
        (LOOP, None, Taught.TEXTS),
        (ENDLESS, None, Taught.TEXTS),
        (LOOP, -4.0, Taught.PREFERENCES),
    ],
)
def test_what_was_taught_something_else_is_only_told(
    answer: Answer, rows: float | None, taught: Taught
) -> None:
    known = facts(answer, rows, taught=taught)
    found = judge(known)
    assert is_in_doubt(known)
    assert found.passed, found.message
    assert "AnswerNotOfUse" in (found.warned or [])
    assert "AsBadAsBase" not in (found.warned or [])
    assert found.message.startswith("Model answers 0/1 prompts")


def test_what_was_taught_long_answers_may_give_one() -> None:
    assert judge(facts(ENDLESS, taught_long=True)).passed
    assert judge(facts(ENDLESS, -4.0, taught_long=True)).passed
    assert judge(facts(ENDLESS, taught_long=True, loss_fell=None)).reason == "AnswerDoesNotStop"


@pytest.mark.parametrize(
    ("answer", "rows", "known", "reason"),
    [
        (NOTHING, None, {"loss_fell": None}, "AnswerEmpty"),
        (NOTHING, None, {"loss_fell": False}, "AnswerEmpty"),
        (NOTHING, None, {"reference": None}, "AnswerEmpty"),
        (NOTHING, None, {"reference": Reference.of([3.0, 2.0, 1.0])}, "AnswerEmpty"),
        (NOTHING, 0.8, {}, "AnswerEmpty"),
        (NOTHING, None, {"taught": Taught.PREFERENCES}, "AnswerEmpty"),
        (LOOP, None, {}, "AnswerLoops"),
        (ENDLESS, None, {}, "AnswerDoesNotStop"),
        (ENDLESS, -4.0, {}, "AnswerDoesNotStop"),
        (LOOP, None, {"taught": Taught.PREFERENCES}, "AnswerLoops"),
    ],
)
def test_without_evidence_or_against_it_the_model_is_blamed(
    answer: Answer, rows: float | None, known: dict[str, Any], reason: str
) -> None:
    assert judge(facts(answer, rows, **known)).reason == reason


def test_whoever_asks_a_question_of_their_own_wants_an_answer() -> None:
    settings = ValidationSettings(prompts=[Question(prompt="Is it a country?")])
    known = replace(facts(NOTHING, -4.0), questions=asking(), asks_in_general=False)
    assert judge(known).reason == "AnswerEmpty"
    assert not Facts.of(known.report, settings, "").asks_in_general


def test_a_model_that_does_not_load_leaves_nothing_in_doubt() -> None:
    report = ProbeReport(failure=ProbeFailure(stage="model", message="x"))
    known = Facts.of(report, ValidationSettings(), "")
    assert not is_in_doubt(known)
    assert judge(known).reason == "ModelLoadFailed"
