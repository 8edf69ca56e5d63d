"""How the jobs of a burst come, and what befalls them on the way; plain choices, no effects."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FAILS = "f"
"""First letter of the names of jobs whose training fails; KWOK's stages go by it."""
LIVES = "j"
RESTARTS = ("operator", "apiserver")
MOST = 1000
"""Jobs a second: beyond it the load client would measure itself."""


@dataclass(frozen=True)
class Load:
    """The defaults are a plain burst."""

    rate: float = 0.0
    """Jobs a second; 0: as fast as they can be created."""
    failing: float = 0.0
    """Share of jobs whose training ends with an error that no retry mends."""
    deleted: float = 0.0
    """Share of jobs that are deleted once their training pod is there."""
    restart: str = ""
    """What is restarted when half of the training pods are there."""

    def told(self) -> str:
        """What differs from a plain burst, for a heading; nothing where nothing does."""
        parts = (
            (self.rate, f"{self.rate:g} a second"),
            (self.failing, f"{self.failing:.0%} failing"),
            (self.deleted, f"{self.deleted:.0%} deleted"),
            (self.restart, f"{self.restart} restarted"),
        )
        return ", ".join(text for given, text in parts if given)

    def names(self, count: int) -> list[str]:
        """One name for each job, in the order of their creation."""
        failing = set(spread(count, self.failing))
        return [f"{FAILS if each in failing else LIVES}{each:05}" for each in range(count)]

    def leaving(self, names: list[str]) -> list[str]:
        """Those of the names that get deleted: of jobs that would not fail."""
        able = [name for name in names if name.startswith(LIVES)]
        return [able[place] for place in places(len(able), round(len(names) * self.deleted))]

    def figures(self) -> dict[str, Any]:
        return asdict(self)


def spread(count: int, share: float) -> list[int]:
    """Places, evenly apart, of this share of `count`."""
    return places(count, round(count * share))


def places(count: int, wanted: int) -> list[int]:
    """`wanted` places out of `count`, evenly apart; all of them where fewer are there."""
    wanted = min(wanted, count)
    return [(2 * each + 1) * count // (2 * wanted) for each in range(wanted)]


def read(rate: str, failing: str, deleted: str, restart: str) -> Load:
    """Raises ValueError that names the option, its value and what is allowed."""
    shares = {"failing": read_share("failing", failing), "deleted": read_share("deleted", deleted)}
    if sum(shares.values()) > 1:
        raise ValueError(f"--failing {failing} --deleted {deleted}: together at most 1")
    if restart and restart not in RESTARTS:
        raise ValueError(f"--restart {restart!r}: choose from {', '.join(RESTARTS)}")
    return Load(rate=read_rate(rate), restart=restart, **shares)


def read_share(option: str, text: str) -> float:
    """Raises ValueError for what is no number from 0 to 1."""
    problem = ValueError(f"--{option} {text!r}: give a share from 0 to 1, such as 0.1")
    try:
        value = float(text)
    except ValueError:
        raise problem from None
    if not 0 <= value <= 1:
        raise problem
    return value


def read_rate(text: str) -> float:
    """Jobs a second from a text such as `10/s`; 0 for an empty one; raises ValueError."""
    if not text:
        return 0.0
    number, _, unit = text.partition("/")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if unit != "s" or not 0 < value <= MOST:
        raise ValueError(f"--rate {text!r}: give jobs a second, such as 10/s, at most {MOST}/s")
    return value
