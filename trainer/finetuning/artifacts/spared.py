"""A library that is installed, but that this run has no use for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_ASKED = {
    "peft.import_utils": ("is_bnb_available", "is_bnb_4bit_available"),
    "transformers.utils.import_utils": ("is_bitsandbytes_available",),
}
"""Functions that remember whether bitsandbytes is there."""


@contextmanager
def without_bitsandbytes() -> Iterator[None]:
    """Save the second or two that loading it takes: other libraries take it for absent.

    Else peft loads it wherever it is installed, and with it torch's compiler; only 4-bit weights
    need either. Nothing changes where it is loaded already.
    """
    name = "bitsandbytes"
    if name in sys.modules:
        yield
        return
    _forget()
    sys.modules[name] = None  # type: ignore[assignment]  # Python's own mark of an absent module.
    try:
        yield
    finally:
        del sys.modules[name]
        _forget()


def _forget() -> None:
    for module, names in _ASKED.items():
        for name in names if module in sys.modules else ():
            getattr(sys.modules[module], name).cache_clear()
