"""Weight files are read to the last bit without any library that loads them."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from finetuning.artifacts.manifest import sha256_of
from finetuning.monitoring.validators.checks.weights import read_contents, read_header

BF16_ONE, BF16_NAN, BF16_INFINITY = 0x3F80, 0x7FC1, 0xFF80
HEADERS = {
    "BF16": (np.uint16, BF16_ONE, (BF16_NAN, BF16_INFINITY)),
    "F8_E4M3": (np.uint8, 0x7E, (0x7F, 0xFF)),
    "F8_E5M2": (np.uint8, 0x7B, (0x7C, 0xFF)),
    "F16": (np.uint16, 0x7BFF, (0x7C00, 0xFE00)),
    "F64": (np.uint64, 0x7FEFFFFFFFFFFFFF, (0x7FF0000000000000, 0xFFF8000000000001)),
    "I8": (np.uint8, 0x7F, ()),
}


@pytest.mark.parametrize("dtype", HEADERS)
def test_bit_patterns_of_every_number_format_are_known(tmp_path: Path, dtype: str) -> None:
    kind, largest, bad = HEADERS[dtype]
    for pattern in (largest, *bad):
        raw = np.full(10, largest, kind)
        raw[7] = pattern
        path = written(tmp_path / "x.safetensors", {"w": (dtype, raw.tobytes(), [10])})
        seen = read_contents(read_header(path))
        assert seen.nonfinite == ("w" if pattern in bad else None)
        assert seen.sha256 == sha256_of(path)


def written(path: Path, tensors: dict[str, tuple[str, bytes, list[int]]]) -> Path:
    """A file with these types, bytes and shapes, in this order."""
    header, data = {}, b""
    for name, (dtype, raw, shape) in tensors.items():
        place = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": place}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("place", [0, 262_143, 262_144, 600_000, 786_432])
def test_every_place_of_a_large_tensor_is_looked_at_whatever_lies_before_it(
    tmp_path: Path, place: int
) -> None:
    """Around the borders of what is read in one go, and out of step with them."""
    values = np.ones(786_433, np.float32)
    values[place] = np.inf
    path = written(
        tmp_path / "x.safetensors",
        {"odd": ("I8", b"\x7f" * 3, [3]), "w": ("F32", values.tobytes(), [len(values)])},
    )
    seen = read_contents(read_header(path))
    assert seen.nonfinite == "w"
    assert seen.sha256 == sha256_of(path)


@pytest.mark.parametrize(
    ("dtype", "kind", "largest", "huge"),
    [
        ("F32", "<f4", 16_777_215.0, 16_777_216.0),
        ("F64", "<f8", 16_777_215.0, -16_777_216.0),
        ("BF16", "<u2", 0x4B7F, 0xCB80),
        ("F16", "<f2", 65_504.0, None),
    ],
)
def test_numbers_of_2_to_the_24th_and_more_are_told(
    tmp_path: Path, dtype: str, kind: str, largest: float, huge: float | None
) -> None:
    for value in (largest, huge) if huge is not None else (largest,):
        raw = np.zeros(10, kind)
        raw[7] = value
        path = written(tmp_path / "x.safetensors", {"w": (dtype, raw.tobytes(), [10])})
        assert read_contents(read_header(path)).huge == ("w" if value == huge else None)


def test_tensors_of_zeros_are_told(tmp_path: Path) -> None:
    large = np.zeros(600_000, np.float32)
    names = [f"l{n}.lora_B.weight" for n in range(3)]
    tensors = {names[0]: large, names[1]: large.copy(), names[2]: np.ones(3, np.float32)}
    tensors[names[1]][-1] = 1e-30
    save_file(tensors, tmp_path / "x.safetensors")
    assert read_contents(read_header(tmp_path / "x.safetensors")).zero == (names[0],)
