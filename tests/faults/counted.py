"""The operator's process, which says on SIGUSR1 what its memory is made of.

Usage: python -m tests.faults.counted FILE [arguments of finetuning.controller]
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from finetuning.controller.__main__ import main

_Cache = type(lru_cache(int))
_MALLINFO2 = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
    "keepcost",
)  # fmt: skip


class _Malloc(ctypes.Structure):
    """What glibc's mallinfo2 tells, over all arenas."""

    _fields_ = [(name, ctypes.c_size_t) for name in _MALLINFO2]


def count() -> dict[str, Any]:
    """What lives after a full collection: objects by type, Python's small blocks, malloc's bytes.

    `resident` is read before, because the collection itself may give pages back. Caches that have
    a bound are emptied first: how far they are filled is no growth without end.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    for each in gc.get_objects():
        # Not isinstance, which asks each object for its class: proxies of torch warn at that.
        if type(each) is _Cache and each.cache_parameters()["maxsize"] is not None:
            each.cache_clear()
    gc.collect()
    types = Counter(type(each).__qualname__ for each in gc.get_objects())
    return {
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
        "objects": types.total(),
        "blocks": sys.getallocatedblocks(),
        "malloc": _in_use(),
        "types": dict(types),
    }


def _in_use() -> int:
    """Bytes; 0 where the C library does not tell."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _Malloc
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


def _tell(file: Path) -> None:
    rest = file.with_suffix(".part")
    rest.write_text(json.dumps(count()))
    rest.rename(file)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: _tell(Path(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
