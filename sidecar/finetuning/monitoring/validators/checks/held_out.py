"""Comparing two models by rows that the run has not seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finetuning.monitoring.validators.checks.probe import RowLoss

FEWEST_ROWS = 5
"""Below this the spread over the rows says nothing."""

SIGNIFICANT = 1.96
"""Standard errors: less than one in twenty is by chance."""

WRECKED, BEYOND_DOUBT = 0.5, 3.0
"""Share by which the perplexity lies above the base model's, and standard errors of the loss, from
which on a model fails that nobody has set a limit for."""

FAR_WORSE, FEW = 1.0, 0.1
"""Nats per token by which a row costs more than with the base model, and the share of such rows
from which on, beyond doubt, the model has forgotten things: a mean can be better all the same, by
rows that the base model knows nothing of. Healthy runs have none."""

FEWEST_TOKENS = 5
"""Of rows that are counted so: a label that is wrong costs that much where the others are right."""


@dataclass(frozen=True)
class Comparison:
    """Tuned against base on the same tokens; losses in nats per token."""

    rows: int
    tokens: int
    loss: float
    base_loss: float | None
    standard_error: float | None
    """Of the difference, from its spread over the rows; None for fewer than five."""
    counted: int = 0
    """Rows of five tokens or more,"""
    far_worse: int = 0
    """and how many of these cost far more than with the base model."""

    @property
    def perplexity(self) -> float:
        return _exp(self.loss)

    @property
    def base_perplexity(self) -> float | None:
        return None if self.base_loss is None else _exp(self.base_loss)

    @property
    def increase(self) -> float | None:
        """Of the perplexity, as a share of the base model's."""
        return None if self.base_loss is None else _exp(self.loss - self.base_loss) - 1

    @property
    def is_wrecked(self) -> bool:
        """Whether it is far worse than the base model beyond any doubt."""
        if self.base_loss is None or self.standard_error is None or self.increase is None:
            return False
        certain = self.loss - self.base_loss > BEYOND_DOUBT * self.standard_error
        return certain and self.increase > WRECKED

    @property
    def has_forgotten(self) -> bool:
        """Whether more than a few rows cost far more, whatever the others gained."""
        if self.counted < FEWEST_ROWS:
            return False
        error = math.sqrt(FEW * (1 - FEW) / self.counted)
        return self.far_worse / self.counted > FEW + BEYOND_DOUBT * error

    @property
    def verdict(self) -> str:
        """better, same or worse than the base model; empty without one."""
        if self.base_loss is None:
            return ""
        if self.has_forgotten:
            return "worse"
        difference = self.loss - self.base_loss
        if self.standard_error is None or abs(difference) <= SIGNIFICANT * self.standard_error:
            return "same"
        return "worse" if difference > 0 else "better"


def compare(tuned: Sequence[RowLoss], base: Sequence[RowLoss] | None) -> Comparison | None:
    """Both models have scored the same rows; None where there are none."""
    if not tuned:
        return None
    tokens = sum(row.tokens for row in tuned)
    loss = sum(row.nats for row in tuned) / tokens
    if base is None:
        return Comparison(len(tuned), tokens, loss, None, None)
    base_loss = sum(row.nats for row in base) / tokens
    differences = [one.nats - other.nats for one, other in zip(tuned, base, strict=True)]
    counts = [row.tokens for row in tuned]
    error = _ratio_error(differences, counts, loss - base_loss)
    more = [part / n for part, n in zip(differences, counts, strict=True) if n >= FEWEST_TOKENS]
    far_worse = sum(each > FAR_WORSE for each in more)
    return Comparison(len(tuned), tokens, loss, base_loss, error, len(more), far_worse)


def _ratio_error(sums: Sequence[float], counts: Sequence[int], mean: float) -> float | None:
    """Standard error of sum(sums) / sum(counts) where rows, not tokens, are independent.

    The linearised ratio estimator (Cochran, Sampling Techniques, 6.4).
    """
    rows = len(sums)
    if rows < FEWEST_ROWS:
        return None
    squares = sum((part - mean * count) ** 2 for part, count in zip(sums, counts, strict=True))
    return math.sqrt(rows / (rows - 1) * squares) / sum(counts)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf  # noqa: PLR2004 - where a float ends
