"""What the model says of some texts at the end of the training: the validator asks it again."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import torch

from finetuning.artifacts.reference import TEXTS, Reference
from finetuning.base.device import Device
from finetuning.base.step import autocast

log = logging.getLogger(__name__)


def reference_of(
    model: Any, tokenizer: Any, device: Device, places: int | None = None
) -> Reference | None:
    """Of the model as it is saved; None where it cannot be computed, which is no reason to fail.

    Weights in 32 bit are computed with so: then only what was lost on the way to the disk differs
    for whoever loads them again.
    """
    model.eval()
    in_32_bits = all(weight.dtype == torch.float32 for weight in model.parameters())
    longest = max(len(tokenizer(text).input_ids) for text in TEXTS)
    if places is not None and longest > places:
        # A GPU does not go on after a place that is not there.
        log.warning("The model has %d places, a text of the reference %d tokens.", places, longest)
        return None
    try:
        with torch.no_grad(), contextlib.nullcontext() if in_32_bits else autocast(device):
            losses = _of_texts(model, tokenizer, device)
            with _without_adapter(model) as base:
                base_losses = _of_texts(base, tokenizer, device) if base is not None else []
    except (RuntimeError, ValueError, IndexError) as error:
        log.warning("The trained model cannot be asked for a reference: %s", error)
        return None
    return Reference.of(losses, base_losses, in_32_bits=in_32_bits)


@contextlib.contextmanager
def _without_adapter(model: Any) -> Iterator[Any]:
    """The base model of an adapter, in the form that it was trained with; else None."""
    if not hasattr(model, "disable_adapter"):
        yield None
        return
    with model.disable_adapter():
        yield model


def _of_texts(model: Any, tokenizer: Any, device: Device) -> list[float]:
    return [loss for text in TEXTS for loss in _losses(model, tokenizer, text, device)]


def _losses(model: Any, tokenizer: Any, text: str, device: Device) -> list[float]:
    """Nats of each token but the first, which nothing predicts."""
    ids = torch.tensor([tokenizer(text).input_ids], device=device.device)
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
    return [float(value) for value in loss]
