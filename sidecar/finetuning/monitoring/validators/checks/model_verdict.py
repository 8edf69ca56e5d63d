"""The verdict on what a loaded model did: an ordered list of small rules over a ProbeReport."""

import json
import math
from collections.abc import Callable
from typing import Any

from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks.answers import (
    echoes,
    has_keywords,
    is_empty,
    loops,
    missing_words,
    repeats_one_token,
)
from finetuning.monitoring.validators.checks.benchmarks import Compared, missing_library
from finetuning.monitoring.validators.checks.held_out import FAR_WORSE, WRECKED, Comparison
from finetuning.monitoring.validators.checks.model_facts import Facts
from finetuning.monitoring.validators.checks.model_failure import finding_of
from finetuning.monitoring.validators.checks.probe import Answer
from finetuning.monitoring.validators.outcome import (
    CheckOutcome,
    Finding,
    Passed,
    Rule,
    all_findings,
    first_finding,
    outcome,
    shortened,
)
from finetuning.monitoring.validators.settings import Match, Question

NAME = "model_output"
_SHOWN_CHARACTERS = 60

Fault = Callable[[Question, Answer], bool]


def judge(facts: Facts) -> CheckOutcome:
    """The verdict on what the model did."""
    finding = first_finding(RULES, facts)
    warnings = [] if finding else all_findings(WARNINGS, facts)
    verdict = finding or Passed(_message(facts))
    score, details = _score(facts), _details(facts)
    threshold = None if score is None else 1.0
    return outcome(
        NAME, verdict, score=score, threshold=threshold, details=details, warnings=warnings
    )


def model_did_not_load(facts: Facts) -> Finding | None:
    failure = facts.report.failure
    return finding_of(failure, facts.base) if failure else None


def settings_are_others(facts: Facts) -> Finding | None:
    """Weights and answers to short questions may be right all the same."""
    if text := facts.report.computes:
        return Finding("ConfigMismatch", f"config.json: {text} as in the base model")
    if text := facts.report.generates:
        return Finding("GenerationMismatch", f"generation settings: {text} as in the base model")
    return None


def logits_are_not_finite(facts: Facts) -> Finding | None:
    for question, answer in facts.pairs:
        if not answer.finite:
            text = f"Logits are NaN or infinite for {_shown(question.prompt)}"
            return Finding("LogitsNotFinite", text)
    nats = [*(row.nats for row in facts.report.held_out), *facts.report.reference]
    if not all(map(math.isfinite, nats)):
        return Finding("LogitsNotFinite", "The loss of a held-out row or text is NaN or infinite")
    return None


def answer_is_empty(facts: Facts) -> Finding | None:
    for question, answer in facts.pairs:
        if is_empty(answer):
            return Finding("AnswerEmpty", f"The model says nothing to {_shown(question.prompt)}")
    return None


def held_out_is_not_compared(facts: Facts) -> Finding | None:
    """A limit that is not held against anything must not pass."""
    found = facts.comparison
    if facts.max_perplexity_increase is None or (found and found.increase is not None):
        return None
    why = "there is no base model" if found else "no held-out row has an answer within the length"
    text = f"The held-out perplexity was not compared with the base model's: {why}"
    return Finding("HeldOutNotCompared", text, CheckResult.ERROR)


def benchmarks_are_not_compared(facts: Facts) -> Finding | None:
    """As with the perplexity: a limit must be held against something."""
    why = _why_no_scores(facts)
    if facts.max_drop is None or not why:
        return None
    text = f"The benchmarks were not compared with the base model's: {why}"
    return Finding("BenchmarksNotCompared", text, CheckResult.ERROR)


def benchmarks_were_left_out(facts: Facts) -> Finding | None:
    why = _why_no_scores(facts)
    return Finding("BenchmarksSkipped", f"No task was compared: {why}") if why else None


def _why_no_scores(facts: Facts) -> str:
    if not facts.tasks:
        return ""
    if not facts.report.scores:
        return facts.report.scores_problem or missing_library() or "none was run"
    return "" if facts.report.base_scores else "there is no base model"


