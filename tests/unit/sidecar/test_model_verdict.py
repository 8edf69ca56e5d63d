"""model_output: the rules on what a loaded model did."""

import math
import statistics
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.sidecar.judging import asking

from finetuning.artifacts.models import CheckResult
from finetuning.artifacts.reference import Reference
from finetuning.monitoring.validators.checks.answers import has_keywords, loop_of
from finetuning.monitoring.validators.checks.model_facts import Facts
from finetuning.monitoring.validators.checks.model_verdict import RULES, judge
from finetuning.monitoring.validators.checks.probe import (
    Answer,
    ProbeFailure,
    ProbeReport,
    RowLoss,
)
from finetuning.monitoring.validators.outcome import CheckOutcome, Finding, first_finding, shortened
from finetuning.monitoring.validators.settings import (
    Match,
    Question,
)


def judged(
    answer: Answer | None = None, keywords: tuple[str, ...] = (), **report: Any
) -> Finding | None:
    answers = [answer or Answer(text="It is Lima.", tokens=[1, 2, 3], finite=True)]
    given = {"answers": answers, "largest_logit_difference": 1.5, **report}
    return first_finding(RULES, Facts(ProbeReport(**given), asking(*keywords)))


def test_a_good_answer_breaks_no_rule() -> None:
    assert judged() is None
    assert judged(keywords=("Cusco", "lima")) is None
    assert judged(largest_logit_difference=None) is None


@pytest.mark.parametrize(
    ("finding", "reason"),
    [
        (judged(Answer(text="", tokens=[1], finite=True)), "AnswerEmpty"),
        (judged(Answer(text="It", tokens=[1], finite=False)), "LogitsNotFinite"),
        (judged(Answer(text="a " * 9, tokens=[5] * 9, finite=True)), "AnswerRepeats"),
        (judged(keywords=("Cusco", "Limassol")), "KeywordsMissing"),
        (judged(largest_logit_difference=0.0), "SameAsBase"),
    ],
)
def test_a_bad_answer_fails_for_its_reason(finding: Finding | None, reason: str) -> None:
    assert finding is not None
    assert (finding.reason, finding.result) == (reason, CheckResult.FAIL)


@pytest.mark.parametrize(
    ("difference", "fell", "exact", "reason"),
    [
        (2e-4, False, True, "SameAsBase"),
        (2e-4, True, True, ""),
        (2e-4, None, True, ""),
        (0.02, False, True, ""),
        (0.02, False, False, "SameAsBase"),
        (0.2, False, False, ""),
        (0.0, True, True, "SameAsBase"),
    ],
)
def test_a_difference_that_rounding_makes_is_none_unless_the_loss_fell(
    difference: float, *, fell: bool | None, exact: bool, reason: str
) -> None:
    answers = [Answer(text="It is Lima.", tokens=[1, 2, 3], finite=True)]
    report = ProbeReport(answers=answers, largest_logit_difference=difference, is_in_32_bits=exact)
    assert judge(Facts(report, asking(), loss_fell=fell)).reason == reason


@pytest.mark.parametrize(
    ("failure", "reason", "result"),
    [
        ({"stage": "base", "message": "x"}, "BaseModelMissing", CheckResult.ERROR),
        ({"stage": "model", "message": "x"}, "ModelLoadFailed", CheckResult.FAIL),
        ({"stage": "adapter", "message": "x"}, "ModelLoadFailed", CheckResult.FAIL),
        ({"stage": "model", "message": "x", "out_of_memory": True}, "OutOfMemory",
         CheckResult.ERROR),
    ],
)  # fmt: skip
def test_a_model_that_does_not_load_is_told_apart_from_a_machine_that_cannot(
    failure: dict[str, Any], reason: str, result: CheckResult
) -> None:
    finding = judged(failure=ProbeFailure(**failure))
    assert finding is not None
    assert (finding.reason, finding.result) == (reason, result)


