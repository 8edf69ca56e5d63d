"""`python3 -m finetuning.base.app`: fine-tune a model; `--help` lists the flags."""

import os
import sys

from finetuning.artifacts import leaving


def main(argv: list[str] | None = None) -> int:
    """Run the trainer; the exit code is one of artifacts.exits.ExitCode."""
    # pydantic would look through all installed packages for plugins of its own.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    leaving.when_told()
    if "RANK" in os.environ:
        leaving.not_yet()
    from finetuning.base.options import command_line  # noqa: PLC0415 - a signal may come any moment

    given = command_line().parse_args(argv)
    from finetuning.base.session import run  # noqa: PLC0415 - after --help, which is quick

    return run(given)


if __name__ == "__main__":
    sys.exit(main())
