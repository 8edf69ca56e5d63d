"""Damage to models that hardly differ from their base, as after few steps at a low rate."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.mutants.faults import FILES, OUTPUT, Fault, Spoil, everywhere, halved, tensors
from tests.mutants.tensors import Array, Tensors, beside_the_base

Change = Callable[[Tensors], None]

RUNS = {
    "lora, hardly moved": "an adapter",
    "lora, bf16, hardly moved": "an adapter in bf16",
    "qlora, bf16, hardly moved": "an adapter on 4 bits",
}
"""Names of healthy runs, and what they are called here."""


def scaled(factor: float, part: str = "") -> Change:
    """The second matrices of the layers whose names have `part` in them, times the factor."""

    def change(weights: Tensors) -> None:
        for name, value in weights.items():
            if "lora_B" in name and part in name:
                weights[name] = value * np.float32(factor)

    return change


def noise(share: float) -> Change:
    """As large as this share of each matrix's spread."""

    def change(weights: Tensors) -> None:
        random = np.random.default_rng(0)
        for name, value in weights.items():
            each = random.standard_normal(value.shape) * share * value.std()
            weights[name] = (value + each).astype(value.dtype)

    return change


def reversed_rows(weights: Tensors) -> None:
    for name, value in weights.items():
        if "lora_B" in name and "v_proj" in name:
            weights[name] = np.ascontiguousarray(value[::-1])


def zero_first_matrix(weights: Tensors) -> None:
    weights[min(name for name in weights if "lora_A" in name)][:] = 0


CHANGES = {
    "has half its scale": halved,
    "has a tenth of its scale": scaled(0.1),
    "has twice its scale": scaled(2),
    "has as much noise as weight": noise(1),
    "has a third of noise": noise(0.3),
    "has lost a layer": scaled(0, "layers.1."),
    "has one kind of layer's rows reversed": reversed_rows,
}
WHOLE_RUNS = {"full, hardly moved": "a model", "full, bf16, hardly moved": "a model in bf16"}
WHOLE_CHANGES: dict[str, Callable[[str, Array, Array], Array]] = {
    "has a layer of its base": lambda name, value, own: own if ".layers.1." in name else value,
    "has all layers of its base": lambda name, value, own: own if ".layers." in name else value,
    "has half of what it learned": lambda _, value, own: (value + own) / 2,
    "has twice what it learned": lambda _, value, own: 2 * value - own,
    "has as much noise as it learned": lambda _, value, own: value + shuffled(value - own),
}


def shuffled(values: Array) -> Array:
    return np.random.default_rng(0).permutation(values.ravel()).reshape(values.shape)


def whole(change: Callable[[str, Array, Array], Array]) -> Spoil:
    """In the result and in every checkpoint alike."""

    def spoil(folder: Path) -> None:
        base = Path(json.loads((folder / "training_info.json").read_text())["model_id"])
        everywhere(lambda each: beside_the_base(each, base, change))(folder)

    return spoil


OUTPUTS: tuple[Fault, ...] = tuple(
    Fault(f"{name} that hardly moved {what}", OUTPUT, "NotAsTrained", whole(change), run=run,
          loads_model=True, told_nothing=True)
    for run, name in WHOLE_RUNS.items() for what, change in WHOLE_CHANGES.items()
) + tuple(
    Fault(f"{name} that hardly moved {what}", OUTPUT, "NotAsTrained",
          everywhere(tensors(change)), run=run, loads_model=True, told_nothing=True)
    for run, name in RUNS.items() for what, change in CHANGES.items()
)  # fmt: skip
INTEGRITY: tuple[Fault, ...] = (
    Fault("what a layer of an adapter has learned is zeros", FILES, "WeightsZero",
          everywhere(tensors(scaled(0, "layers.1.")))),
    Fault("one first matrix of an adapter is zeros", FILES, "WeightsZero",
          everywhere(tensors(zero_first_matrix))),
)  # fmt: skip