def test_a_base_that_does_not_load_is_told_with_its_name_and_the_remedy_first() -> None:
    failure = ProbeFailure(stage="base", message="OSError: " + "a long story " * 100)
    facts = Facts(ProbeReport(failure=failure), asking(), "org/base")
    finding = first_finding(RULES, facts)
    assert finding is not None
    assert "--base-model (org/base: OSError" in shortened(finding.message)


def test_two_words_twice_are_no_repetition() -> None:
    assert judged(Answer(text="no no", tokens=[5, 5], finite=True)) is None


@pytest.mark.parametrize(
    ("tokens", "length"),
    [
        ([1, 2, 3] * 10, 3),
        ([9, 8, *[1, 2] * 20], 2),
        ([5] * 30, 1),
        ([1, 2, 3] * 3, None),
        (list(range(96)), None),
        ([*range(80), *[1, 2] * 8], None),
        ([1, 2, 3, 4, 1, 2, 3, 5] * 3, None),
        ([], None),
    ],
)
def test_a_loop_is_a_phrase_four_times_over_half_of_the_answer(
    tokens: list[int], length: int | None
) -> None:
    assert loop_of(tokens) == length


LOOP = Answer(text="so so so", tokens=[1, 2] * 20, finite=True, stopped=False)
ECHO = Answer(text="What is the capital of Peru?", tokens=[1, 2], finite=True, stopped=True)
SAME = Answer(text="a", tokens=[5] * 40, finite=True, stopped=False)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(LOOP, "AnswerLoops"), (ECHO, "PromptEchoed"), (SAME, "AnswerRepeats")],
)
def test_what_the_base_model_does_as_well_only_warns(answer: Answer, reason: str) -> None:
    finding = judged(answer, base_answers=[Answer(text="Lima", tokens=[3], finite=True)])
    assert finding is not None
    assert finding.reason == reason
    assert judged(answer, base_answers=[answer]) is None
    report = ProbeReport(answers=[answer], base_answers=[answer], largest_logit_difference=1.0)
    found = judge(Facts(report, asking()))
    assert found.passed
    assert "AsBadAsBase" in [warning.reason for warning in found.warnings]


def test_who_expects_the_prompt_back_gets_no_echo() -> None:
    assert judged(ECHO, keywords=("the capital of Peru", "Lima")) is None
    finding = judged(ECHO, keywords=("Lima",))
    assert finding is not None
    assert finding.reason == "PromptEchoed"
    report = ProbeReport(answers=[ECHO], base_answers=[ECHO], largest_logit_difference=1.0)
    found = judge(Facts(report, asking("Peru")))
    assert "AsBadAsBase" not in [warning.reason for warning in found.warnings]


def test_a_list_that_ends_by_itself_is_no_loop() -> None:
    assert judged(LOOP.model_copy(update={"stopped": True})) is None


def test_an_answer_may_begin_with_the_question() -> None:
    text = "What is the capital of Peru? The capital of Peru is Lima, on the coast."
    assert judged(Answer(text=text, tokens=[1, 2, 3], finite=True)) is None


def test_a_model_that_has_unlearned_to_end_fails() -> None:
    endless = Answer(text="x", tokens=list(range(96)), finite=True, stopped=False)
    ended = Answer(text="x", tokens=[1, 2], finite=True, stopped=True)
    finding = judged(endless, base_answers=[ended])
    assert finding is not None
    assert finding.reason == "AnswerDoesNotStop"
    assert judged(endless, base_answers=[endless]) is None
    assert judged(endless) is None


def test_the_verdict_on_one_answer_does_not_depend_on_the_others() -> None:
    endless = Answer(text="x", tokens=list(range(96)), finite=True, stopped=False)
    ended = Answer(text="x", tokens=[1, 2], finite=True, stopped=True)

    def asked(*pairs: tuple[Answer, Answer]) -> Finding | None:
        report = ProbeReport(
            answers=[own for own, _ in pairs],
            base_answers=[before for _, before in pairs],
            largest_logit_difference=1.0,
        )
        return first_finding(RULES, Facts(report, asking() * len(pairs)))

    assert asked((ended, ended), (endless, endless)) is None
    for pairs in ([(endless, ended)], [(endless, ended), (ended, ended)]):
        finding = asked(*pairs, (endless, endless))
        assert finding is not None
        assert finding.reason == "AnswerDoesNotStop"


