"""`finetuning report`: its arguments."""

import argparse
from pathlib import Path

EXAMPLES = """\
examples:
  finetuning report tiny-lora
      The run in ./runs/tiny-lora becomes ./tiny-lora.html.

  finetuning report ./output --output report.html
      Any output folder, of a run that is done, has failed or still trains; - writes to stdout.

  bash examples/fetch.sh my-job ./my-job && finetuning report ./my-job
      A job of a cluster: first copy its result here.

exit codes:
  0 written     1 the page cannot be written     2 there is no such run
"""
HELP = "write one HTML page about a run, which opens offline"
DESCRIPTION = """\
Write one self-contained HTML page about a run: curves of loss, learning rate, throughput and
memory, the data, answers before and after, validation, settings and environment."""


def add_arguments(report: argparse.ArgumentParser) -> None:
    report.add_argument(
        "run", metavar="FOLDER|JOB", help="output folder of a run, or name of a run below ./runs"
    )
    report.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the page (default: ./<job>.html)"
    )


def execute(given: argparse.Namespace) -> int:
    from finetuning.report import write  # noqa: PLC0415 - pydantic

    return write.main(given.run, given.output)
