"""Several short examples in one sequence, none of which sees another.

Positions begin anew with each example; from that transformers builds a block-diagonal attention
mask. An architecture that does not is found out before the first step.
"""

import inspect
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from finetuning.base.apart import compute_apart, layer_kinds
from finetuning.base.device import Device
from finetuning.base.distribute import unwrapped
from finetuning.base.errors import ConfigError
from finetuning.base.step import autocast, collate, forward
from finetuning.dataset.encode import Example, Pack

_PROBE = 4
"""Tokens of each of the two sequences by which mixing is found out."""

_BY_PLACE = frozenset(
    {"compressed_sparse_attention", "heavily_compressed_attention", "minimax_m3_sparse"}
)
"""Kinds of layers, by transformers' names, that take a row's tokens together in blocks, wherever an
example begins: often of more tokens than the two sequences have."""

_SAME = 1e-3
"""Largest relative difference of logits that rounding explains."""


def pack(examples: list[Example], limit: int) -> list[Pack]:
    """Examples in sequences of at most `limit` tokens."""
    sizes = [len(example.ids) for example in examples]
    return [[examples[i] for i in numbers] for numbers in grouped(sizes, limit)]


def grouped(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Numbers of the sizes that go together, at most `limit` in all, by best fit decreasing.

    The longest first, each into the fullest sequence that still holds it. Every one must fit.
    """
    packs: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    rooms: list[int] = []
    for number in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        at = bisect_left(rooms, sizes[number])
        if at == len(rooms):
            chosen, room = len(packs), limit
            packs.append([])
        else:
            room = rooms[at]
            chosen = by_room[room].pop()
            if not by_room[room]:
                rooms.pop(at)
        packs[chosen].append(number)
        left = room - sizes[number]
        if not by_room.get(left):
            insort(rooms, left)
        by_room.setdefault(left, []).append(chosen)
    return packs


def refuse_mixing(model: Any, device: Device) -> None:
    """Run two short sequences as one, twice, with another first one; the second must not notice.

    Raises:
        ConfigError: the architecture lets packed sequences see each other.
    """
    base = unwrapped(model)
    kinds = layer_kinds(base.config.get_text_config())
    tells_apart = "position_ids" in inspect.signature(base.forward).parameters
    if tells_apart and not kinds & _BY_PLACE:
        seen = [_second_of_two(model, device, first) for first in (0, _PROBE)]
        if torch.allclose(seen[0], seen[1], rtol=_SAME, atol=_SAME * float(seen[0].abs().max())):
            return
    raise ConfigError(
        f"--packing: models of the type {base.config.model_type} let packed rows see each other; "
        "leave out --packing"
    )


def spare_masks(model: Any, device: Device) -> bool:
    """Let packed examples be computed without masks, each by itself; False where that is not so.

    It is where transformers hands a layer's attention to `sdpa`, and the logits stay the same.
    """
    ids = np.arange(_PROBE, dtype=np.int32)
    sizes = ((_PROBE, 1, _PROBE - 1), (_PROBE,))
    packs = [[Example(ids[:size], ids[:size] >= 0) for size in pack] for pack in sizes]
    single = [[each] for pack in packs for each in pack]

    def of_tokens(packs: list[Pack]) -> torch.Tensor:
        """Those of all tokens, example after example, without padding."""
        rows = zip(_logits(model, device, packs), packs, strict=True)
        return torch.cat([row[: sum(len(each.ids) for each in pack)] for row, pack in rows])

    return compute_apart(unwrapped(model), lambda: of_tokens(packs), of_tokens(single))


def _second_of_two(model: Any, device: Device, first: int) -> torch.Tensor:
    """The logits of a fixed sequence that follows one that begins with the token `first`."""
    ids = [torch.arange(start, start + _PROBE, dtype=torch.int32).numpy() for start in (first, 1)]
    pair = [Example(part, part >= 0) for part in ids]
    return _logits(model, device, [pair])[:, _PROBE:]


def _logits(model: Any, device: Device, packs: list[Pack]) -> torch.Tensor:
    training = model.training
    model.eval()
    with torch.no_grad(), autocast(device):
        logits: torch.Tensor = forward(model, collate(packs, device.device)).logits
    model.train(training)
    return logits.float()
