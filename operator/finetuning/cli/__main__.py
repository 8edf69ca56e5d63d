"""The `finetuning` command; what a command needs is imported when it runs, so help is quick."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from types import ModuleType

from finetuning.cli import estimate, report, run, top

_EXAMPLES = """\
examples:
  finetuning run job.yaml            train and validate on this machine
  finetuning estimate job.yaml       will it fit into the GPU's memory?
  finetuning top                     watch the jobs of a cluster, or of ./runs
  finetuning report runs/my-job      one HTML page about a run
  finetuning <command> --help        more of each
"""
_INTERRUPTED = 130
_COMMANDS = (("run", run), ("estimate", estimate), ("top", top), ("report", report))


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(
        prog="finetuning",
        description="Fine-tune and validate language models; on Kubernetes the operator does it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main_parser.add_argument("--version", action="version", version=version("finetuning-operator"))
    commands = main_parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, module in _COMMANDS:
        module.add_arguments(_command(commands, name, module))
    commands.add_parser("version", help="print the version")
    return main_parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, module: ModuleType
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=module.HELP,
        description=module.DESCRIPTION,
        epilog=module.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    given = parser().parse_args(arguments)
    try:
        return _execute(given, shlex.join(["finetuning", *arguments]))
    except KeyboardInterrupt:
        # Before anything was started; later each command itself takes care of it.
        return _INTERRUPTED


def _execute(given: argparse.Namespace, command: str) -> int:
    match given.command:
        case "run":
            return run.execute(given, command)
        case "estimate":
            return estimate.execute(given)
        case "top":
            return top.execute(given)
        case "report":
            return report.execute(given)
        case _:
            print(version("finetuning-operator"))
            return 0


if __name__ == "__main__":
    sys.exit(main())
