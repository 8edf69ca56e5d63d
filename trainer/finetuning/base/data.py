"""The encoded examples of a run, split into those trained on and those held out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetuning.api.hyperparameters import Hyperparameters, Objective
from finetuning.api.run_config import RunConfig
from finetuning.artifacts.data_report import RowShape
from finetuning.artifacts.failures import DatasetError
from finetuning.base.bad_rows import settle
from finetuning.base.outline import Outline, refuse_unknown
from finetuning.base.packing import grouped, pack
from finetuning.base.plan import split_rows
from finetuning.base.reading import Part, RunRows
from finetuning.base.store import ExampleFile, StoredPacks, totals_of
from finetuning.dataset.encode import Encoded, Example, Pack, encode
from finetuning.dataset.rows import Rows, StoredRows
from finetuning.dataset.shapes import shape_of

log = logging.getLogger(__name__)

MINIMUM_TO_SPLIT = 2
_SHORTER = (
    "shorten the prompts, or take a model that reads longer texts: this one has no more places"
)


@dataclass(frozen=True)
class Data:
    """Examples in packs; a row is never on both sides."""

    rows: Rows
    evaluation: Rows | None
    """The rows of a source of their own, all of them held out."""
    train: Sequence[Pack]
    held_out: Sequence[Pack]
    held_out_rows: Sequence[list[Example]]
    """The same in the order of the rows, which packs have not."""
    cut: int
    dropped: int
    lengths: Sequence[int]
    """Tokens of every example before it was cut."""
    shape: RowShape | None
    outline: Outline
    endless: int
    """Examples of which no end is trained."""
    joined: int
    """Examples of which the beginning of an answer is not trained."""
    limit: int
    """Tokens of an example, or of a pack, at most: what was asked for, or all that the model has
    places for."""

    def facts(self) -> dict[str, int]:
        return {
            "train_examples": totals_of(self.train).examples,
            "eval_examples": totals_of(self.held_out).examples,
            "train_packs": len(self.train),
            "cut_examples": self.cut,
            "dropped_examples": self.dropped,
        }


def prepare(found: RunRows, tokenizer: Any, config: RunConfig, outline: Outline) -> Data:
    """Encode, and split where the rows to evaluate on are a share of all.

    Raises:
        DatasetError: rows are bad, or nothing of them is left.
        ModelError: they have a token that the model has not.
    """
    settings = config.hyperparameters
    limit = outline.longest(settings.max_seq_length)
    encoded, rows = _encoded(found.train, tokenizer, config, limit)
    if found.evaluation is None:
        train, held_out = _split(encoded.rows, rows, config)
        parts, evaluation = [encoded], None
    else:
        more, evaluation = _encoded(found.evaluation, tokenizer, config, limit)
        train, held_out = encoded.rows, more.rows
        parts = [encoded, more]
    cut, dropped = sum(part.cut for part in parts), sum(part.dropped for part in parts)
    refuse_unknown(config.model_id, tokenizer, outline, max(part.highest for part in parts))
    _tell(cut, dropped, limit, settings.max_seq_length)
    return Data(
        rows,
        evaluation,
        _packs(train, settings, limit),
        _packs(held_out, settings, limit),
        held_out,
        cut,
        dropped,
        [*parts[0].lengths, *parts[1].lengths] if len(parts) > 1 else parts[0].lengths,
        shape_of(found.train.samples),
        outline,
        sum(part.endless for part in parts),
        sum(part.joined for part in parts),
        limit,
    )


def _encoded(part: Part, tokenizer: Any, config: RunConfig, limit: int) -> tuple[Encoded, Rows]:
    """Its examples, and its rows without those that the chat template refuses."""
    within = limit < config.hyperparameters.max_seq_length
    remedy = _SHORTER if within else "raise --max-seq-length"
    # Rows that stay on the disk have tokens that do.
    into = ExampleFile() if isinstance(part.rows.rows, StoredRows) else None
    encoded = encode(part.samples, part.rows, tokenizer, limit, into=into, remedy=remedy)
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


def _packs(rows: Sequence[list[Example]], settings: Hyperparameters, limit: int) -> Sequence[Pack]:
    if settings.objective is Objective.DPO:
        return rows
    if isinstance(rows, StoredPacks):
        if settings.packing:
            return rows.grouped(grouped(rows.sizes().tolist(), limit))
        return rows.singles()
    examples = [example for row in rows for example in row]
    if settings.packing:
        return pack(examples, limit)
    return [[example] for example in examples]


def _tell(cut: int, dropped: int, limit: int, wish: int) -> None:
    if not cut:
        return
    left = f"; {dropped} had no answer left and are skipped" if dropped else ""
    told = f"{cut} examples are longer than {limit} tokens"
    if limit < wish:
        why = f"the most that this model has places for (--max-seq-length is {wish})"
        log.warning("%s, %s, and were cut%s.", told, why, left)
    else:
        log.info("%s and were cut%s.", told, left)
