"""`finetuning resume`: its arguments."""

import argparse

from finetuning.cli.arguments import add_cluster, add_job, where

EXAMPLES = """\
examples:
  finetuning resume my-job
      Go on from the newest checkpoint, as soon as a GPU is free.

exit codes:
  0 it goes on     1 its training has ended, or the cluster refuses     2 wrong usage
"""
HELP = "go on with a paused job"
DESCRIPTION = "Let a paused job train again, from its newest checkpoint."


def add_arguments(resume: argparse.ArgumentParser) -> None:
    add_job(resume)
    add_cluster(resume)


def execute(given: argparse.Namespace) -> int:
    from finetuning.jobs import changing  # noqa: PLC0415 - pydantic

    return changing.resume(where(given), given.job)
