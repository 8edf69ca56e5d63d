"""Changing the tensors of a safetensors file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

Tensors = dict[str, np.ndarray[Any, Any]]


def with_tensors(path: Path, change: Callable[[Tensors], None]) -> None:
    tensors = {name: value.copy() for name, value in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def swapped_layers(tensors: Tensors) -> None:
    for part in ("mlp.up_proj", "mlp.down_proj", "self_attn.o_proj", "self_attn.q_proj"):
        one, two = f"model.layers.0.{part}.weight", f"model.layers.1.{part}.weight"
        tensors[one], tensors[two] = tensors[two], tensors[one]
