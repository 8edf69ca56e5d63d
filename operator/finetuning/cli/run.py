"""`finetuning run`: its arguments."""

import argparse
from pathlib import Path

from finetuning.cli.arguments import assignment, port

EXAMPLES = """\
examples:
  finetuning run job.yaml
      Train and validate into ./runs/<job>/. Ctrl-C pauses; the same command continues.

  finetuning run job.yaml --claims base-models=/data/models
      The manifest says pvc://base-models/...: here that claim is the folder /data/models.
      Without the option it is ./runs/claims/base-models.

  finetuning run job.yaml --configmap train-data=rows.jsonl
      The manifest says configmap:train-data:<key>: here that is the file rows.jsonl.
      Without the option the ConfigMap is looked for in job.yaml itself.

exit codes:
  0 trained, and validated unless that is turned off     1 training or validation failed
  2 something in the command, manifest, data or model is wrong; nothing was trained
  130 interrupted by Ctrl-C (128 + signal); the work is saved
"""
HELP = "run a FineTuningJob on this machine, without a cluster"
DESCRIPTION = """\
Run the pods of a FineTuningJob as processes of this machine:
trainer and metrics server, then validation."""


def add_arguments(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "manifest", type=Path, metavar="job.yaml", help="manifest of the job; - reads stdin"
    )
    run.add_argument("--name", help="which job, when the file has several")
    run.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the result (default: runs/<job>)"
    )
    run.add_argument(
        "--claims",
        action="append",
        type=assignment,
        default=[],
        metavar="NAME=DIR",
        help="folder that stands for a PersistentVolumeClaim; may be repeated",
    )
    run.add_argument(
        "--configmap",
        action="append",
        type=assignment,
        default=[],
        metavar="NAME=PATH",
        help="file or folder that stands for a ConfigMap; may be repeated",
    )
    run.add_argument(
        "--metrics-port",
        type=port,
        metavar="PORT",
        help="insist on this port (default: 8000, or a free one when that is in use)",
    )


def execute(given: argparse.Namespace) -> int:
    from finetuning.local import run  # noqa: PLC0415 - pydantic and rich
    from finetuning.local.options import Options  # noqa: PLC0415

    return run.main(
        Options(
            manifest=given.manifest,
            name=given.name,
            output=given.output,
            claims=dict(given.claims),
            config_maps=dict(given.configmap),
            metrics_port=given.metrics_port,
            command=given.typed,
        )
    )
