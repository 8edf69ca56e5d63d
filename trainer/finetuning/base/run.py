"""What is known of a run, and checked, before torch is loaded."""

from dataclasses import dataclass
from pathlib import Path

from finetuning.api.run_config import RunConfig
from finetuning.artifacts import CHECKPOINTS_DIR
from finetuning.base.facts import Facts
from finetuning.base.reading import RunRows


@dataclass(frozen=True)
class Run:
    """The settings, the rows, and the folder that the result goes to."""

    config: RunConfig
    output: Path
    settings: Path
    """Folder with the base model's configuration and tokenizer."""
    rows: RunRows
    facts: Facts

    @property
    def checkpoints(self) -> Path:
        return self.output / CHECKPOINTS_DIR
