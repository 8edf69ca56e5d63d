"""What a run found in its data: for the log, and as data_report.json."""

import hashlib
import json
import math
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetuning.api.run_config import RunConfig
from finetuning.artifacts import DATA_REPORT
from finetuning.artifacts.data_report import (
    LISTED,
    BadRowEntry,
    DataReport,
    EvaluationReport,
    Lengths,
    SourceReport,
)
from finetuning.artifacts.files import write_json
from finetuning.base.reading import RunRows
from finetuning.base.storage import space_for
from finetuning.dataset.rows import EMPTY, Rows
from finetuning.dataset.shapes import shape_of

if TYPE_CHECKING:
    from finetuning.base.data import Data

PROBLEM_LENGTH = 300


def of_rows(found: RunRows) -> DataReport:
    """What is known before the tokenizer is there."""
    evaluation = None if found.evaluation is None else found.evaluation.rows
    shape = {"shape": shape_of(found.train.samples)}
    return _of_sources(found.train.rows, evaluation).model_copy(update=shape)


def _of_sources(train: Rows, evaluation: Rows | None) -> DataReport:
    said = said_in(train)
    report = DataReport(**_of_source(train, said))
    if evaluation is not None:
        there = said_in(evaluation)
        known = set(said)
        report.evaluation = EvaluationReport(
            **_of_source(evaluation, there), trained_rows=sum(each in known for each in there)
        )
    return report


def _of_source(rows: Rows, said: "array[int]") -> dict[str, Any]:
    bad = [BadRowEntry(line=b.line, problem=b.problem[:PROBLEM_LENGTH]) for b in rows.bad[:LISTED]]
    return {
        "source": rows.source,
        "unit": rows.unit,
        "rows": len(rows.rows) + len(rows.bad),
        "bad_rows": len(rows.bad),
        "empty_rows": sum(each.problem == EMPTY for each in rows.bad),
        "duplicate_rows": len(said) - _distinct(said),
        "bad": bad,
    }


def of(data: "Data", config: RunConfig) -> DataReport:
    """All of it."""
    from finetuning.base.store import totals_of  # noqa: PLC0415 - loads numpy

    facts = data.facts()
    train, held_out = totals_of(data.train), totals_of(data.held_out)
    more = {
        "shape": data.shape,
        "max_seq_length": config.hyperparameters.max_seq_length,
        "model_places": data.outline.places,
        "endless_examples": data.endless or None,
        "joined_examples": data.joined or None,
        "tokens": train.tokens + held_out.tokens,
        "trained_tokens": train.trained + held_out.trained,
        "lengths": lengths_of(data.lengths),
        **{name: facts[name] for name in DataReport.model_fields if name in facts},
    }
    return _of_sources(data.rows, data.evaluation).model_copy(update=more)


def said_in(rows: Rows) -> "array[int]":
    """A number of 64 bits for each good row; rows that say the same have the same.

    Two others of ten million have the same with a probability of 3 in a million.
    """
    texts = (json.dumps(row.data, sort_keys=True, default=str) for row in rows.rows)
    return array("Q", (_number(text) for text in texts))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _distinct(said: "array[int]") -> int:
    """By sorting: a set would take ten times the memory."""
    import numpy as np  # noqa: PLC0415 - the command line does without

    return len(np.unique(np.array(said, dtype=np.uint64)))


def lengths_of(lengths: Sequence[int]) -> Lengths:
    """Percentiles by nearest rank: each is the length of an example that is there."""
    ordered = sorted(lengths)
    at = {share: ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.95, 1.0)}
    return Lengths(median=at[0.5], p95=at[0.95], max=at[1.0])


def write(report: DataReport, output: Path) -> Path:
    """Put it into the output folder; raises StorageFullError."""
    path = output / DATA_REPORT
    with space_for(DATA_REPORT, output):
        write_json(path, report.model_dump(mode="json", exclude_none=True))
    return path


def findings(report: DataReport) -> list[str]:
    """The same for people, a line each; what is as it should be is not mentioned."""
    found = _about(report, "")
    if report.evaluation:
        found += _about(report.evaluation, " to evaluate on")
        if report.evaluation.trained_rows:
            known = f"{report.evaluation.trained_rows} rows to evaluate on are trained on as well"
            found.append(f"{known}, so that their loss says little")
    if report.lengths:
        found.append(
            f"An example has {report.lengths.median} tokens in the median, 95% have at most "
            f"{report.lengths.p95}, the longest has {report.lengths.max}"
        )
    if report.tokens and report.trained_tokens:
        share = f"{report.trained_tokens / report.tokens:.0%}"
        found.append(f"{report.trained_tokens:,} of {report.tokens:,} tokens are trained ({share})")
    return [*found, *warnings_of(report)]


def warnings_of(report: DataReport) -> list[str]:
    """Findings after which the model may not do what is wished for."""
    told = (report.ends_cut, report.ends_missing, report.beginnings_joined)
    return [each for each in told if each]


def _about(report: SourceReport, which: str) -> list[str]:
    found = []
    if report.bad_rows:
        bad = f"{report.bad_rows} of {report.rows} rows{which} are bad and left out"
        found.append(f"{bad}; {DATA_REPORT} lists them")
    if report.duplicate_rows:
        found.append(f"{report.duplicate_rows} rows{which} say the same as an earlier one")
    return found
