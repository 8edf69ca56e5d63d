"""Kinds of arguments that commands share."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetuning.jobs.changing import Patience
    from finetuning.jobs.session import Where


def assignment(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=PATH")
    return name, Path(path).expanduser()


def port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:  # noqa: PLR2004 - all ports there are
        raise argparse.ArgumentTypeError(f"{text!r} must be a port from 1 to 65535")
    return int(text)


def seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.2 <= found <= 3600:  # noqa: PLR2004 - a flicker, and an hour
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds from 0.2 to 3600")
    return found


def whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of 0 or more")
    return int(text)


def patience(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 31_536_000:  # noqa: PLR2004 - a year
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds above 0")
    return found


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Which cluster and namespace; without any of it the kubeconfig's current context."""
    parser.add_argument("-n", "--namespace", metavar="NAME", help="namespace of the job")
    parser.add_argument("--kubeconfig", metavar="FILE", help="default: KUBECONFIG, ~/.kube/config")
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig; the current one")


def add_job(parser: argparse._ActionsContainer, *, optional: bool = False) -> None:
    count = "?" if optional else None
    job = parser.add_argument("job", metavar="JOB", nargs=count, help="name of the FineTuningJob")
    job.completer = _names  # type: ignore[attr-defined]  # Read by argcomplete.


def add_wait(parser: argparse.ArgumentParser, what: str, *, usual: bool = False) -> None:
    """A switch for waiting, or against it where waiting is usual, and how long at most."""
    if usual:
        parser.add_argument(
            "--no-wait", action="store_false", dest="wait", help=f"do not wait for {what}"
        )
    else:
        parser.add_argument("--wait", action="store_true", help=f"wait for {what}")
    parser.add_argument(
        "--timeout", type=patience, metavar="SECONDS", help="longest wait (default: no end)"
    )


def where(given: argparse.Namespace) -> "Where":
    from finetuning.jobs.session import Where  # noqa: PLC0415 - pydantic

    return Where(given.kubeconfig, given.context, given.namespace)


def waiting(given: argparse.Namespace) -> "Patience":
    from finetuning.jobs.changing import Patience  # noqa: PLC0415 - pydantic

    return Patience(given.wait, given.timeout)


def _names(parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    """The names of the jobs, while a person types one."""
    from finetuning.jobs.looking import names  # noqa: PLC0415 - pydantic

    return names(where(parsed_args))
