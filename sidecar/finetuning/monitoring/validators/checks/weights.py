"""Reading *.safetensors without loading a model: the header, and every byte exactly once.

One pass gives the sha256 and tells whether every number is finite, in memory that does not grow
with the model.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from finetuning.artifacts.files import UnreadableFileError

if TYPE_CHECKING:
    import numpy as np

_LENGTH_BYTES = 8
_MATRIX = re.compile(r"(.*)\.lora_[AB]\..*")
CHUNK_BYTES = 1 << 20
"""Read in one go: the numbers are still in the processor's cache when they are looked at."""


@dataclass(frozen=True)
class _Format:
    """How NaN and infinities look in a type that numpy may not know: all of `mask` is set.

    From `huge` on a masked value stands for a number of 2^24 and more.
    """

    type: str
    mask: int
    huge: int | None = None


_FORMATS = {
    "F64": _Format("<u8", 0x7FF0_0000_0000_0000, (1023 + 24) << 52),
    "F32": _Format("<u4", 0x7F80_0000, (127 + 24) << 23),
    "C64": _Format("<u4", 0x7F80_0000, (127 + 24) << 23),
    "F16": _Format("<u2", 0x7C00),
    "BF16": _Format("<u2", 0x7F80, (127 + 24) << 7),
    "F8_E5M2": _Format("u1", 0x7C),
    "F8_E4M3": _Format("u1", 0x7F),
    "F8_E8M0": _Format("u1", 0xFF),
}
"""Every other type, such as the integers, has no value that is not finite."""

_BYTES = _Format("u1", 0)


@dataclass(frozen=True)
class Tensor:
    """One tensor's form and its place in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
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


@dataclass(frozen=True)
class Contents:
    """What one pass over a file has seen."""

    sha256: str
    nonfinite: str | None = None
    """Name of the first tensor with NaN or infinity in it."""
    zero: tuple[str, ...] = ()
    """Names of the tensors that hold nothing but zeros."""
    huge: str | None = None
    """Name of the first tensor with a number of 2^24 or more in it."""


def dead_layers(names: Iterable[str]) -> set[str]:
    """Adapted layers with one of these matrices, of which each is zero: they change nothing."""
    return {found[1] for name in names if (found := _MATRIX.fullmatch(name))}


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
    found = sorted(_tensors(header, data), key=lambda tensor: (tensor.start, tensor.size))
    return WeightFile(path, tuple(found))


def _tensors(header: dict[str, Any], data: int) -> Iterator[Tensor]:
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield Tensor(name, entry["dtype"], tuple(entry["shape"]), data + begin, end - begin)


def read_contents(file: WeightFile) -> Contents:
    """Hash the file and look at every number; the tensors follow each other without a gap.

    Raises:
        UnreadableFileError: it became shorter while it was read.
    """
    total = hashlib.sha256()
    seen: dict[str, list[str]] = {"nonfinite": [], "zero": [], "huge": []}
    with file.path.open("rb", buffering=0) as stream:
        total.update(stream.read(file.tensors[0].start if file.tensors else -1))
        buffer = bytearray(CHUNK_BYTES)
        for tensor in file.tensors:
            largest, any_value = _read_tensor(stream, tensor, buffer, total)
            for kind in _kinds(_FORMATS.get(tensor.dtype, _BYTES), largest, any_value=any_value):
                seen[kind].append(tensor.name)
    first = {kind: next(iter(names), None) for kind, names in seen.items()}
    return Contents(total.hexdigest(), first["nonfinite"], tuple(seen["zero"]), first["huge"])


def _kinds(form: _Format, largest: int, *, any_value: bool) -> Iterator[str]:
    if form.mask and largest >= form.mask:
        yield "nonfinite"
    elif form.huge and largest >= form.huge:
        yield "huge"
    if not any_value:
        yield "zero"


def _read_tensor(
    stream: BinaryIO | Any, tensor: Tensor, buffer: bytearray, total: "hashlib._Hash"
) -> tuple[int, bool]:
    """The largest masked value, and whether anything but zero is in it."""
    import numpy as np  # noqa: PLC0415 - only in the validator

    form = _FORMATS.get(tensor.dtype, _BYTES)
    scratch = np.empty(CHUNK_BYTES // np.dtype(form.type).itemsize, form.type)
    largest, any_value, left = 0, not tensor.size, tensor.size
    while left:
        piece = memoryview(buffer)[: min(left, CHUNK_BYTES)]
        _fill(stream, piece, tensor.name)
        total.update(piece)
        left -= len(piece)
        values = np.frombuffer(piece, form.type)
        if form.mask:
            largest = max(largest, _largest(values, form.mask, scratch))
        any_value = any_value or bool(values.any())
    return largest, any_value


def _fill(stream: Any, piece: memoryview, name: str) -> None:
    filled = 0
    while filled < len(piece):
        count = stream.readinto(piece[filled:])
        if not count:
            raise UnreadableFileError(f"{name}: the file ended while it was read")
        filled += count


def _largest(values: "np.ndarray[Any, Any]", mask: int, scratch: "np.ndarray[Any, Any]") -> int:
    """Masked, a value that is not finite is the largest that there can be: one maximum tells."""
    import numpy as np  # noqa: PLC0415 - only in the validator

    masked = np.bitwise_and(values, values.dtype.type(mask), out=scratch[: len(values)])
    return int(masked.max(initial=0))
