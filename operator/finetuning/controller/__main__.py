"""`python -m finetuning.controller`: the operator's process."""

import sys
from collections.abc import Sequence

from finetuning.artifacts import leaving
from finetuning.artifacts.exits import ExitCode


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the answer is the exit code."""
    leaving.when_told(ExitCode.OK)
    from finetuning.controller import command  # noqa: PLC0415 - a signal may come any moment

    return command.main(argv)


if __name__ == "__main__":
    sys.exit(main())
