"""The encoded examples of a run, split into those trained on and those held out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetuning.api.hyperparameters import Hyperparameters, Objective
from finetuning.api.run_config import RunConfig
from finetuning.artifacts.failures import DatasetError
from finetuning.base.bad_rows import settle
from finetuning.base.packing import grouped, pack
from finetuning.base.plan import split_rows
from finetuning.base.reading import Part, RunRows
from finetuning.base.store import ExampleFile, StoredPacks, totals_of
from finetuning.dataset.encode import Encoded, Example, Pack, encode
from finetuning.dataset.rows import Rows, StoredRows

log = logging.getLogger(__name__)

MINIMUM_TO_SPLIT = 2


@dataclass(frozen=True)
class Data:
    """Examples in packs; a row is never on both sides."""

    rows: Rows
    evaluation: Rows | None
    """The rows of a source of their own, all of them held out."""
    train: Sequence[Pack]
    held_out: Sequence[Pack]
    cut: int
    dropped: int
    lengths: Sequence[int]
    """Tokens of every example before it was cut."""

    def facts(self) -> dict[str, int]:
        return {
            "train_examples": totals_of(self.train).examples,
            "eval_examples": totals_of(self.held_out).examples,
            "train_packs": len(self.train),
            "cut_examples": self.cut,
            "dropped_examples": self.dropped,
        }


def prepare(found: RunRows, tokenizer: Any, config: RunConfig) -> Data:
    """Encode, and split where the rows to evaluate on are a share of all; raises DatasetError."""
    settings = config.hyperparameters
    encoded, rows = _encoded(found.train, tokenizer, config)
    if found.evaluation is None:
        train, held_out = _split(encoded.rows, rows, config)
        parts, evaluation = [encoded], None
    else:
        more, evaluation = _encoded(found.evaluation, tokenizer, config)
        train, held_out = encoded.rows, more.rows
        parts = [encoded, more]
    cut, dropped = sum(part.cut for part in parts), sum(part.dropped for part in parts)
    _tell(cut, dropped, settings.max_seq_length)
    return Data(
        rows,
        evaluation,
        _packs(train, settings),
        _packs(held_out, settings),
        cut,
        dropped,
        [*parts[0].lengths, *parts[1].lengths] if len(parts) > 1 else parts[0].lengths,
    )


def _encoded(part: Part, tokenizer: Any, config: RunConfig) -> tuple[Encoded, Rows]:
    """Its examples, and its rows without those that the chat template refuses."""
    limit = config.hyperparameters.max_seq_length
    # Rows that stay on the disk have tokens that do.
    into = ExampleFile() if isinstance(part.rows.rows, StoredRows) else None
    encoded = encode(part.samples, part.rows, tokenizer, limit, into)
    rows = part.rows.without(encoded.bad)
    settle(rows, config.dataset)
    return encoded, rows


def _split(
    examples: Sequence[list[Example]], rows: Rows, config: RunConfig
) -> tuple[Sequence[list[Example]], Sequence[list[Example]]]:
    """Rows to train on and to hold out."""
    share = config.dataset.eval_split
    if share and len(examples) < MINIMUM_TO_SPLIT:
        raise DatasetError(
            f"{rows.source}: one row cannot be split into training and evaluation; "
            "add rows, or leave out --eval-split"
        )
    train, held_out = split_rows(len(examples), share, config.hyperparameters.seed)
    if isinstance(examples, StoredPacks):
        return examples.chosen(train), examples.chosen(held_out)
    return [examples[i] for i in train], [examples[i] for i in held_out]


def _packs(rows: Sequence[list[Example]], settings: Hyperparameters) -> Sequence[Pack]:
    if settings.objective is Objective.DPO:
        return rows
    if isinstance(rows, StoredPacks):
        if settings.packing:
            return rows.grouped(grouped(rows.sizes().tolist(), settings.max_seq_length))
        return rows.singles()
    examples = [example for row in rows for example in row]
    if settings.packing:
        return pack(examples, settings.max_seq_length)
    return [[example] for example in examples]


def _tell(cut: int, dropped: int, limit: int) -> None:
    if cut:
        left = f"; {dropped} had no answer left and are skipped" if dropped else ""
        log.info("%d examples are longer than %d tokens and were cut%s.", cut, limit, left)
