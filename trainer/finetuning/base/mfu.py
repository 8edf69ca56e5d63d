"""Model FLOP utilization: how much of the GPU's peak the model's own arithmetic reaches.

Work that the recipe adds (recomputed activations, dequantized weights) does not count, as in the
appendix B of the PaLM paper (arXiv 2204.02311), from which the formula is.
"""

from collections.abc import Callable
from typing import Any

from finetuning.api.hyperparameters import Precision
from finetuning.base.device import Device

PER_CLOCK = {"gfx90a": (1024, 1.7e9), "gfx942": (2048, 2.1e9), "gfx950": (4096, 2.4e9)}
"""Dense 16 bit matrix FLOP per compute unit and clock, and the peak clock in Hz, by architecture.

From AMD's data sheets: 304 units of an MI300X give 1307 TFLOP/s, 110 of half an MI250X 191.5, 256
of an MI355X 2517.
"""
SLOWER = {"MI350X": 2.2e9}
"""Peak clock of cards that differ from their architecture's."""

Meter = Callable[[int, int, float], float | None]
"""Tokens, rows and seconds of an interval to a share between 0 and 1."""


def meter(model: Any, device: Device, *, trains_all: bool) -> Meter:
    """None as the share wherever the GPU's peak in this precision is not known for sure."""
    peak = _peak(device)
    if peak is None:
        return lambda _tokens, _samples, _seconds: None
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    weights, config = matrix_weights(base), base.config.get_text_config()
    layers, width = config.num_hidden_layers, config.hidden_size

    def share(tokens: int, samples: int, seconds: float) -> float | None:
        if not samples or seconds <= 0:
            return None
        length = tokens / samples
        work = flop_per_token(weights, layers, width, length, trains_all=trains_all)
        return min(1.0, tokens * work / seconds / peak)

    return share


def flop_per_token(
    weights: int, layers: int, width: int, length: float, *, trains_all: bool
) -> float:
    """Floating point operations of a training step for each token of a row of `length` tokens.

    Two per weight forward, two for the gradient of the input, two for that of the weight, which
    frozen weights need not; twelve times layers, width and length for attention.
    """
    return (6 if trains_all else 4) * weights + 12 * layers * width * length


def matrix_weights(base: Any) -> int:
    """Weights that a token is multiplied with: no input embedding, but always the output's."""
    output, table = base.get_output_embeddings(), base.get_input_embeddings()
    tied = output is not None and output.weight is table.weight
    return int(base.num_parameters(exclude_embeddings=True)) + (table.weight.numel() if tied else 0)


def peak_flops(architecture: str, units: int, name: str, precision: Precision) -> float | None:
    """Peak of a GPU with so many compute units, in FLOP per second; None when it is unknown."""
    known = PER_CLOCK.get(architecture.split(":", maxsplit=1)[0])
    if known is None or precision not in (Precision.BF16, Precision.FP16):
        return None
    per_clock, clock = known
    clock = next((slower for card, slower in SLOWER.items() if card in name), clock)
    return units * per_clock * clock


def _peak(device: Device) -> float | None:
    if not device.on_gpu:
        return None
    import torch  # noqa: PLC0415 - loaded by whoever made the device

    found = torch.cuda.get_device_properties(device.device)
    architecture = getattr(found, "gcnArchName", "")
    return peak_flops(architecture, found.multi_processor_count, found.name, device.precision)
