import os
from pathlib import Path

import pytest

from finetuning.controller import heap


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(heap._trim is None, reason="not glibc")
def test_what_lies_between_pieces_that_are_used_goes_back_to_the_system() -> None:
    pieces = [bytes(2000) for _ in range(30_000)]
    kept = pieces[::50]
    del pieces
    held = resident_mib()
    heap.give_back()
    assert held - resident_mib() > 30
    assert kept
