"""`finetuning submit`: its arguments."""

import argparse
from pathlib import Path

from finetuning.cli.arguments import add_cluster, add_wait, waiting, where

EXAMPLES = """\
examples:
  finetuning submit job.yaml
      Create the job of the manifest in the current context's namespace.

  finetuning submit job.yaml --wait
      Show its progress, and at the end the verdict on the model, when it is published too if
      the manifest asks for that.

  finetuning submit job.yaml --dry-run
      The API server checks it and keeps nothing.

exit codes:
  0 created; with --wait: trained, and validated and published as far as the manifest asks for it
  1 the cluster refuses; with --wait: one of these failed, or --timeout is over
  2 something in the command or the manifest is wrong; nothing was created
"""
HELP = "create a job in the cluster"
DESCRIPTION = """\
Create a FineTuningJob from a manifest. Mistakes are found before anything is sent, each with
its line. A file that holds other objects as well is for `kubectl apply -f`."""


def add_arguments(submit: argparse.ArgumentParser) -> None:
    submit.add_argument(
        "manifest", type=Path, metavar="job.yaml", help="manifest of the job; - reads stdin"
    )
    submit.add_argument("--name", help="which job, when the file has several")
    submit.add_argument("--dry-run", action="store_true", help="check it, and keep nothing")
    add_wait(submit, "all that the manifest asks for")
    add_cluster(submit)


def execute(given: argparse.Namespace) -> int:
    from finetuning.jobs import changing  # noqa: PLC0415 - pydantic

    return changing.submit(
        where(given), given.manifest, given.name, waiting(given), dry_run=given.dry_run
    )
