"""`finetuning logs`: its arguments."""

import argparse

from finetuning.cli.arguments import add_cluster, add_job, where, whole_number

EXAMPLES = """\
examples:
  finetuning logs my-job -f
      The trainer's output as it comes. After a crash it goes on with the pod that takes over,
      and it ends when the training does.

  finetuning logs my-job --of validation
      What the validator said.

  finetuning logs my-job --of sidecar --tail 20
      The last lines of the metrics server beside the trainer.

exit codes:
  0 shown     1 there is no such job, or it has no output yet     2 wrong usage
"""
HELP = "output of a job's containers"
DESCRIPTION = "Show what a container of the job's newest pod has written, and is writing."


def add_arguments(logs: argparse.ArgumentParser) -> None:
    add_job(logs)
    logs.add_argument(
        "-f", "--follow", action="store_true", help="wait for it, and show it as it comes"
    )
    logs.add_argument(
        "--of",
        choices=("training", "validation", "publishing", "sidecar"),
        default="training",
        help="which container (default: training)",
    )
    logs.add_argument(
        "--tail", type=whole_number, metavar="LINES", help="only so many of the last lines"
    )
    add_cluster(logs)


def execute(given: argparse.Namespace) -> int:
    from finetuning.jobs import looking  # noqa: PLC0415 - pydantic

    wish = looking.Log(where(given), given.job, given.of, given.follow, given.tail)
    return looking.show_log(wish)
