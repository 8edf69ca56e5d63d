"""`finetuning validate --local`: the validator of the cluster on a folder of this machine."""

import subprocess
import sys
from pathlib import Path

from finetuning.artifacts import (
    AIM_PROFILE,
    CHECKPOINTS_DIR,
    TRAINING_INFO,
    VALIDATION_DIR,
    VALIDATION_REPORT_TEXT,
)
from finetuning.jobs.session import INTERRUPTED, WRONG, complain


def judge(folder: Path, base_model: str | None, output: Path | None) -> int:
    """Exit code of the validator, which is a process of its own since it loads the model."""
    if not (folder / TRAINING_INFO).is_file():
        return complain(
            WRONG,
            f"--local {folder}: holds no {TRAINING_INFO}, so no training has ended in it; name "
            "the output folder of a run",
        )
    report = output or folder / VALIDATION_DIR / VALIDATION_REPORT_TEXT
    if output is None:
        report.parent.mkdir(exist_ok=True)
    try:
        return subprocess.run(command(folder, base_model, report), check=False).returncode
    except KeyboardInterrupt:
        return INTERRUPTED


def command(folder: Path, base_model: str | None, report: Path) -> list[str]:
    """As in the validation pod, with this machine's folders."""
    base = ["--base-model", base_model] if base_model else []
    return [
        sys.executable, "-m", "finetuning.monitoring.validate_job",
        "--training-info", str(folder / TRAINING_INFO),
        "--model-path", str(folder),
        "--checkpoint-path", str(folder / CHECKPOINTS_DIR),
        "--profile-path", str(folder / AIM_PROFILE),
        "--require-all", "--output", str(report), *base,
    ]  # fmt: skip


def needs_local(option: str) -> int:
    """A job in the cluster is judged by its own policy."""
    return complain(WRONG, f"{option} goes with --local FOLDER; a job's policy stands in the job")