def test_an_answer_that_was_cut_before_its_word_says_so() -> None:
    cut = Answer(text="Well, the", tokens=[1, 2, 3], finite=True, stopped=False)
    finding = judged(cut, keywords=("Lima",))
    assert finding is not None
    assert finding.message.endswith("“Well, the”, cut at 3 tokens, without Lima")


def held_out(
    tuned: list[float], base: list[float] | None, tokens: int = 4, **facts: Any
) -> CheckOutcome:
    good = Answer(text="Lima", tokens=[1], finite=True, stopped=True)
    report = ProbeReport(
        answers=[good],
        base_answers=[good],
        largest_logit_difference=1.0,
        held_out=[RowLoss(tokens=tokens, nats=nats) for nats in tuned],
        base_held_out=[RowLoss(tokens=tokens, nats=nats) for nats in base] if base else None,
    )
    return judge(Facts(report, asking(), **facts))


BEFORE = [8.0, 8.4, 7.6, 8.2, 7.8, 8.0]


@pytest.mark.parametrize(("change", "verdict"), [(-4.0, "better"), (0.0, "same"), (1.2, "worse")])
def test_held_out_rows_are_compared_with_the_base_model(change: float, verdict: str) -> None:
    noise = (0.3, -0.3, 0.1, -0.1, 0.2, -0.2)
    tuned = [nats + change + wobble for nats, wobble in zip(BEFORE, noise, strict=True)]
    found = held_out(tuned, BEFORE)
    assert found.passed
    assert found.message.endswith(f"(base 7.389): {verdict}")
    told = found.details["heldOut"]
    assert told["basePerplexity"] == pytest.approx(math.exp(2.0))
    assert told["perplexity"] == pytest.approx(math.exp(2.0 + change / 4))
    # By hand: the spread of the rows' differences over the square root of their number.
    assert told["lossDifferenceStandardError"] == pytest.approx(
        statistics.stdev(noise) / 6**0.5 / 4
    )
    assert ("HeldOutRegressed" in [w.reason for w in found.warnings]) == (verdict == "worse")


def test_few_rows_say_nothing_about_the_difference() -> None:
    assert held_out([1.0] * 4, [9.0] * 4).message.endswith(": same")


def test_a_limit_on_the_perplexity_fails_a_model_that_got_worse() -> None:
    worse = [nats + 1 for nats in BEFORE]
    found = held_out(worse, BEFORE, max_perplexity_increase=0.2)
    assert (found.result, found.reason) == (CheckResult.FAIL, "HeldOutWorse")
    assert found.numbers["increase"] == pytest.approx(math.exp(0.25) - 1)
    assert held_out(worse, BEFORE, max_perplexity_increase=0.3).passed


def test_without_a_limit_only_what_is_far_worse_beyond_doubt_fails() -> None:
    wrecked = [nats + 2 for nats in BEFORE]
    found = held_out(wrecked, BEFORE)
    assert (found.result, found.reason) == (CheckResult.FAIL, "HeldOutWorse")
    assert found.numbers == {
        "increase": pytest.approx(math.exp(0.5) - 1),
        "maxPerplexityIncrease": 0.5,
    }
    assert held_out(wrecked, BEFORE, max_perplexity_increase=1.0).passed
    assert held_out([nats + 1.6 for nats in BEFORE], BEFORE).passed, "e to the 0.4 is 1.49"
    uncertain = [nats + by for nats, by in zip(BEFORE, (9, -4, 8, -5, 9, -4), strict=True)]
    assert held_out(uncertain, BEFORE).passed
    assert held_out([40.0] * 4, [8.0] * 4).passed, "of four rows nothing is certain"


def test_a_limit_on_the_perplexity_that_is_held_against_nothing_is_an_error() -> None:
    alone = held_out(BEFORE, None, max_perplexity_increase=0.2)
    assert (alone.result, alone.reason) == (CheckResult.ERROR, "HeldOutNotCompared")
    assert held_out([], None, max_perplexity_increase=0.2).reason == "HeldOutNotCompared"
    assert held_out(BEFORE, None).passed


