"""The encoded examples of a run, split into those trained on and those held out."""

import logging
from dataclasses import dataclass
from typing import Any

from finetuning.api.hyperparameters import Hyperparameters, Objective
from finetuning.api.run_config import RunConfig
from finetuning.base.bad_rows import settle
from finetuning.base.encode import Encoded, Example, Pack, encode
from finetuning.base.errors import DatasetError
from finetuning.base.packing import pack
from finetuning.base.plan import split_rows
from finetuning.base.reading import Part, RunRows
from finetuning.base.rows import Rows

log = logging.getLogger(__name__)

MINIMUM_TO_SPLIT = 2


@dataclass(frozen=True)
class Data:
    """Examples in packs; a row is never on both sides."""

    rows: Rows
    evaluation: Rows | None
    """The rows of a source of their own, all of them held out."""
    train: list[Pack]
    held_out: list[Pack]
    cut: int
    dropped: int
    lengths: list[int]
    """Tokens of every example before it was cut."""

    def facts(self) -> dict[str, int]:
        return {
            "train_examples": sum(map(len, self.train)),
            "eval_examples": sum(map(len, self.held_out)),
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
        [length for part in parts for length in part.lengths],
    )


def _encoded(part: Part, tokenizer: Any, config: RunConfig) -> tuple[Encoded, Rows]:
    """Its examples, and its rows without those that the chat template refuses."""
    limit = config.hyperparameters.max_seq_length
    encoded = encode(part.samples, part.rows, tokenizer, limit)
    rows = part.rows.without(encoded.bad)
    settle(rows, config.dataset)
    return encoded, rows


def _split(
    examples: list[list[Example]], rows: Rows, config: RunConfig
) -> tuple[list[list[Example]], list[list[Example]]]:
    """Rows to train on and to hold out."""
    share = config.dataset.eval_split
    if share and len(examples) < MINIMUM_TO_SPLIT:
        raise DatasetError(
            f"{rows.source}: one row cannot be split into training and evaluation; "
            "add rows, or leave out --eval-split"
        )
    train, held_out = split_rows(len(examples), share, config.hyperparameters.seed)
    return [examples[i] for i in train], [examples[i] for i in held_out]


def _packs(rows: list[list[Example]], settings: Hyperparameters) -> list[Pack]:
    if settings.objective is Objective.DPO:
        return rows
    examples = [example for row in rows for example in row]
    if settings.packing:
        return pack(examples, settings.max_seq_length)
    return [[example] for example in examples]


def _tell(cut: int, dropped: int, limit: int) -> None:
    if cut:
        left = f"; {dropped} had no answer left and are skipped" if dropped else ""
        log.info("%d examples are longer than %d tokens and were cut%s.", cut, limit, left)