def benchmark_is_worse(facts: Facts) -> Finding | None:
    limit = facts.max_drop
    worse = [] if limit is None else [s for s in _worse_scores(facts) if s.drop > limit]
    if not worse or limit is None:
        return None
    first = worse[0]
    text = f"{_told_score(first)}, {first.drop:.1%} for the worse; {limit:.1%} is allowed"
    return Finding("BenchmarkWorse", text, numbers={"drop": first.drop, "maxDrop": limit})


def benchmark_regressed(facts: Facts) -> Finding | None:
    worse = [_told_score(score) for score in _worse_scores(facts)]
    return Finding("BenchmarkRegressed", "; ".join(worse)) if worse else None


def _worse_scores(facts: Facts) -> list[Compared]:
    return [score for score in facts.scores if score.verdict == "worse"]


def _told_score(found: Compared) -> str:
    own = f"{found.task} {found.metric} {found.tuned:.4g}"
    return own if found.base is None else f"{own} (base {found.base:.4g}): {found.verdict}"


def answer_is_one_token(facts: Facts) -> Finding | None:
    text = "The model repeats one token for"
    return _worse(facts, "AnswerRepeats", text, lambda _, answer: repeats_one_token(answer))


def answer_loops(facts: Facts) -> Finding | None:
    text = "The model repeats a phrase for"
    return _worse(facts, "AnswerLoops", text, lambda _, answer: loops(answer))


def answer_is_the_prompt(facts: Facts) -> Finding | None:
    return _worse(facts, "PromptEchoed", "The model only repeats the prompt", _is_echo)


def _is_echo(question: Question, answer: Answer) -> bool:
    """A sentence that had nothing to put right comes back as it was, where that is expected."""
    wanted = bool(question.expected_keywords) and has_keywords(answer.text, question)
    return echoes(question.prompt, answer) and not wanted


def _worse(facts: Facts, reason: str, text: str, is_bad: Fault) -> Finding | None:
    """What the base model does as well, the tuning has not broken."""
    for question, answer, before in facts.triples:
        if is_bad(question, answer) and (before is None or not is_bad(question, before)):
            told = f"{text} {_shown(question.prompt)}: {_shown(answer.text)}"
            return Finding(reason, told)
    return None


def answers_do_not_stop(facts: Facts) -> Finding | None:
    """Long answers are no fault by themselves; having unlearned to end is.

    An answer that the base model ends had more time than others (`let_end`).
    """
    for question, answer, before in facts.triples:
        if loops(answer) and "AnswerLoops" in facts.excused:
            continue
        if answer.stopped is False and before is not None and before.stopped:
            count = len(answer.tokens)
            text = f"The model does not end its answer to {_shown(question.prompt)}"
            told = f"{text} within {count} tokens; the base model ends its own"
            return Finding("AnswerDoesNotStop", told, numbers={"tokens": count})
    return None


def model_is_the_base(facts: Facts) -> Finding | None:
    """Where the loss has clearly fallen, a difference however small was learned."""
    found, limit = facts.report.largest_logit_difference, facts.least_difference
    if found == 0:
        return Finding("SameAsBase", "The tuned model computes exactly what the base model does")
    if found is None or not facts.is_near_the_base or facts.loss_fell is not False:
        return None
    text = f"No logit is further than {found:.2g} from the base model's, {limit:g} is rounding"
    return Finding(
        "SameAsBase",
        f"{text}, and the loss did not clearly fall: nothing was learned",
        numbers={"largestLogitDifference": found, "limit": limit},
    )


def keyword_is_missing(facts: Facts) -> Finding | None:
    for question, answer in facts.pairs:
        if not has_keywords(answer.text, question):
            joint = " and " if question.match is Match.ALL else " or "
            absent = joint.join(missing_words(answer.text, question))
            text = f"{_shown(question.prompt)} was answered with {_shown(answer.text)}"
            return Finding("KeywordsMissing", f"{text}{_cut(answer)}, without {absent}")
    return None