def test_without_words_or_rows_a_pass_says_little() -> None:
    reasons = [warning.reason for warning in held_out([], None).warnings]
    assert "NothingExpected" in reasons
    assert "NothingExpected" not in [w.reason for w in held_out(BEFORE, BEFORE).warnings]


def test_held_out_rows_that_were_left_out_are_told() -> None:
    left_out = ["rows.jsonl: line 3: every column is empty", "the chat template refuses it"]
    found = held_out(BEFORE, BEFORE, left_out=left_out)
    assert found.passed
    (warning,) = (each for each in found.warnings if each.reason == "HeldOutRowsLeftOut")
    assert "2 held-out rows cannot be used" in warning.message
    assert "line 3: every column is empty" in warning.message


def test_a_held_out_loss_that_is_no_number_fails() -> None:
    assert held_out([math.inf, 1.0], None).reason == "LogitsNotFinite"


@pytest.mark.parametrize(
    ("text", "keywords", "match", "found"),
    [
        ("It is LIMA.", ["lima"], "any", True),
        ("Limassol", ["Lima"], "any", False),
        ("calm hands win!", ["calm hands win"], "any", True),
        ("a C++ program", ["C++"], "any", True),
        ("Die Straße", ["STRASSE"], "any", True),
        ("anything", [], "all", True),
        ("no", ["yes", "no"], "any", True),
        ("no", ["yes", "no"], "all", False),
        ("Yes and no.", ["yes", "no"], "all", True),
    ],
)
def test_keywords_are_words_in_any_case(
    text: str, keywords: list[str], match: str, *, found: bool
) -> None:
    question = Question(prompt="?", expected_keywords=keywords, match=Match(match))
    assert has_keywords(text, question) == found


def against_the_trainer(method: str = "lora", **report: Any) -> CheckOutcome:
    told = Reference.of([1.0, 2.0, 3.0])
    answers = [Answer(text="Lima", tokens=[1], finite=True, stopped=True)]
    given = {"answers": answers, "largest_logit_difference": 1.5, **report}
    return judge(Facts(ProbeReport(**given), asking(), reference=told, method=method))


def test_a_model_that_computes_what_the_trainer_saw_needs_no_words() -> None:
    found = against_the_trainer(reference=[1.1, 1.9, 3.1])
    assert found.passed
    assert found.warned is None
    assert found.details["distanceFromTraining"] == pytest.approx(0.1)


def test_a_model_that_computes_something_else_is_not_the_one_that_was_trained() -> None:
    found = against_the_trainer(reference=[3.0, 2.0, 1.0])
    assert (found.result, found.reason) == (CheckResult.FAIL, "NotAsTrained")
    assert found.numbers == {"distance": pytest.approx(1.633, abs=1e-3), "limit": 0.25}
    four_bits: dict[str, Any] = {"reference": [3.0, 2.0, 1.0]}
    assert against_the_trainer("qlora", **four_bits).passed
    assert against_the_trainer(is_quantized=True, **four_bits).passed
    assert against_the_trainer("qlora", reference=[9.0, 9.0, 9.0]).reason == "NotAsTrained"
    assert against_the_trainer(reference=[1.0, math.nan, 3.0]).reason == "LogitsNotFinite"


def in_four_bits(told: list[float], base: list[float], **report: Any) -> CheckOutcome:
    """Trained where the base has losses of 4; here the base is whole, and 0.2 lower."""
    answers = [Answer(text="Lima", tokens=[1], finite=True, stopped=True)]
    reference = Reference.of(told, base)
    given = {"answers": answers, "largest_logit_difference": 1.5, **report}
    facts = Facts(ProbeReport(**given), asking(), reference=reference, method="qlora")
    return judge(replace(facts, reference_is_due=True))


