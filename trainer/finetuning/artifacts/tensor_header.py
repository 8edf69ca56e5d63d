"""The head of a safetensors file: the names, types, shapes and places of its tensors."""

import json
from typing import Any, BinaryIO

_LENGTH_BYTES, _LONGEST = 8, 100_000_000
"""The second is the limit of the format's own library."""


def read_header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """What the head says, and where the data begins; raises ValueError where it is no JSON."""
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    header: dict[str, Any] = json.loads(file.read(min(length, _LONGEST)))
    return header, _LENGTH_BYTES + length
