"""The `finetuning` command; what a command needs is imported when it runs, so help is quick."""

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

_EXAMPLES = """\
examples:
  finetuning run job.yaml
      Train and validate into ./runs/<job>/. Ctrl-C pauses; the same command continues.

  finetuning run job.yaml --claims base-models=/data/models
      The manifest says pvc://base-models/...: here that claim is the folder /data/models.
      Without the option it is ./runs/claims/base-models.

  finetuning run job.yaml --configmap train-data=rows.jsonl
      The manifest says configmap:train-data:<key>: here that is the file rows.jsonl.
      Without the option the ConfigMap is looked for in job.yaml itself.

exit codes:
  0 trained, and validated unless that is turned off     1 training or validation failed
  2 something in the command, manifest, data or model is wrong; nothing was trained
  130 interrupted by Ctrl-C (128 + signal); the work is saved
"""


_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="finetuning",
        description="Fine-tune and validate language models; on Kubernetes the operator does it.",
    )
    commands = top.add_subparsers(dest="command", metavar="command", required=True)
    _add_run(
        commands.add_parser(
            "run",
            help="run a FineTuningJob on this machine, without a cluster",
            description="Run the pods of a FineTuningJob as processes of this machine:\n"
            "trainer and metrics server, then validation.",
            epilog=_EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    commands.add_parser("version", help="print the version")
    return top


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "manifest", type=Path, metavar="job.yaml", help="manifest of the job; - reads stdin"
    )
    run.add_argument("--name", help="which job, when the file has several")
    run.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the result (default: runs/<job>)"
    )
    run.add_argument(
        "--claims",
        action="append",
        type=_assignment,
        default=[],
        metavar="NAME=DIR",
        help="folder that stands for a PersistentVolumeClaim; may be repeated",
    )
    run.add_argument(
        "--configmap",
        action="append",
        type=_assignment,
        default=[],
        metavar="NAME=PATH",
        help="file or folder that stands for a ConfigMap; may be repeated",
    )
    run.add_argument(
        "--metrics-port",
        type=_port,
        metavar="PORT",
        help="insist on this port (default: 8000, or a free one when that is in use)",
    )


def _assignment(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=PATH")
    return name, Path(path).expanduser()


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:  # noqa: PLR2004 - all ports there are
        raise argparse.ArgumentTypeError(f"{text!r} must be a port from 1 to 65535")
    return int(text)


def _mapping(pairs: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    return dict(pairs)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    given = parser().parse_args(arguments)
    if given.command == "version":
        print(version("finetuning-operator"))
        return 0
    try:
        return _run(given, shlex.join(["finetuning", *arguments]))
    except KeyboardInterrupt:
        # Before anything was started; later the run itself takes care of it.
        return _INTERRUPTED


def _run(given: argparse.Namespace, command: str) -> int:
    from finetuning.local import run  # noqa: PLC0415 - pydantic and rich
    from finetuning.local.options import Options  # noqa: PLC0415

    return run.main(
        Options(
            manifest=given.manifest,
            name=given.name,
            output=given.output,
            claims=_mapping(given.claims),
            config_maps=_mapping(given.configmap),
            metrics_port=given.metrics_port,
            command=command,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
