"""`finetuning estimate`: its arguments."""

import argparse
from pathlib import Path

from finetuning.cli.arguments import assignment

EXAMPLES = """\
examples:
  finetuning estimate job.yaml --gpu MI300X
      Will the job fit, and what is the largest batch? Many models are known by their name.

  finetuning estimate job.yaml --gpu MI300X-CPX-NPS4 --model ./Qwen2.5-7B
      On an eighth of a GPU; the model's shape is read from the folder.

  finetuning estimate job.yaml --json
      For scripts; sizes in bytes.

exit codes:
  0 it fits     1 it does not     2 something in the command, the manifest or the model is wrong
"""
HELP = "how much GPU memory a job takes, and what would make it fit"
DESCRIPTION = """\
Work out the GPU memory that a FineTuningJob takes at its peak, before a GPU is taken:
weights, optimizer, gradients, activations, logits. No GPU and no torch is needed."""


def add_arguments(estimate: argparse.ArgumentParser) -> None:
    estimate.add_argument(
        "manifest", type=Path, metavar="job.yaml", help="manifest of the job; - reads stdin"
    )
    estimate.add_argument("--name", help="which job, when the file has several")
    estimate.add_argument(
        "--gpu",
        default="MI300X",
        metavar="GPU",
        help="MI210, MI250X (one of its two dies), MI300A, MI300X, MI308X, MI325X, MI350X or "
        "MI355X, or a partition such as MI300X-CPX-NPS4 (default: MI300X)",
    )
    estimate.add_argument(
        "--model", type=Path, metavar="FOLDER", help="the base model, or its config.json"
    )
    estimate.add_argument(
        "--claims",
        action="append",
        type=assignment,
        default=[],
        metavar="NAME=DIR",
        help="folder that stands for a PersistentVolumeClaim; may be repeated",
    )
    estimate.add_argument("--json", action="store_true", help="print JSON")


def execute(given: argparse.Namespace) -> int:
    from finetuning.estimate import command  # noqa: PLC0415 - pydantic

    return command.main(
        command.Options(
            manifest=given.manifest,
            name=given.name,
            model=given.model,
            claims=dict(given.claims),
            gpu=given.gpu,
            as_json=given.json,
        )
    )
