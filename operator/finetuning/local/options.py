"""What `finetuning run` was told on its command line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """Folders may be relative to the working directory."""

    manifest: Path
    name: str | None = None
    output: Path | None = None
    claims: Mapping[str, Path] = field(default_factory=dict)
    config_maps: Mapping[str, Path] = field(default_factory=dict)
    metrics_port: int | None = None
    command: str = "finetuning run"
    """The whole command, to be typed again."""
