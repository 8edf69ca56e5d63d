"""`python3 -m finetuning.base.torchrun`: torchrun's elastic agent around the trainer.

What it has over plain torchrun: exit codes that the Job's podFailurePolicy understands, the time
that a checkpoint takes after SIGTERM, patience for pods that start later, and no group where the
result is there already. A group that lost a process is not mended here: all of its pods end, and
the Job starts them again, which is counted and shown in one place.
"""

import argparse
import os
import sys

from finetuning.artifacts import leaving

INDEX = "JOB_COMPLETION_INDEX"
"""The number of the pod, set by Kubernetes in an Indexed Job."""


def main(argv: list[str] | None = None) -> int:
    """Run this machine's share of the processes; the exit code stands for all of them."""
    leaving.when_told()
    options, trainer = command_line().parse_known_args(argv)
    from finetuning.base.launch import launch  # noqa: PLC0415 - after --help, which is quick

    return launch(options, trainer, machine=os.environ.get(INDEX, "0"))


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m finetuning.base.torchrun",
        usage="%(prog)s [--nnodes N] [--nproc-per-node N] [--rdzv-endpoint HOST:PORT] FLAG ...",
        description="Train with several processes, on one machine or on several. All other flags "
        "are those of finetuning.base.app.",
        epilog="With more than one machine, start it on each of them, with the variable "
        f"{INDEX} as the number of the machine; 0 reports.",
        allow_abbrev=False,
    )
    parser.add_argument("--nnodes", type=_count, default=1, metavar="N", help="Machines.")
    parser.add_argument(
        "--nproc-per-node",
        type=_count,
        default=1,
        metavar="N",
        help="Processes on each: one per GPU.",
    )
    parser.add_argument(
        "--rdzv-endpoint",
        default="localhost:0",
        metavar="HOST:PORT",
        help="Where machine 0 waits for the others.",
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
