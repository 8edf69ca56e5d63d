"""`finetuning get`: its arguments."""

import argparse

from finetuning.cli.arguments import add_cluster, add_job, where
from finetuning.cli.listing import FORMS

EXAMPLES = """\
examples:
  finetuning get my-job
      Phase and why, progress, where the model is, and the report of the validation.

  finetuning get my-job -o yaml
      The whole object; -o wide has one line, -o name what kubectl takes.

exit codes:
  0 shown     1 there is no such job, or it cannot be read     2 wrong usage
"""
HELP = "one job in full"
DESCRIPTION = "Show one FineTuningJob of the cluster."


def add_arguments(show: argparse.ArgumentParser) -> None:
    add_job(show)
    show.add_argument("-o", "--output", choices=FORMS, help="another form than a page")
    add_cluster(show)


def execute(given: argparse.Namespace) -> int:
    from finetuning.jobs import looking  # noqa: PLC0415 - pydantic
    from finetuning.jobs.formats import Format  # noqa: PLC0415

    form = Format(given.output) if given.output else None
    return looking.get_job(where(given), given.job, form)
