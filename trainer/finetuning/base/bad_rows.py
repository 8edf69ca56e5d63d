"""Whether a run goes on without the rows that cannot be trained on."""

import logging

from finetuning.api.dataset import OnBadRows
from finetuning.api.run_config import DatasetConfig
from finetuning.artifacts.failures import DatasetError
from finetuning.dataset.rows import Rows

log = logging.getLogger(__name__)

SHOWN_LINES = 5


def settle(rows: Rows, config: DatasetConfig) -> None:
    """Go on, or not, as the data's policy says.

    Raises:
        DatasetError: a row is bad and none may be, or more are than may be.
    """
    if not rows.bad:
        return
    if config.on_bad_rows is OnBadRows.FAIL:
        raise DatasetError(explain(rows))
    total = len(rows.rows) + len(rows.bad)
    share = len(rows.bad) / total
    if share > config.max_bad_row_share or not rows.rows:
        raise DatasetError(
            f"{len(rows.bad)} of {total} rows are bad, more than maxBadRowShare "
            f"{config.max_bad_row_share:g} allows; the first: {explain(rows)}"
        )


def explain(rows: Rows) -> str:
    """The first bad row with its problem, and where the others are."""
    first, *others = rows.bad
    message = f"{rows.source}: {rows.unit} {first.line}: {first.problem}"
    if not others:
        return message
    lines = ", ".join(str(bad.line) for bad in others[:SHOWN_LINES])
    more = "" if len(others) <= SHOWN_LINES else ", …"
    return f"{message} ({len(others)} more bad rows: {rows.unit} {lines}{more})"
