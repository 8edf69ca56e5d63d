"""`finetuning doctor`: its arguments."""

import argparse

from finetuning.cli.arguments import add_cluster, where

EXAMPLES = """\
examples:
  finetuning doctor
      Is everything there for the jobs of the current context's namespace?

  finetuning doctor -n team-a -o json
      For scripts: about, result (ok, note, wrong, unknown), told, remedy.

exit codes:
  0 nothing is wrong     1 something is     2 wrong usage, or there is no usable kubeconfig
"""
HELP = "what the cluster lacks for fine-tuning, and how to mend it"
DESCRIPTION = """\
Look at cluster, resource definition, operator, GPUs, monitoring, storage and your rights. It
changes nothing, and what your login may not see is said to be unknown, not wrong."""


def add_arguments(doctor: argparse.ArgumentParser) -> None:
    doctor.add_argument("-o", "--output", choices=("json",), help="another form than text")
    add_cluster(doctor)


def execute(given: argparse.Namespace) -> int:
    from finetuning.doctor import command  # noqa: PLC0415 - pydantic

    return command.examine(where(given), as_json=given.output == "json")
