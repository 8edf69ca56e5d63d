"""`finetuning validate`: its arguments."""

import argparse
from pathlib import Path

from finetuning.cli.arguments import add_cluster, add_job, add_wait, waiting, where

EXAMPLES = """\
examples:
  finetuning validate my-job
      Judge the job's model again, by the policy that stands in the job, and show the verdict.

  finetuning validate --local runs/tiny-lora --base-model ./Qwen2.5-7B
      Judge an output folder on this machine; needs the extra `trainer` to ask the model.

exit codes:
  0 every required check passed     1 some did not, or the cluster refuses
  2 wrong usage, or nothing could be judged
"""
HELP = "judge a trained model again, in the cluster or here"
DESCRIPTION = """\
Run the checks on a trained model once more: that of a job in the cluster, or an output folder
on this machine. Nothing is trained again."""


def add_arguments(validate: argparse.ArgumentParser) -> None:
    subject = validate.add_mutually_exclusive_group(required=True)
    add_job(subject, optional=True)
    subject.add_argument("--local", type=Path, metavar="FOLDER", help="output folder of a run")
    validate.add_argument(
        "--base-model", metavar="FOLDER|ID", help="of an adapter in --local, when it has moved"
    )
    validate.add_argument(
        "--output", type=Path, metavar="FILE",
        help="report about --local (default: FOLDER/validation/validation_report.txt)",
    )  # fmt: skip
    add_wait(validate, "the verdict", usual=True)
    add_cluster(validate)


def execute(given: argparse.Namespace) -> int:
    from finetuning.jobs import changing, judging  # noqa: PLC0415 - pydantic

    if given.local is not None:
        return judging.judge(given.local, given.base_model, given.output)
    if given.base_model or given.output:
        return judging.needs_local("--base-model" if given.base_model else "--output")
    return changing.validate(where(given), given.job, waiting(given))