def _cut(answer: Answer) -> str:
    return "" if answer.stopped is not False else f", cut at {len(answer.tokens)} tokens"


def model_is_another(facts: Facts) -> Finding | None:
    return facts.as_trained.difference()


def reference_is_lost(facts: Facts) -> Finding | None:
    return facts.as_trained.loss() if facts.reference_is_due else None


def held_out_is_worse(facts: Facts) -> Finding | None:
    """Without a limit of the user's only what is far worse, beyond any doubt."""
    found, limit = facts.comparison, facts.max_perplexity_increase
    if found is None or found.increase is None:
        return None
    if limit is None and found.has_forgotten and not found.is_wrecked:
        return _forgotten(found)
    if not found.is_wrecked if limit is None else found.increase <= limit:
        return None
    limit = WRECKED if limit is None else limit
    return Finding(
        "HeldOutWorse",
        f"Held-out perplexity {found.perplexity:.4g} is {found.increase:.1%} above the base "
        f"model's {found.base_perplexity:.4g}; {limit:.1%} is allowed",
        numbers={"increase": found.increase, "maxPerplexityIncrease": limit},
    )


def _forgotten(found: Comparison) -> Finding:
    """The mean may be better: of what the base model has never seen, little is much."""
    return Finding(
        "HeldOutWorse",
        f"{found.far_worse} of {found.counted} held-out rows cost over {FAR_WORSE:.0f} nat a token "
        f"more than with the base model, though perplexity is {found.perplexity:.4g} and its "
        f"{found.base_perplexity:.4g}",
        numbers={"farWorse": found.far_worse, "rows": found.counted},
    )


def held_out_regressed(facts: Facts) -> Finding | None:
    found = facts.comparison
    if found is None or found.verdict != "worse":
        return None
    text = f"Held-out perplexity {found.perplexity:.4g}, base {found.base_perplexity:.4g}"
    return Finding("HeldOutRegressed", text)


def held_out_rows_were_left_out(facts: Facts) -> Finding | None:
    count = len(facts.left_out)
    if not count:
        return None
    text = f"{count} held-out rows cannot be used and were left out; the first: {facts.left_out[0]}"
    return Finding("HeldOutRowsLeftOut", text, numbers={"rows": count})


def answer_is_narrow(facts: Facts) -> Finding | None:
    found = first_finding(ANSWER_RULES, facts)
    if found is None or found.reason not in facts.excused:
        return None
    return Finding("AnswerNotOfUse", f"{found.message}; but {facts.evidence}")


def base_is_as_bad(facts: Facts) -> Finding | None:
    if answer_is_narrow(facts):
        return None
    for question, answer, _ in facts.triples:
        if repeats_one_token(answer) or loops(answer) or _is_echo(question, answer):
            text = f"Neither model gives a useful answer to {_shown(question.prompt)}"
            return Finding("AsBadAsBase", text)
    return None


def answer_was_cut_off(facts: Facts) -> Finding | None:
    count = sum(answer.stopped is False for answer in facts.report.answers)
    total = len(facts.report.answers)
    return Finding("AnswerCutOff", f"{count} of {total} answers reach the limit") if count else None


def nothing_is_expected(facts: Facts) -> Finding | None:
    told = facts.report.held_out or facts.scores or facts.as_trained.distance is not None
    if told or any(q.expected_keywords for q in facts.questions):
        return None
    return Finding("NothingExpected", "Neither expected words nor held-out rows were given")


def nothing_to_compare(facts: Facts) -> Finding | None:
    if facts.report.largest_logit_difference is not None:
        return None
    return Finding("NotCompared", "That the model differs from its base was not shown")


ANSWER_RULES: tuple[Rule[Facts], ...] = (
    answer_is_empty,
    answer_is_one_token,
    answer_loops,
    answer_is_the_prompt,
    answers_do_not_stop,
)


def is_in_doubt(facts: Facts) -> bool:
    """Whether more must be known of the training before an answer is blamed."""
    if not facts.asks_in_general or facts.report.failure is not None:
        return False
    return first_finding(ANSWER_RULES, facts) is not None


