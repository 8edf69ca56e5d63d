"""`finetuning top`: its arguments."""

import argparse
from pathlib import Path

from finetuning.cli.arguments import add_job, seconds

EXAMPLES = """\
examples:
  finetuning top
      The jobs of the current context's namespace, or of ./runs where no cluster is known.
      Ctrl-C ends it.

  finetuning top my-job
      That one alone.

  finetuning top -A --sort speed
      The jobs of all namespaces, the fastest first.

  finetuning top --runs runs
      The local runs below ./runs: those of `finetuning run`, and output folders of the trainer.

  finetuning top --once
      One frame, for scripts; also without the option when the output is no terminal.
      COLUMNS=120 sets the width, NO_COLOR=1 turns colours off on a terminal.

exit codes:
  0 shown     1 the jobs cannot be read, or there is none of that name     2 wrong usage
"""
HELP = "watch jobs in the terminal: progress, loss, throughput, time left"
DESCRIPTION = """\
Show jobs with their progress, and loss and throughput as curves.
The curves of local runs are whole; those of a cluster's jobs grow while you watch."""
_ORDERS = ("phase", "name", "age", "progress", "loss", "speed")


def add_arguments(top: argparse.ArgumentParser) -> None:
    add_job(top, optional=True)
    where = top.add_mutually_exclusive_group()
    where.add_argument("-n", "--namespace", metavar="NAME", help="namespace of the jobs")
    where.add_argument("-A", "--all-namespaces", action="store_true", help="jobs of all namespaces")
    where.add_argument(
        "--runs",
        type=Path,
        metavar="FOLDER",
        help="local runs: a run's folder, or one with several",
    )
    top.add_argument("--kubeconfig", metavar="FILE", help="default: KUBECONFIG, ~/.kube/config")
    top.add_argument("--context", metavar="NAME", help="of the kubeconfig; the current one")
    top.add_argument("--once", action="store_true", help="print one frame and end")
    top.add_argument(
        "--interval",
        type=seconds,
        default=2.0,
        metavar="SECONDS",
        help="between looks (default: 2)",
    )
    top.add_argument(
        "--sort", choices=_ORDERS, default="phase", help="order of the jobs (default: phase)"
    )


def execute(given: argparse.Namespace) -> int:
    from finetuning.top import watch  # noqa: PLC0415 - pydantic and rich
    from finetuning.top.rows import Order  # noqa: PLC0415

    return watch.main(
        watch.Options(
            runs=given.runs,
            job=given.job,
            kubeconfig=given.kubeconfig,
            context=given.context,
            namespace=given.namespace,
            all_namespaces=given.all_namespaces,
            once=given.once,
            seconds=given.interval,
            order=Order(given.sort),
        )
    )
