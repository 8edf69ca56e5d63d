"""By what a base model is known again: some bytes of each of its tensors.

Training changes nearly every number of a model, so that a few tell it from what it was made of;
reading all of a large one would take minutes on both sides.
"""

import hashlib
from pathlib import Path
from typing import BinaryIO, Self

from pydantic import BaseModel, ConfigDict, Field

from finetuning.artifacts.files import UnreadableFileError, open_bounded, read_json
from finetuning.artifacts.tensor_header import read_header

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_LARGEST_FILE, _LARGEST_INDEX = 1 << 50, 64 << 20
"""The index of DeepSeek-V3 has 9 MB."""

_PROBE_BYTES = 256
"""Read at the beginning, the middle and the end of a tensor."""


class BaseWeights(BaseModel):
    """Of a base model in safetensors, however it is divided into files."""

    model_config = ConfigDict(extra="ignore")

    types: str = Field(pattern=r"^[A-Z0-9_ ]{1,256}$")
    """Of its tensors, in order of their names; the same numbers in another are other bytes."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """None where the weights are not there, or cannot be read."""
        try:
            told = {
                name: each for path in weight_files(folder) for name, each in _probed(path).items()
            }
        except (OSError, UnreadableFileError, ValueError, KeyError, TypeError, AttributeError):
            return None
        if not told:
            return None
        digest = hashlib.sha256()
        for name, (_, seen) in sorted(told.items()):
            digest.update(f"{name}\n".encode() + seen)
        types = " ".join(sorted({kind for kind, _ in told.values()}))
        return cls(types=types, sha256=digest.hexdigest())

    def is_another(self, found: Self | None) -> bool:
        """Whether they are certainly not the same; what is stored in another type may be."""
        return found is not None and found.types == self.types and found.sha256 != self.sha256


def weight_files(folder: Path) -> list[Path]:
    """Those that a model is loaded from, there or not; none where there is neither file nor index.

    Raises:
        UnreadableFileError, KeyError, TypeError, AttributeError: the index is none.
    """
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    if not (folder / _INDEX).is_file():
        return []
    # As every file of the Hub's cache it may be a link.
    index = read_json((folder / _INDEX).resolve(), _LARGEST_INDEX)
    names: set[str] = set(index["weight_map"].values())
    return [folder / name for name in sorted(names)]


def _probed(path: Path) -> dict[str, tuple[str, bytes]]:
    """By name each tensor's type and some of its bytes."""
    # A cache of the Hub's holds links to its files.
    with open_bounded(path.resolve(), _LARGEST_FILE) as file:
        header, begin = read_header(file)
        header.pop("__metadata__", None)
        return {
            name: (each["dtype"], _bytes_of(file, begin, *each["data_offsets"]))
            for name, each in header.items()
        }


def _bytes_of(file: BinaryIO, begin: int, start: int, end: int) -> bytes:
    seen = b""
    for place in (start, (start + end) // 2, max(start, end - _PROBE_BYTES)):
        file.seek(begin + place)
        seen += file.read(min(_PROBE_BYTES, end - place))
    return seen