def _unless_excused(rule: Rule[Facts]) -> Rule[Facts]:
    def blamed(facts: Facts) -> Finding | None:
        found = rule(facts)
        return None if found and found.reason in facts.excused else found

    return blamed


RULES: tuple[Rule[Facts], ...] = (
    model_did_not_load,
    settings_are_others,
    logits_are_not_finite,
    _unless_excused(answer_is_empty),
    held_out_is_not_compared,
    held_out_is_worse,
    benchmarks_are_not_compared,
    benchmark_is_worse,
    *map(_unless_excused, (answer_is_one_token, answer_loops, answer_is_the_prompt)),
    keyword_is_missing,
    model_is_another,
    reference_is_lost,
    _unless_excused(answers_do_not_stop),
    model_is_the_base,
)
WARNINGS: tuple[Rule[Facts], ...] = (
    held_out_regressed,
    held_out_rows_were_left_out,
    benchmark_regressed,
    benchmarks_were_left_out,
    answer_is_narrow,
    base_is_as_bad,
    answer_was_cut_off,
    nothing_is_expected,
    nothing_to_compare,
)


def _message(facts: Facts) -> str:
    count = len(facts.report.answers)
    good = count - (answer_is_narrow(facts) is not None)
    compared = facts.report.largest_logit_difference is not None
    base = "differs from the base model" if compared else "no base model to compare with"
    scores = "".join(f"; {_told_score(score)}" for score in facts.scores)
    return f"Model answers {good}/{count} prompts; {base}{_told(facts.comparison)}{scores}"


def _told(found: Comparison | None) -> str:
    if found is None:
        return ""
    own = f"; held-out perplexity {found.perplexity:.4g}"
    if found.base_perplexity is None:
        return own
    return f"{own} (base {found.base_perplexity:.4g}): {found.verdict}"


def _score(facts: Facts) -> float | None:
    """The share of answers with their expected words, where words are expected."""
    if facts.report.failure is not None:
        return None
    asked = [(q, a) for q, a in facts.pairs if q.expected_keywords]
    good = sum(has_keywords(answer.text, question) for question, answer in asked)
    return good / len(asked) if asked else None


def _details(facts: Facts) -> dict[str, Any]:
    report = facts.report
    if report.failure is not None:
        return {"failure": json.loads(report.failure.model_dump_json())}
    return {
        "device": report.device,
        "loadSeconds": round(report.seconds - report.answering_seconds, 3),
        "answerSeconds": round(report.answering_seconds, 3),
        "largestLogitDifference": report.largest_logit_difference,
        "answers": [
            {
                "prompt": question.prompt,
                "answer": answer.text,
                "stopped": answer.stopped,
                "baseAnswer": before.text if before else None,
                "expectedKeywords": question.expected_keywords,
                "match": question.match,
            }
            for question, answer, before in facts.triples
        ],
        "distanceFromTraining": _finite(facts.as_trained.distance),
        "heldOut": _shown_comparison(facts.comparison),
        "benchmarks": [_shown_score(score) for score in facts.scores],
    }


def _shown_comparison(found: Comparison | None) -> dict[str, Any] | None:
    if found is None or not math.isfinite(found.loss):
        return None
    return {
        "rows": found.rows,
        "tokens": found.tokens,
        "loss": found.loss,
        "perplexity": _finite(found.perplexity),
        "baseLoss": _finite(found.base_loss),
        "basePerplexity": _finite(found.base_perplexity),
        "lossDifferenceStandardError": _finite(found.standard_error),
        "farWorseRows": found.far_worse,
        "verdict": found.verdict,
    }


def _shown_score(found: Compared) -> dict[str, Any]:
    return {
        "task": found.task,
        "metric": found.metric,
        "samples": found.samples,
        "tuned": found.tuned,
        "base": found.base,
        "z": found.z,
        "verdict": found.verdict,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _shown(text: str) -> str:
    return f"“{shortened(text, _SHOWN_CHARACTERS)}”"
