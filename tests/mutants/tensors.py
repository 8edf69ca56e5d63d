"""Changing the tensors of a safetensors file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

Array = np.ndarray[Any, Any]
Tensors = dict[str, Array]


def with_tensors(path: Path, change: Callable[[Tensors], None]) -> None:
    tensors = {name: value.copy() for name, value in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def beside_the_base(folder: Path, base: Path, change: Callable[[str, Array, Array], Array]) -> None:
    """Change a whole model's tensors, each by its name, its values and the base model's."""
    own = load_file(base / "model.safetensors")

    def each(tensors: Tensors) -> None:
        for name, value in tensors.items():
            tensors[name] = change(name, value, own[name]).astype(value.dtype)

    with_tensors(folder / "model.safetensors", each)


def swapped_layers(tensors: Tensors) -> None:
    for part in ("mlp.up_proj", "mlp.down_proj", "self_attn.o_proj", "self_attn.q_proj"):
        one, two = f"model.layers.0.{part}.weight", f"model.layers.1.{part}.weight"
        tensors[one], tensors[two] = tensors[two], tensors[one]
