"""What is known of a loaded model, beside what it did: the rules of model_verdict look at this."""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Self

from finetuning.artifacts.reference import Reference
from finetuning.monitoring.validators.checks.as_trained import AsTrained
from finetuning.monitoring.validators.checks.benchmarks import Compared, compare_scores
from finetuning.monitoring.validators.checks.held_out import Comparison, compare
from finetuning.monitoring.validators.checks.probe import Answer, ProbeReport
from finetuning.monitoring.validators.settings import Question, ValidationSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROUNDING, _ROUNDING_IN_16_BITS = 0.01, 0.0625
"""Of logits. Trainings with a learning rate that teaches nothing (1e-7 for an adapter, 1e-9 for a
whole model, 30 and 60 steps) change them by 7e-6 to 2e-4; in bf16 a logit from 8 on is rounded to
steps of 1/16."""


class Taught(StrEnum):
    """What the rows of a training are."""

    ANSWERS = "answers"
    TEXTS = "texts"
    """Every token is trained, so that nothing tells a question from its answer."""
    PREFERENCES = "preferences"


@dataclass(frozen=True)
class Facts:
    """What the loaded model did."""

    report: ProbeReport
    questions: list[Question]
    base: str = ""
    asks_in_general: bool = False
    """Whether the question is the validator's own: no run was taught it."""
    max_perplexity_increase: float | None = None
    tasks: int = 0
    """Benchmarks that are wanted."""
    max_drop: float | None = None
    left_out: list[str] = field(default_factory=list)
    """What is wrong with held-out rows that were not scored."""
    reference: Reference | None = None
    """What the trainer has seen of the model that it saved."""
    reference_is_due: bool = False
    """Whether the trainer that made this run tells what it has seen, or that it could not."""
    method: str | None = None
    is_adapter: bool = False
    is_in_32_bits: bool = False
    """Whether the run was trained, and is stored, so."""
    loss_fell: bool | None = None
    """Whether the loss of the training fell beyond its noise; None where no trend can be told, or
    where nothing depends on it: the history of a long run is large."""
    taught: Taught = Taught.ANSWERS
    taught_long: bool = False
    """Whether most rows are longer than an answer that ends is given time for."""

    @classmethod
    def of(cls, report: ProbeReport, settings: ValidationSettings, base: str) -> Self:
        wanted = settings.benchmarks
        return cls(
            report,
            settings.questions,
            base,
            asks_in_general=not settings.prompts,
            max_perplexity_increase=settings.baseline.max_perplexity_increase,
            tasks=len(wanted.tasks),
            max_drop=wanted.max_drop,
        )

    @property
    def pairs(self) -> list[tuple[Question, Answer]]:
        return list(zip(self.questions, self.report.answers, strict=True))

    @cached_property
    def triples(self) -> list[tuple[Question, Answer, Answer | None]]:
        """Each question with the tuned model's answer and the base model's, if it was asked."""
        before: Sequence[Answer | None] = self.report.base_answers or [None] * len(self.questions)
        return list(zip(self.questions, self.report.answers, before, strict=True))

    @cached_property
    def comparison(self) -> Comparison | None:
        return compare(self.report.held_out, self.report.base_held_out)

    @cached_property
    def as_trained(self) -> AsTrained:
        return AsTrained(
            self.reference, self.report, self.method, self.is_in_32_bits, self.is_adapter
        )

    @cached_property
    def is_as_trained(self) -> bool:
        """Whether the trainer told what the model computes, and it does."""
        return self.as_trained.distance is not None and self.as_trained.difference() is None

    @cached_property
    def evidence(self) -> str:
        """Why the model can be said to do what it was taught; empty where nothing tells."""
        rows = self.comparison.verdict if self.comparison else ""
        if rows in ("better", "worse"):
            return "held-out rows are better than the base model's" if rows == "better" else ""
        told = self.is_as_trained and self.loss_fell is True
        of_rows = self.taught is not Taught.PREFERENCES
        return "its loss fell, and it is what the trainer saw" if told and of_rows else ""

    @cached_property
    def excused(self) -> frozenset[str]:
        """Faults of an answer that a model may have which was taught something narrow.

        The validator's own question is none of what it was taught. A classifier may have nothing
        to say to it, and a model of plain texts goes on and on; one that was taught answers gives
        some, unless held-out rows say otherwise.
        """
        if not self.asks_in_general or not self.evidence:
            return frozenset()
        return self._of_its_kind | ({"AnswerDoesNotStop"} if self.taught_long else set())

    @property
    def _of_its_kind(self) -> frozenset[str]:
        if self.comparison and self.comparison.verdict == "better":
            return frozenset({"AnswerEmpty", "AnswerRepeats", "AnswerLoops", "PromptEchoed"})
        if self.taught is Taught.TEXTS:
            return frozenset({"AnswerEmpty", "AnswerRepeats", "AnswerLoops", "AnswerDoesNotStop"})
        return frozenset({"AnswerEmpty"})

    @property
    def least_difference(self) -> float:
        """Of a logit, beyond what rounding does to a model that is the same."""
        exact = self.report.is_in_32_bits and not self.report.is_quantized
        return _ROUNDING if exact else _ROUNDING_IN_16_BITS

    @property
    def is_near_the_base(self) -> bool:
        """Whether no logit is further from the base model's than rounding takes it."""
        found = self.report.largest_logit_difference
        return found is not None and found <= self.least_difference

    @cached_property
    def scores(self) -> list[Compared]:
        return compare_scores(self.report.scores, self.report.base_scores)
