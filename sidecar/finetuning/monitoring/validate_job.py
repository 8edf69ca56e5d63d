"""Validate a finished fine-tuning run: `python3 -m finetuning.monitoring.validate_job`."""

import signal
import sys
from collections.abc import Sequence

from finetuning.artifacts import leaving
from finetuning.monitoring.validators.command_line import command_line


def main(argv: Sequence[str] | None = None) -> int:
    """A ValidatorExit."""
    leaving.when_told()
    # Ctrl-C ends it without a traceback; the process with the model ends with this one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    args = command_line().parse_args(argv)
    from finetuning.monitoring.validators.judging import judge  # noqa: PLC0415 - after --help, which is quick

    return judge(args)


if __name__ == "__main__":
    sys.exit(main())
