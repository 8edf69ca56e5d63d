"""The encoded examples of a run, split into those trained on and those held out."""

import logging
from dataclasses import dataclass
from typing import Any

from finetuning.api.hyperparameters import Hyperparameters, Objective
from finetuning.api.run_config import RunConfig
from finetuning.base.bad_rows import settle
from finetuning.base.encode import Example, Pack, encode
from finetuning.base.errors import DatasetError
from finetuning.base.packing import pack
from finetuning.base.plan import split_rows
from finetuning.base.rows import Rows
from finetuning.base.shapes import Sample

log = logging.getLogger(__name__)

MINIMUM_TO_SPLIT = 2


@dataclass(frozen=True)
class Data:
    """Examples in packs; a row is never on both sides."""

    rows: Rows
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


def prepare(rows: Rows, samples: list[Sample], tokenizer: Any, config: RunConfig) -> Data:
    """Encode and split; raises DatasetError."""
    settings = config.hyperparameters
    encoded = encode(samples, rows, tokenizer, settings.max_seq_length)
    rows = rows.without(encoded.bad)
    settle(rows, config.dataset)
    share = config.dataset.eval_split
    if share and len(encoded.rows) < MINIMUM_TO_SPLIT:
        raise DatasetError(
            f"{rows.source}: one row cannot be split into training and evaluation; "
            "add rows, or leave out --eval-split"
        )
    train, held_out = split_rows(len(encoded.rows), share, settings.seed)
    _tell(encoded.cut, encoded.dropped, settings.max_seq_length)
    return Data(
        rows,
        _packs([encoded.rows[i] for i in train], settings),
        _packs([encoded.rows[i] for i in held_out], settings),
        encoded.cut,
        encoded.dropped,
        encoded.lengths,
    )


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
