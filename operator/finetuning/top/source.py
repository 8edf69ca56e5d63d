"""Where rows come from."""

from collections.abc import Sequence
from typing import Protocol

from finetuning.top.rows import Row


class SourceError(Exception):
    """The jobs cannot be read now; the message is one line that says what would help."""


class Source(Protocol):
    """A cluster or a folder."""

    @property
    def name(self) -> str: ...

    async def rows(self) -> Sequence[Row]:
        """Every job there is now; raises SourceError."""

    async def close(self) -> None: ...
