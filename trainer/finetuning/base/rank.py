"""Which of the processes of a run this one is, by what torchrun put into its environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from finetuning.base.errors import ConfigError


@dataclass(frozen=True)
class Rank:
    """One of `of` processes, `local_of` of them on this machine; without torchrun the only one."""

    number: int = 0
    of: int = 1
    local: int = 0
    local_of: int = 1

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """From RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE.

        Raises:
            ConfigError: they are no numbers, or do not fit each other.
        """
        if "RANK" not in environ and "WORLD_SIZE" not in environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        found = {name: environ.get(name, "") for name in names}
        numbers = [int(text) if text.isdecimal() else -1 for text in found.values()]
        rank = cls(*numbers)
        if not (0 <= rank.number < rank.of and 0 <= rank.local < rank.local_of <= rank.of):
            shown = ", ".join(f"{name}={text!r}" for name, text in found.items())
            raise ConfigError(
                f"{shown}: not what torchrun sets; start the processes with torchrun, or unset "
                "these variables to train with one"
            )
        return rank

    @property
    def leads(self) -> bool:
        """The first one writes everything that is written."""
        return self.number == 0

    @property
    def alone(self) -> bool:
        return self.of == 1
