"""The rows of a run: to train on and, where they have a source of their own, to evaluate on."""

from collections.abc import Sequence
from dataclasses import dataclass

from finetuning.api.hyperparameters import Objective
from finetuning.api.run_config import DatasetConfig, RunConfig
from finetuning.base import sources
from finetuning.base.bad_rows import settle
from finetuning.dataset import columns, shapes
from finetuning.dataset.rows import Rows
from finetuning.dataset.shapes import Sample


@dataclass(frozen=True)
class Part:
    """The rows of one source and, in the same order, what they say."""

    rows: Rows
    samples: Sequence[Sample]


@dataclass(frozen=True)
class RunRows:
    """What a run has read."""

    train: Part
    evaluation: Part | None = None
    """None where the rows to evaluate on are a share of the others, or there are none."""

    def digests(self) -> tuple[str, str | None]:
        """Of the rows to train on and of those to evaluate on, for what a run is recognised by."""
        return self.train.rows.digest(), self.evaluation.rows.digest() if self.evaluation else None

    def settle(self, config: DatasetConfig) -> None:
        """Raises DatasetError on bad rows that the policy does not allow, in either part."""
        for part in (self.train, self.evaluation):
            if part is not None:
                settle(part.rows, config)


def read(config: RunConfig) -> RunRows:
    """Every row, bad or good.

    Raises:
        DatasetError: a source is missing, unreadable or empty, or its shape is unknown.
    """
    objective = config.hyperparameters.objective
    train = _part(config.dataset, objective, "--dataset-path")
    evaluation = config.dataset.of_evaluation()
    if evaluation is None:
        return RunRows(train)
    return RunRows(train, _part(evaluation, objective, "--eval-source"))


def _part(config: DatasetConfig, objective: Objective, flag: str) -> Part:
    found = columns.rename(sources.read(config, flag), config.columns)
    return Part(*shapes.interpret(found, objective))
