"""The `finetuning` command; what a command needs is imported when it runs, so help is quick."""

import argparse
import io
import os
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from finetuning.cli import (
    cancel,
    completion,
    doctor,
    estimate,
    init,
    listing,
    logs,
    pause,
    report,
    resume,
    run,
    show,
    submit,
    top,
    validate,
)

_EXAMPLES = """\
examples:
  finetuning init                    write a first job.yaml
  finetuning run job.yaml            train and validate on this machine
  finetuning estimate job.yaml       will it fit into the GPU's memory?
  finetuning submit job.yaml         the same in the cluster
  finetuning logs -f my-job          the trainer's output as it comes
  finetuning top                     watch the jobs of a cluster, or of ./runs
  finetuning report runs/my-job      one HTML page about a run
  finetuning <command> --help        more of each
"""
_FAILED, _INTERRUPTED = 1, 130
_COMMANDS: dict[str, ModuleType] = {
    "init": init,
    "run": run,
    "estimate": estimate,
    "report": report,
    "submit": submit,
    "list": listing,
    "get": show,
    "logs": logs,
    "top": top,
    "pause": pause,
    "resume": resume,
    "cancel": cancel,
    "validate": validate,
    "doctor": doctor,
    "completion": completion,
}
"""First what needs no cluster, then a job's life in one."""


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(
        prog=_own_name(),
        description="Fine-tune and validate language models; on Kubernetes the operator does it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main_parser.add_argument("--version", action="version", version=version("finetuning-operator"))
    commands = main_parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, module in _COMMANDS.items():
        module.add_arguments(_command(commands, name, module))
    commands.add_parser("version", help="print the version")
    return main_parser


def _own_name() -> str:
    """As it was typed: kubectl runs kubectl-finetune for `kubectl finetune`."""
    plugin = Path(sys.argv[0]).name == "kubectl-finetune"
    return "kubectl finetune" if plugin else "finetuning"


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
    _make_streams_usable()
    arguments = list(sys.argv[1:] if argv is None else argv)
    known = parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete  # noqa: PLC0415 - only while a shell completes; it ends here

        argcomplete.autocomplete(known, always_complete_options=False)
    given = known.parse_args(arguments)
    given.typed = f"{known.prog} {shlex.join(arguments)}"
    if given.command == "version":
        print(version("finetuning-operator"))
        return 0
    try:
        code = int(_COMMANDS[given.command].execute(given))
        sys.stdout.flush()
    except KeyboardInterrupt:
        # Before anything was started; later each command itself takes care of it.
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read has seen enough, as `| head` does; the interpreter flushes once more.
        _send_nowhere()
        return 0
    except OSError as error:
        # Where the output goes, such as a full disk: of other files each command itself tells.
        _send_nowhere()
        sys.stderr.write(f"finetuning: {error.filename or 'the output'}: {error.strerror}\n")
        return _FAILED
    return code


def _make_streams_usable() -> None:
    """A terminal that lacks a character shows another one in its place; a closed one gets none."""
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - until the end
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _send_nowhere() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
