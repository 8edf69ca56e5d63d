"""What a run found in its data: for the log, and as data_report.json."""

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from finetuning.api.run_config import RunConfig
from finetuning.artifacts import DATA_REPORT
from finetuning.artifacts.data_report import LISTED, BadRowEntry, DataReport, Lengths
from finetuning.artifacts.files import write_json
from finetuning.base.rows import Rows
from finetuning.base.storage import space_for

if TYPE_CHECKING:
    from finetuning.base.data import Data

PROBLEM_LENGTH = 300


def of_rows(rows: Rows) -> DataReport:
    """What is known before the tokenizer is there."""
    bad = [BadRowEntry(line=b.line, problem=b.problem[:PROBLEM_LENGTH]) for b in rows.bad[:LISTED]]
    return DataReport(
        source=rows.source,
        unit=rows.unit,
        rows=len(rows.rows) + len(rows.bad),
        bad_rows=len(rows.bad),
        duplicate_rows=duplicates(rows),
        bad=bad,
    )


def of(data: "Data", config: RunConfig) -> DataReport:
    """All of it."""
    facts = data.facts()
    examples = [example for pack in (*data.train, *data.held_out) for example in pack]
    more = {
        "max_seq_length": config.hyperparameters.max_seq_length,
        "tokens": sum(len(example.ids) for example in examples),
        "trained_tokens": sum(example.targets for example in examples),
        "lengths": lengths_of(data.lengths),
        **{name: facts[name] for name in DataReport.model_fields if name in facts},
    }
    return of_rows(data.rows).model_copy(update=more)


def duplicates(rows: Rows) -> int:
    """Rows that say the same as an earlier one."""
    texts = (json.dumps(row.data, sort_keys=True, default=str) for row in rows.rows)
    seen = {hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts}
    return len(rows.rows) - len(seen)


def lengths_of(lengths: list[int]) -> Lengths:
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
    found = []
    if report.bad_rows:
        bad = f"{report.bad_rows} of {report.rows} rows are bad and left out"
        found.append(f"{bad}; {DATA_REPORT} lists them")
    if report.duplicate_rows:
        found.append(f"{report.duplicate_rows} rows say the same as an earlier one")
    if report.lengths:
        found.append(
            f"An example has {report.lengths.median} tokens in the median, 95% have at most "
            f"{report.lengths.p95}, the longest has {report.lengths.max}"
        )
    if report.tokens and report.trained_tokens:
        share = f"{report.trained_tokens / report.tokens:.0%}"
        found.append(f"{report.trained_tokens:,} of {report.tokens:,} tokens are trained ({share})")
    return found
