"""Whether a model's weights are another's, as they are or rounded to a smaller type.

Reading ends at the first tensor that differs, which in a trained model is one of the first.
"""

from typing import TYPE_CHECKING, Any

from finetuning.monitoring.validators.checks.tree import Tree
from finetuning.monitoring.validators.checks.weights import CHUNK_BYTES, Tensor

if TYPE_CHECKING:
    import numpy as np

_SIZES = {"F32": 4, "F16": 2, "BF16": 2}


def are_those_of(own: Tree, other: Tree) -> bool:
    """Every tensor that both have is the same; False where there is none, or one cannot be judged.

    Raises:
        UnreadableFileError, OSError: a file of either is damaged or gone.
    """
    places = {t.name: (tree_file, t) for tree_file, t in _placed(other)}
    pairs = [(mine, places[mine[1].name]) for mine in _placed(own) if mine[1].name in places]
    pairs.sort(key=lambda pair: pair[0][1].size)
    return bool(pairs) and all(_same(mine, theirs) for mine, theirs in pairs)


def _placed(tree: Tree) -> list[tuple[Any, Tensor]]:
    return [(file.path, tensor) for file in tree.headers.values() for tensor in file.tensors]


def _same(mine: tuple[Any, Tensor], theirs: tuple[Any, Tensor]) -> bool:
    one, other = mine[1], theirs[1]
    if one.shape != other.shape or not {one.dtype, other.dtype} <= _SIZES.keys():
        return False
    count, step = one.size // _SIZES[one.dtype], CHUNK_BYTES // 4
    with mine[0].open("rb") as left, theirs[0].open("rb") as right:
        left.seek(one.start)
        right.seek(other.start)
        for start in range(0, count, step):
            numbers = min(step, count - start)
            values = _numbers(right.read(numbers * _SIZES[other.dtype]), other.dtype)
            own = left.read(numbers * _SIZES[one.dtype])
            if own != _stored(values, one.dtype):
                return False
    return True


def _numbers(data: bytes, dtype: str) -> "np.ndarray[Any, Any]":
    """As 32 bit, which hold every value of the others."""
    import numpy as np  # noqa: PLC0415 - only in the validator

    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, "<f4" if dtype == "F32" else "<f2").astype("<f4")


def _stored(values: "np.ndarray[Any, Any]", dtype: str) -> bytes:
    """Rounded to the nearest, to the even one of two."""
    import numpy as np  # noqa: PLC0415 - only in the validator

    if dtype == "F32":
        return bytes(values.tobytes())
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return bytes(values.astype("<f2").tobytes())
    bits = values.view("<u4").astype("<u8")
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return bytes(rounded.astype("<u2").tobytes())
