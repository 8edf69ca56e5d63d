"""Attention of packed rows, each example by itself: no mask, and nothing is computed between two.

A block-diagonal mask hides what one example would see of another, but it is computed all the same:
the square of a row's tokens. Here examples of like length are put side by side instead and go
through the causal kernel of `scaled_dot_product_attention`, so that the cost is that of the
examples alone, and so that kernels which take no mask (FlashAttention) are chosen.

transformers asks whatever is registered under a config's `_attn_implementation` for masks and for
attention. Ours hands a layout through as if it were a mask where one is at hand, and is plain
`sdpa` everywhere else (evaluation of single rows, generation).
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

NAME = "sdpa_apart"
"""How transformers knows it; no file of a model gets to know."""

_LIKE = 0.75
"""Shares a call with the longest of it: an example of at least this part of its length."""

_SHORT = 32
"""Up to this many tokens a call costs more than the padding that it spares."""

_SAME = 1e-3
"""Largest relative difference of logits that rounding explains in 32 bit."""

_NOISE = 2
"""Times what masks change by rounding, in whatever is computed with."""

_ORDINARY = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
"""Kinds of layers, by transformers' names, whose masks say all of what a token sees. Others choose
among more tokens than a trial has."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """Where the examples of a packed batch stand, as indices into its tokens row by row."""

    rows: int
    width: int
    """Tokens of a row, with padding."""
    longest: int
    """Tokens of the longest example."""
    calls: tuple[torch.Tensor, ...]
    """Tokens of examples of like length, shape (examples, longest of them); an example's own last
    token fills up the shorter ones, behind all that see it."""
    back: torch.Tensor
    """Where each token of the batch stands in the results of the calls, one after the other;
    padding points at the first."""


_layout: ContextVar[Layout | None] = ContextVar("layout", default=None)


def layout_of(sizes: Sequence[Sequence[int]], device: torch.device) -> Layout:
    """The layout of rows that hold examples of these sizes, one after the other from the start."""
    width = max(map(sum, sizes))
    starts = [
        (size, row * width + int(at))
        for row, parts in enumerate(sizes)
        for size, at in zip(parts, np.cumsum([0, *parts[:-1]]), strict=True)
    ]
    calls = [_filled(members) for members in _alike(sorted(starts, reverse=True))]
    back = np.zeros(len(sizes) * width, dtype=np.int64)
    taken = np.concatenate([call.ravel() for call in calls])
    # The last of equal indices wins, and what fills up an example stands behind its last token.
    back[taken[::-1]] = np.arange(len(taken))[::-1]
    return Layout(
        len(sizes),
        width,
        max(size for size, _ in starts),
        tuple(torch.from_numpy(call).to(device) for call in calls),
        torch.from_numpy(back).to(device),
    )


def _alike(examples: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Examples (size, start), the longest first, in groups that are computed together."""
    group: list[tuple[int, int]] = []
    for example in examples:
        if group and example[0] < _LIKE * group[0][0] and group[0][0] > _SHORT:
            yield group
            group = []
        group.append(example)
    yield group


def _filled(examples: list[tuple[int, int]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    sizes, starts = (np.array(each)[:, None] for each in zip(*examples, strict=True))
    indices: np.ndarray[Any, np.dtype[np.int64]]
    indices = starts + np.minimum(np.arange(sizes.max()), sizes - 1)
    return indices


@contextmanager
def laid_out(layout: Layout | None) -> Iterator[None]:
    """Models that `compute_apart` has changed take this layout for what they compute in here."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def compute_apart(model: Any, packed: Callable[[], torch.Tensor], alone: torch.Tensor) -> bool:
    """Let a model compute packed examples apart, if it can; whether it does.

    `packed()` gives the logits of packed examples, `alone` has those of each by itself. The model
    keeps its masks where it comes closer to these with them, by more than rounding explains.
    """
    if not _by_masks_alone(model.config.get_text_config()):
        return False
    masked = packed()
    allowed = max(_SAME * float(masked.abs().max()), _NOISE * float((masked - alone).abs().max()))
    before = [(each, each._attn_implementation) for each in _configs(model.config)]  # noqa: SLF001
    without_masks(model)
    try:
        same = float((packed() - alone).abs().max()) <= allowed
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        log.debug("Packed examples are computed with masks: %s", error)
        same = False
    if not same:
        for config, name in before:
            config._attn_implementation_internal = name  # noqa: SLF001 - past those of its parts
    return same


def _by_masks_alone(config: Any) -> bool:
    return config._attn_implementation == "sdpa" and layer_kinds(config) <= _ORDINARY  # noqa: SLF001


def layer_kinds(config: Any) -> set[str]:
    """By transformers' names; none where a text model's configuration does not tell."""
    return set(getattr(config, "layer_types", None) or ())


def _configs(config: Any) -> Iterator[Any]:
    """A model's, and those of its parts."""
    yield config
    for name in config.sub_configs:
        if (part := getattr(config, name, None)) is not None:
            yield from _configs(part)


def without_masks(model: Any) -> None:
    """Register what this module has with transformers, and choose it for a model."""
    from transformers import AttentionInterface, AttentionMaskInterface  # noqa: PLC0415 - seconds

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, mask_of)
    model.set_attn_implementation(NAME)


def mask_of(*, local_size: int | None = None, **options: Any) -> Any:
    """The layout where it says all that a causal mask would say; else what `sdpa` has as mask."""
    from transformers.masking_utils import sdpa_mask  # noqa: PLC0415 - seconds

    layout = _layout.get()
    if layout is None or not _says_all(layout, local_size or math.inf, options):
        return sdpa_mask(local_size=local_size, **options)
    return layout


def _says_all(layout: Layout, sight: float, options: dict[str, Any]) -> bool:
    """Not of a window that an example is longer than, nor of masks with more than packing in them.

    `use_vmap` tells of a function that the architecture adds, `allow_is_bidirectional_skip` of
    attention that is not causal.
    """
    shape = (options["batch_size"], options["q_length"], options["kv_length"])
    return (
        shape == (layout.rows, layout.width, layout.width)
        and layout.longest <= sight
        and not options.get("use_vmap")
        and "allow_is_bidirectional_skip" not in options
    )


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any
) -> tuple[torch.Tensor, None]:
    """Attention of a layer, (batch, heads, tokens, size) to (batch, tokens, heads, size)."""
    from transformers.integrations.sdpa_attention import (  # noqa: PLC0415 - seconds
        sdpa_attention_forward,
    )

    if not isinstance(attention_mask, Layout):
        found = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return found[0], None
    seen = {(part.shape[0], part.shape[2]) for part in (query, key, value)}
    if seen != {(attention_mask.rows, attention_mask.width)}:
        raise ValueError(f"packed rows have become other tokens: {sorted(seen)}")
    flat = [part.transpose(1, 2).flatten(0, 1) for part in (query, key, value)]
    results = [
        sdpa_attention_forward(
            module, *(_picked(part, call) for part in flat), None, **options | {"is_causal": True}
        )[0].flatten(0, 1)
        for call in attention_mask.calls
    ]
    joined = torch.cat(results).index_select(0, attention_mask.back)
    return joined.view(attention_mask.rows, attention_mask.width, *joined.shape[1:]), None


def _picked(tokens: torch.Tensor, call: torch.Tensor) -> torch.Tensor:
    """Tokens (all, heads, size) as examples (examples, heads, longest, size)."""
    picked = tokens.index_select(0, call.flatten())
    return picked.view(*call.shape, *tokens.shape[1:]).transpose(1, 2)
