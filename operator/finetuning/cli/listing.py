"""`finetuning list`: its arguments."""

import argparse

from finetuning.cli.arguments import add_cluster, where

EXAMPLES = """\
examples:
  finetuning list
      The jobs of the current context's namespace, in the columns of `kubectl get ftj`.

  finetuning list -A -o wide
      All namespaces; also step, throughput, time left and reason.

  finetuning list -l team=vision -o json
      For scripts, by label.

exit codes:
  0 shown     1 the jobs cannot be read     2 wrong usage
"""
HELP = "the jobs of a namespace or of all"
DESCRIPTION = "Show the FineTuningJobs of the cluster, one line each."
FORMS = ("json", "yaml", "wide", "name")


def add_arguments(listing: argparse.ArgumentParser) -> None:
    listing.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    listing.add_argument(
        "-l", "--selector", default="", metavar="LABELS", help="label selector, such as team=vision"
    )
    listing.add_argument("-o", "--output", choices=FORMS, help="another form than a table")
    add_cluster(listing)


def execute(given: argparse.Namespace) -> int:
    from finetuning.jobs import looking  # noqa: PLC0415 - pydantic
    from finetuning.jobs.formats import Format  # noqa: PLC0415

    form = Format(given.output) if given.output else None
    wish = looking.Listing(where(given), given.all_namespaces, given.selector, form)
    return looking.list_jobs(wish)
