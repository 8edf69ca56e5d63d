"""The run's arithmetic: how many steps, which rows in which step, which learning rate.

Everything follows from the settings and the step's number, so a resumed run needs no position in
the data and no state of a scheduler: step 41 is the same step whoever asks.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt

from finetuning.api.hyperparameters import Hyperparameters, LrSchedulerType

SAVES_PER_RUN = 10
SHORT_RUN_WARMUP = 0.1
POLYNOMIAL_END = 1e-7
"""Rate at the end of transformers' polynomial schedule, whose power is 1 by default."""

INVERSE_SQRT_TIMESCALE = 10_000
"""Steps over which transformers' inverse_sqrt falls when there is no warm-up to go by."""

_SPLIT_STREAM = 0
_ORDER_STREAM = 1
"""Streams of random numbers: the held-out split never moves with the order of the epochs."""


@dataclass(frozen=True)
class Plan:
    """A run of `total_steps` optimizer steps over `rows` training rows."""

    rows: int
    batch_size: int
    accumulation: int
    processes: int
    seed: int
    total_steps: int
    warmup_steps: int
    peak_rate: float
    lowest_rate: float
    shape: LrSchedulerType
    save_every: int
    eval_every: int

    @classmethod
    def of(cls, settings: Hyperparameters, rows: int, processes: int = 1) -> Self:
        at_once = settings.batch_size * settings.gradient_accumulation_steps * processes
        per_epoch = math.ceil(rows / at_once)
        total = settings.max_steps or settings.epochs * per_epoch
        return cls(
            rows=rows,
            batch_size=settings.batch_size,
            accumulation=settings.gradient_accumulation_steps,
            processes=processes,
            seed=settings.seed,
            total_steps=total,
            warmup_steps=warmup_of(settings, total),
            peak_rate=settings.learning_rate,
            lowest_rate=settings.learning_rate * (settings.min_lr_rate or 0.0),
            shape=settings.lr_scheduler_type,
            save_every=settings.save_steps or max(1, math.ceil(total / SAVES_PER_RUN)),
            eval_every=settings.eval_steps or per_epoch,
        )

    @property
    def rows_per_step(self) -> int:
        """Of all processes together."""
        return self.batch_size * self.accumulation * self.processes

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.rows / self.rows_per_step)

    @property
    def total_epochs(self) -> int:
        return math.ceil(self.total_steps / self.steps_per_epoch)

    def epoch_after(self, step: int) -> float:
        """Passes over the data when `step` steps are done; whole at the end of each."""
        return step / self.steps_per_epoch

    def batches(self, step: int) -> list[list[int]]:
        """The row numbers of each forward pass of the step that follows `step` done ones.

        Of all processes: the first takes the first pass, the second the next one, and so on. Every
        row is in one of them once an epoch.
        """
        epoch, within = divmod(step, self.steps_per_epoch)
        order = _order(self.seed, epoch, self.rows)
        span = self.rows_per_step
        rows = order[within * span : (within + 1) * span].tolist()
        return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]

    def learning_rate(self, step: int) -> float:
        """The rate of the step that follows `step` done ones, as in transformers' schedules."""
        if step < self.warmup_steps:
            return self.peak_rate * step / self.warmup_steps
        left = (self.total_steps - step) / max(1, self.total_steps - self.warmup_steps)
        match self.shape:
            case LrSchedulerType.CONSTANT | LrSchedulerType.CONSTANT_WITH_WARMUP:
                return self.peak_rate
            case LrSchedulerType.LINEAR:
                return self.peak_rate * left
            case LrSchedulerType.POLYNOMIAL:
                return _between(min(POLYNOMIAL_END, self.peak_rate), self.peak_rate, left)
            case LrSchedulerType.COSINE | LrSchedulerType.COSINE_WITH_MIN_LR:
                height = 0.5 * (1 + math.cos(math.pi * (1 - left)))
                return _between(self.lowest_rate, self.peak_rate, height)
            case LrSchedulerType.INVERSE_SQRT:
                timescale = self.warmup_steps or INVERSE_SQRT_TIMESCALE
                past = step - self.warmup_steps
                return self.peak_rate / math.sqrt(1 + past / timescale)

    def saves_after(self, step: int) -> bool:
        return step % self.save_every == 0 or step == self.total_steps

    def evaluates_after(self, step: int) -> bool:
        return step % self.eval_every == 0 or step == self.total_steps


@lru_cache(maxsize=1)
def _order(seed: int, epoch: int, rows: int) -> npt.NDArray[np.int64]:
    """The order of the rows in one epoch; every step of it asks."""
    return np.random.default_rng([seed, _ORDER_STREAM, epoch]).permutation(rows)


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def warmup_of(settings: Hyperparameters, total: int) -> int:
    """Steps of warm-up, by ratio or by number; `constant` has none, as in transformers."""
    if settings.lr_scheduler_type is LrSchedulerType.CONSTANT:
        return 0
    if settings.warmup_ratio is not None:
        return min(total - 1, math.ceil(total * settings.warmup_ratio))
    return warmup_for(settings.warmup_steps, total)


def warmup_for(wish: int, total: int) -> int:
    """A warm-up that never ends would never reach the peak rate."""
    return wish if wish < total else min(total - 1, math.ceil(total * SHORT_RUN_WARMUP))


def split_rows(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Numbers of the rows to train on and to hold out; at least one row stays on either side."""
    held_out = 0 if not share else min(count - 1, max(1, round(count * share)))
    order = np.random.default_rng([seed, _SPLIT_STREAM]).permutation(count).tolist()
    return sorted(order[held_out:]), sorted(order[:held_out])
