"""What loading the libraries need not cost."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

_ASKED = {
    "peft.import_utils": ("is_bnb_available", "is_bnb_4bit_available"),
    "transformers.utils.import_utils": ("is_bitsandbytes_available",),
}
"""Functions that remember whether bitsandbytes is there."""


def load(*modules: str) -> None:
    """Import what takes seconds, and never look for garbage in it.

    Torch, transformers and peft make about a million objects that stay until the process ends.
    Python's collector would go through them again and again while they are made, at every full
    collection of the training, and at the exit: that was a third of the processor time between
    the start of the process and the end of loading.
    """
    missing = [name for name in modules if name not in sys.modules]
    if not missing:
        return
    collects = gc.isenabled()
    gc.disable()
    try:
        for name in missing:
            import_module(name)
    finally:
        gc.freeze()
        if collects:
            gc.enable()


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