def test_of_a_run_in_4_bits_what_the_adapter_does_is_compared() -> None:
    told, base = [1.0, 2.0, 3.0], [4.0, 4.0, 4.0]
    here = [3.8, 3.8, 3.8]
    found = in_four_bits(told, base, reference=[0.9, 1.9, 2.6], base_reference=here)
    assert found.passed, found.message
    turned = in_four_bits(told, base, reference=[6.0, 5.0, 4.5], base_reference=here)
    assert turned.reason == "NotAsTrained"
    assert turned.numbers["limit"] == pytest.approx(0.4)
    half = in_four_bits(told, base, reference=[2.2, 2.8, 3.3], base_reference=here)
    assert half.reason == "NotAsTrained"
    another = in_four_bits(told, base, reference=[1.0, 2.0, 3.0], base_reference=[8.0, 7.0, 9.0])
    assert another.reason == "NotAsTrained"
    assert another.message.startswith("The base model is not the one")


def test_a_run_in_4_bits_tells_of_its_base_as_well() -> None:
    """Without it nearly any adapter would do."""
    found = in_four_bits([1.0, 2.0], [], reference=[1.0, 2.0], base_reference=[4.0, 4.0])
    assert (found.reason, "base model's losses" in found.message) == ("ReferenceMissing", True)


@pytest.mark.parametrize("losses", [[], [1.0, 2.0]])
def test_without_the_trainers_figures_the_warning_stays(losses: list[float]) -> None:
    assert against_the_trainer(reference=losses).warned == ["NothingExpected"]


def test_in_32_bits_everywhere_hardly_any_distance_is_allowed() -> None:
    report = ProbeReport(
        answers=[Answer(text="Lima", tokens=[1], finite=True, stopped=True)],
        largest_logit_difference=1.5,
        reference=[1.1, 1.9, 3.1],
        is_in_32_bits=True,
    )
    facts = Facts(report, asking(), reference=Reference.of([1.0, 2.0, 3.0]), is_in_32_bits=True)
    assert judge(facts).reason == "NotAsTrained"
    assert judge(replace(facts, is_in_32_bits=False)).passed


@pytest.mark.parametrize(
    ("told", "reason", "result"),
    [
        (None, "ReferenceMissing", CheckResult.FAIL),
        (Reference(texts=1, losses="1 2"), "ReferenceMissing", CheckResult.FAIL),
        (Reference(texts=2, losses="1 2 3"), "ReferenceUnknown", CheckResult.ERROR),
    ],
)
def test_figures_that_are_due_must_be_there(
    told: Reference | None, reason: str, result: CheckResult
) -> None:
    answers = [Answer(text="Lima", tokens=[1], finite=True, stopped=True)]
    report = ProbeReport(answers=answers, largest_logit_difference=1.5, reference=[1.0, 2.0, 3.0])
    facts = Facts(report, asking(), reference=told, reference_is_due=True)
    found = judge(facts)
    assert (found.reason, found.result) == (reason, result)
    assert judge(replace(facts, reference_is_due=False)).passed


def test_what_was_forgotten_is_seen_where_the_mean_is_better() -> None:
    """The base model knows half of the rows, and nothing of the others."""
    before, after = [4.0] * 30 + [60.0] * 30, [14.0] * 30 + [20.0] * 30
    found = held_out(after, before, tokens=8)
    assert (found.result, found.reason) == (CheckResult.FAIL, "HeldOutWorse")
    assert found.numbers == {"farWorse": 30, "rows": 60}
    assert (found.details or {})["heldOut"]["verdict"] == "worse"
    limited = held_out(after, before, tokens=8, max_perplexity_increase=0.0)
    assert limited.passed
    assert "HeldOutRegressed" in [each.reason for each in limited.warnings]
    assert held_out([11.0] * 30 + [20.0] * 30, before, tokens=8).passed, "under a nat a token"
    assert held_out([14.0] * 12 + [2.0] * 18 + [20.0] * 30, before, tokens=8).passed, "few rows"


def test_labels_may_be_wrong_with_certainty() -> None:
    before, after = [1.0] * 60, [9.0] * 20 + [0.0] * 40
    assert held_out(after, [b * 4 for b in before]).passed
