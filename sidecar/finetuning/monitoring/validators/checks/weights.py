"""Reading *.safetensors without loading a model: the header, and every byte exactly once.

One pass gives the sha256 and tells whether every number is finite, in memory that does not grow
with the model.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from finetuning.artifacts import tensor_header
from finetuning.artifacts.files import UnreadableFileError
from finetuning.monitoring.validators.checks import machine

if TYPE_CHECKING:
    import numpy as np

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
    sign: int = 0
    """What is set in a number below 0, and in a zero that was one."""


_FORMATS = {
    "F64": _Format("<u8", 0x7FF0_0000_0000_0000, (1023 + 24) << 52, 1 << 63),
    "F32": _Format("<u4", 0x7F80_0000, (127 + 24) << 23, 1 << 31),
    "C64": _Format("<u4", 0x7F80_0000, (127 + 24) << 23, 1 << 31),
    "F16": _Format("<u2", 0x7C00, sign=1 << 15),
    "BF16": _Format("<u2", 0x7F80, (127 + 24) << 7, 1 << 15),
    "F8_E5M2": _Format("u1", 0x7C, sign=1 << 7),
    "F8_E4M3": _Format("u1", 0x7F, sign=1 << 7),
    "F8_E8M0": _Format("u1", 0xFF),
}
"""Every other type, such as the integers, has no value that is not finite."""

_BYTES = _Format("u1", 0)
_SQUARES = ".exp_avg_sq"
"""What ends the names of AdamW's means of squares."""


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
    negative: str | None = None
    """Name of the first mean of squares with a number below 0 in it."""


def dead_layers(names: Iterable[str]) -> set[str]:
    """Adapted layers with one of these matrices, of which each is zero: they change nothing."""
    return {found[1] for name in names if (found := _MATRIX.fullmatch(name))}


def read_header(path: Path) -> WeightFile:
    """Let the format's own library judge the header, then take the offsets from it.

    Raises:
        UnreadableFileError: the file is truncated, has bytes too many, or is no safetensors file.
        OSError, SafetensorError: the disk or the machine failed.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - only in the validator

    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        if machine.is_its_fault(error):
            raise
        raise UnreadableFileError(f"{path.name}: {error}") from error
    with path.open("rb") as file:
        header, data = tensor_header.read_header(file)
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
    seen: dict[str, list[str]] = {"nonfinite": [], "zero": [], "huge": [], "negative": []}
    with file.path.open("rb", buffering=0) as stream:
        total.update(stream.read(file.tensors[0].start if file.tensors else -1))
        buffer = bytearray(CHUNK_BYTES)
        for tensor in file.tensors:
            for kind in _read_tensor(stream, tensor, buffer, total).kinds():
                seen[kind].append(tensor.name)
    first = {kind: next(iter(names), None) for kind, names in seen.items() if kind != "zero"}
    return Contents(total.hexdigest(), zero=tuple(seen["zero"]), **first)


@dataclass
class _Seen:
    """What one pass over a tensor has seen of its numbers."""

    form: _Format
    largest: int
    """Masked."""
    any_value: bool
    """Whether anything but zero is in it, of either sign."""
    any_negative: bool = False

    def kinds(self) -> Iterator[str]:
        if self.form.mask and self.largest >= self.form.mask:
            yield "nonfinite"
        elif self.form.huge and self.largest >= self.form.huge:
            yield "huge"
        if not self.any_value:
            yield "zero"
        if self.any_negative:
            yield "negative"


def _read_tensor(
    stream: BinaryIO | Any, tensor: Tensor, buffer: bytearray, total: "hashlib._Hash"
) -> _Seen:
    import numpy as np  # noqa: PLC0415 - only in the validator

    form = _FORMATS.get(tensor.dtype, _BYTES)
    scratch = np.empty(CHUNK_BYTES // np.dtype(form.type).itemsize, form.type)
    seen, left = _Seen(form, 0, not tensor.size), tensor.size
    while left:
        piece = memoryview(buffer)[: min(left, CHUNK_BYTES)]
        _fill(stream, piece, tensor.name)
        total.update(piece)
        left -= len(piece)
        values = np.frombuffer(piece, form.type)
        if form.mask:
            seen.largest = max(seen.largest, _largest(values, form.mask, scratch))
        seen.any_value = seen.any_value or _any_value(values, form.sign)
        if tensor.name.endswith(_SQUARES):
            seen.any_negative |= form.sign > 0 and int(values.max(initial=0)) > form.sign
    return seen


def _any_value(values: "np.ndarray[Any, Any]", sign: int) -> bool:
    """A zero may have a sign."""
    return bool((values << 1).any() if sign else values.any())


def read_numbers(path: Path, tensor: Tensor) -> "np.ndarray[Any, Any] | None":
    """The first numbers of a tensor, up to 2^18, in 64 bit; None where it is not of 32 bit.

    Raises:
        OSError: the file is gone.
    """
    import numpy as np  # noqa: PLC0415 - only in the validator

    if tensor.dtype != "F32":
        return None
    with path.open("rb") as file:
        file.seek(tensor.start)
        return np.frombuffer(file.read(min(tensor.size, CHUNK_BYTES)), "<f4").astype("<f8")


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
