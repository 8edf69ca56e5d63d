"""Reading *.safetensors without loading a model: the header, and whether every number is finite."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetuning.artifacts.files import UnreadableFileError

if TYPE_CHECKING:
    import numpy as np

_LENGTH_BYTES = 8
_CHUNK_ELEMENTS = 1 << 22
"""Elements looked at in one go; bounds the memory whatever the size of the model."""


@dataclass(frozen=True)
class _NotFinite:
    """How NaN and infinities look in a type that numpy may not know: all of `mask` is set."""

    type: str
    mask: int


_FORMATS = {
    "F64": _NotFinite("<u8", 0x7FF0_0000_0000_0000),
    "F32": _NotFinite("<u4", 0x7F80_0000),
    "F16": _NotFinite("<u2", 0x7C00),
    "BF16": _NotFinite("<u2", 0x7F80),
    "F8_E5M2": _NotFinite("u1", 0x7C),
    "F8_E4M3": _NotFinite("u1", 0x7F),
}
"""Every other type, such as the integers, has no value that is not finite."""


@dataclass(frozen=True)
class Tensor:
    """One tensor's place in its file."""

    name: str
    dtype: str
    start: int
    size: int


@dataclass(frozen=True)
class WeightFile:
    """A file whose header holds: no gap, no overlap, and nothing after the last tensor."""

    path: Path
    tensors: tuple[Tensor, ...]

    @property
    def names(self) -> set[str]:
        return {tensor.name for tensor in self.tensors}

    @property
    def bytes(self) -> int:
        return sum(tensor.size for tensor in self.tensors)


def read_header(path: Path) -> WeightFile:
    """Let the format's own library judge the header, then take the offsets from it.

    Raises:
        UnreadableFileError: the file is truncated, has bytes too many, or is no safetensors file.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - only in the validator

    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise UnreadableFileError(f"{path.name}: {error}") from error
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    data = _LENGTH_BYTES + length
    return WeightFile(path, tuple(_tensors(header, data)))


def _tensors(header: dict[str, Any], data: int) -> Iterator[Tensor]:
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield Tensor(name, entry["dtype"], data + begin, end - begin)


def first_nonfinite(file: WeightFile) -> str | None:
    """Name of a tensor with NaN or infinity in it; the file is mapped, never held in memory."""
    return next((tensor.name for tensor in file.tensors if _is_nonfinite(file.path, tensor)), None)


def _is_nonfinite(path: Path, tensor: Tensor) -> bool:
    form = _FORMATS.get(tensor.dtype)
    if form is None or tensor.size == 0:
        return False
    return any(
        bool(((chunk & form.mask) == form.mask).any()) for chunk in _chunks(path, tensor, form)
    )


def _chunks(
    path: Path, tensor: Tensor, form: _NotFinite
) -> "Iterator[np.ndarray[Any, np.dtype[Any]]]":
    import numpy as np  # noqa: PLC0415 - only in the validator

    count = tensor.size // np.dtype(form.type).itemsize
    mapped = np.memmap(path, dtype=form.type, mode="r", offset=tensor.start, shape=(count,))
    for begin in range(0, count, _CHUNK_ELEMENTS):
        yield mapped[begin : begin + _CHUNK_ELEMENTS]
