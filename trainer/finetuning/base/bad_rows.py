"""Whether a run goes on without the rows that cannot be trained on."""

import logging

from finetuning.api.dataset import OnBadRows
from finetuning.api.run_config import DatasetConfig
from finetuning.artifacts.failures import DatasetError
from finetuning.dataset.rows import Rows, explain

log = logging.getLogger(__name__)


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
    if not rows.rows:
        raise DatasetError(
            f"{total} of {total} rows are bad, so there is nothing to train on; the first: "
            f"{explain(rows)}"
        )
    if len(rows.bad) / total > config.max_bad_row_share:
        raise DatasetError(
            f"{len(rows.bad)} of {total} rows are bad, more than maxBadRowShare "
            f"{config.max_bad_row_share:g} allows; the first: {explain(rows)}"
        )
