"""`finetuning cancel`: its arguments."""

import argparse

from finetuning.cli.arguments import add_cluster, add_job, where

EXAMPLES = """\
examples:
  finetuning cancel my-job
      Says what is lost, and asks. To keep the work, `finetuning pause my-job` instead.

  finetuning cancel my-job --yes
      For scripts.

exit codes:
  0 deleted     1 not deleted, or the cluster refuses
  2 wrong usage, or nobody is there to be asked
"""
HELP = "stop a job for good and delete it"
DESCRIPTION = """\
Stop a job and delete it. The claim that the operator made for it goes with it, and so do
checkpoints and model; a claim that the manifest names stays."""


def add_arguments(cancel: argparse.ArgumentParser) -> None:
    add_job(cancel)
    cancel.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add_cluster(cancel)


def execute(given: argparse.Namespace) -> int:
    from finetuning.jobs import changing  # noqa: PLC0415 - pydantic

    return changing.cancel(where(given), given.job, sure=given.yes)
