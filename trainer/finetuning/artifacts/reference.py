"""Texts that the trainer scores with the model that it saves, and the validator with what it loads.

Neither knows what the other will see of the model: both must find the same, token by token. The
texts are nobody's data, so that nothing of a data set leaves with a model.
"""

import math
from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

TEXTS = (
    """The old lighthouse stood at the end of the pier. Every evening its keeper climbed 112 steps,
lit the lamp and wrote the weather into a book: wind from the west, rain before morning.""",
    """To make bread you need flour, water, salt and yeast. Mix them, let the dough rest for two
hours, then bake it until the crust is brown.""",
    """def area(width, height):
    if width < 0 or height < 0:
        raise ValueError("negative size")
    return width * height
""",
)
VERSION = 1
"""Of the texts."""


class Reference(BaseModel):
    """The losses of a model on these texts, in nats, token by token."""

    model_config = ConfigDict(extra="ignore")

    texts: int = Field(ge=0)
    losses: str = Field(pattern=r"^-?[0-9.]+( -?[0-9.]+)*$", max_length=20_000)
    """In one line of a file that people read."""
    in_32_bits: bool = False
    """Whether they were computed so, whatever the training's precision."""
    base_losses: str = Field(default="", pattern=r"^(-?[0-9.]+( -?[0-9.]+)*)?$", max_length=20_000)
    """The same of an adapter's base as it was trained with, so in 4 bits where it was quantised."""

    @property
    def effect(self) -> float | None:
        """What the adapter changes of its base's losses, in the root of the mean square; nats."""
        told = _less(_read(self.losses), _read(self.base_losses))
        return math.hypot(*told) / math.sqrt(len(told)) if told else None

    @classmethod
    def of(
        cls, losses: Sequence[float], base_losses: Sequence[float] = (), *, in_32_bits: bool = False
    ) -> Self | None:
        """None where one is not finite, as in a model that computes nonsense already."""
        if not losses or not all(map(math.isfinite, [*losses, *base_losses])):
            return None
        return cls(
            texts=VERSION,
            losses=_written(losses),
            in_32_bits=in_32_bits,
            base_losses=_written(base_losses),
        )

    def distance(self, losses: Sequence[float]) -> float | None:
        """Root of the mean square difference in nats; None where they cannot be compared."""
        return self._distance(_read(self.losses), losses)

    def base_distance(self, losses: Sequence[float]) -> float | None:
        """The same of the base model: what storing it otherwise does to it."""
        return self._distance(_read(self.base_losses), losses)

    def effect_distance(
        self, losses: Sequence[float], base_losses: Sequence[float]
    ) -> float | None:
        """The same of what the adapter makes different from its base."""
        told = _less(_read(self.losses), _read(self.base_losses))
        return self._distance(told, _less(losses, base_losses))

    def _distance(self, told: Sequence[float], found: Sequence[float]) -> float | None:
        if self.texts != VERSION or not told or len(told) != len(found):
            return None
        return math.dist(told, found) / math.sqrt(len(told))


def _written(losses: Sequence[float]) -> str:
    return " ".join(f"{loss:.3f}" for loss in losses)


def _read(losses: str) -> list[float]:
    return [float(loss) for loss in losses.split()]


def _less(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Empty where they are not of the same tokens."""
    same = len(one) == len(other)
    return [mine - theirs for mine, theirs in zip(one, other, strict=True)] if same else []
