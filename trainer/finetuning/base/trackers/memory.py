"""What a tracker's process remembers over restarts: which run it tells of, and how far it is."""

from pathlib import Path
from typing import Self
from uuid import uuid4

from pydantic import BaseModel, Field, ValidationError

from finetuning.artifacts.files import UnreadableFileError, read_json, write_json


class Memory(BaseModel):
    """tracking/<tracker>.json; without it the tracker would begin another run."""

    run_id: str = Field(default_factory=lambda: uuid4().hex, pattern=r"^[0-9a-f]{32}$")
    step: int = Field(default=0, ge=0)
    """The last step that the tracker has taken."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """A new one where there is none that can be read."""
        try:
            return cls.model_validate(read_json(path))
        except (UnreadableFileError, ValidationError):
            return cls()

    def write(self, path: Path) -> None:
        """Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"schema_version": 1, **self.model_dump(mode="json")})
