"""Reading a model's shape from its folder: config.json and the headers of its safetensors.

Files of strangers: sizes are bounded, nothing but JSON is read, and no weight is.
"""

import json
import struct
from pathlib import Path
from typing import Any

from finetuning.estimate.shape import LARGEST, Shape, UnknownShapeError, from_config, from_tensors

CONFIG_MAX_BYTES = 1 << 20
HEADER_MAX_BYTES = 100 << 20
"""The limit that the format itself has."""

_LENGTH = struct.Struct("<Q")


def shape_in(path: Path) -> Shape:
    """Of a model's folder, or of its config.json; raises UnknownShapeError."""
    folder = path if path.is_dir() else path.parent
    config = _object(path / "config.json" if path.is_dir() else path)
    # Of weights that are quantised already the sizes are those of packed bytes.
    told = path.is_dir() and not config.get("quantization_config")
    files = sorted(folder.glob("model*.safetensors")) if told else []
    tensors: dict[str, tuple[int, ...]] = {}
    for file in files:
        tensors |= dimensions(file)
    try:
        return from_tensors(config, tensors) if tensors else from_config(config)
    except UnknownShapeError as error:
        raise UnknownShapeError(f"{path}: {error}") from error


def dimensions(file: Path) -> dict[str, tuple[int, ...]]:
    """The size of each tensor in a safetensors file, by its header alone."""
    header = _header(file)
    found = {name: each for name, each in header.items() if name != "__metadata__"}
    try:
        return {name: _checked(each["shape"]) for name, each in found.items()}
    except (KeyError, TypeError, ValueError):
        raise UnknownShapeError(f"{file}: its header is no safetensors header") from None


def _checked(shape: Any) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in shape)
    if any(not 0 < size <= LARGEST for size in sizes):
        raise ValueError
    return sizes


def _header(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
            if length > HEADER_MAX_BYTES:
                raise UnknownShapeError(f"{file}: its header is larger than the format allows")
            return _parsed(stream.read(length), file)
    except (OSError, struct.error) as error:
        raise UnknownShapeError(f"{file}: {getattr(error, 'strerror', 0) or 'too short'}") from None


def _object(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            data = stream.read(CONFIG_MAX_BYTES + 1)
    except OSError as error:
        raise UnknownShapeError(f"{file}: {error.strerror}") from None
    if len(data) > CONFIG_MAX_BYTES:
        raise UnknownShapeError(f"{file}: larger than {CONFIG_MAX_BYTES} bytes")
    return _parsed(data, file)


def _parsed(data: bytes, file: Path) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnknownShapeError(f"{file}: holds no JSON object")
    return found
