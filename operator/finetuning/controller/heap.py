"""Memory that nobody uses any more, and the process still has."""

import ctypes
from collections.abc import Callable

_trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Only glibc has it."""


def give_back() -> None:
    """To be called after what took megabytes: else they stay with the process, in pieces."""
    if _trim is not None:
        _trim(0)
