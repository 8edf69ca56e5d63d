"""`finetuning pause`: its arguments."""

import argparse

from finetuning.cli.arguments import add_cluster, add_job, add_wait, waiting, where

EXAMPLES = """\
examples:
  finetuning pause my-job --wait
      Until the work is saved and the GPU is free.

exit codes:
  0 it pauses; with --wait: it is paused
  1 its training has ended, or the cluster refuses     2 wrong usage
"""
HELP = "save a job's work and free its GPU"
DESCRIPTION = "Have the trainer save a checkpoint and stop; `finetuning resume` goes on from there."


def add_arguments(pause: argparse.ArgumentParser) -> None:
    add_job(pause)
    add_wait(pause, "the GPU to be free")
    add_cluster(pause)


def execute(given: argparse.Namespace) -> int:
    from finetuning.jobs import changing  # noqa: PLC0415 - pydantic

    return changing.pause(where(given), given.job, waiting(given))
