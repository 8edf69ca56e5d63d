"""What a model's configuration tells of it before any weight is read: its tokens and its places."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.artifacts.foreign_code import ask_nobody
from finetuning.base.errors import ModelError
from finetuning.base.model import load_error

_MOST_OFFSET = 4
"""Rows of a table before that of the first place, where a library has some."""

_BOUND = {"mpt": "max_seq_len"}
"""Models that compute a bias for so many places and no more, whatever they are given, by the
setting that tells how many; others with such a bias (BLOOM, Falcon) compute it for each batch."""


@dataclass(frozen=True)
class Outline:
    """The sizes that bound what a model can read."""

    tokens: int
    """Rows of the embeddings."""
    places: int | None = None
    """Tokens that a row can have: those of the table of positions, or of a bias that takes its
    place; None where positions are computed, and none is the last."""

    def longest(self, wish: int) -> int:
        """Tokens of an example at most, where `wish` are asked for."""
        return wish if self.places is None else min(wish, self.places)


def outline_of(folder: Path) -> Outline:
    """By the model itself without its weights, since no setting tells which models have a table.

    Raises:
        ModelError: no causal model of a known architecture.
    """
    import torch  # noqa: PLC0415 - arguments are checked before torch is loaded
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415 - loads torch

    ask_nobody()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        embeddings = model.get_input_embeddings().weight
    except Exception as error:
        raise load_error(folder, error) from error
    return Outline(len(embeddings), min([*_tables(model), *_bias(model)], default=None))


def _bias(model: Any) -> Iterator[int]:
    config = model.config.get_text_config()
    if config.model_type in _BOUND:
        yield int(getattr(config, _BOUND[config.model_type]))


def _tables(model: Any) -> Iterator[int]:
    """Usable rows of each table of positions, learnt or not; not those of pictures and sounds."""
    known = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(known, int):
        return
    for name, rows, offset in _named_tables(model):
        leaf = name.rsplit(".", maxsplit=1)[-1]
        if ("pos" in leaf or leaf == "wpe") and known <= rows <= known + _MOST_OFFSET:
            yield min(known, rows - offset)


def _named_tables(model: Any) -> Iterator[tuple[str, int, int]]:
    """Name, rows, and the row of the first place, of whatever may be such a table."""
    import torch  # noqa: PLC0415 - loaded with the model

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding):
            # RoBERTa and its like count places from after the padding's.
            padded = 0 if module.padding_idx is None else module.padding_idx + 1
            yield name, module.num_embeddings, int(getattr(module, "offset", 0)) or padded
    for name, buffer in model.named_buffers():
        if buffer.ndim == 2:  # noqa: PLR2004 - a matrix
            yield name, len(buffer), 0


def refuse_unknown(model: str, tokenizer: Any, outline: Outline, highest: int) -> None:
    """Raises ModelError where the rows have a token that the model has no embedding for."""
    if highest < outline.tokens:
        return
    token = tokenizer.convert_ids_to_tokens(highest)
    raise ModelError(
        f"{model}: its tokenizer makes the token {highest} ({token!r}) of the rows, and it has "
        f"embeddings of {outline.tokens} tokens; give it its own tokenizer again, or more "
        "embeddings with resize_token_embeddings and save_pretrained of transformers"
    )
