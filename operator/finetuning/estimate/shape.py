"""The shape of a decoder-only transformer: what its memory follows from.

From the config.json of a model, or from the headers of its safetensors, which leave nothing to
defaults. Architectures of the Llama kind: attention and a gated MLP, each behind an RMS norm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import TypeIs

_ATTENTION_IN, _ATTENTION_OUT, _MLP_IN, _MLP_OUT = "attention", "output", "mlp", "down"

_FUSED = {"phi3"}
_FUSED_QKV = "qkv_proj"
_QKV_BIAS = {"qwen2"}
_HEAD_NORMS = {"qwen3"}
_TIED = {"gemma"}
_WINDOWS = {"mistral": 4096}
"""Where a config.json does not tell; null says that there is none."""
_WINDOW_IF_USED = {"qwen2", "qwen3"}
"""Their configs name one that most do not use."""
MODEL_TYPES = ("gemma", "granite", "llama", "mistral", "phi3", "qwen2", "qwen3")
_REQUIRED = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)
LARGEST = 1 << 24
"""Of any dimension; what is beyond is a damaged or hostile file."""


class UnknownShapeError(ValueError):
    """The shape cannot be told, and why."""


@dataclass(frozen=True)
class Linear:
    """A linear layer, and what it reads: layers with the same input save it once in 32 bit."""

    name: str
    fan_in: int
    fan_out: int
    reads: str

    @property
    def parameters(self) -> int:
        return self.fan_in * self.fan_out


@dataclass(frozen=True)
class Shape:
    """Widths in elements; `small` are the parameters of norms and biases."""

    hidden: int
    layers: int
    heads: int
    queries: int
    keys: int
    intermediate: int
    vocabulary: int
    tied: bool
    small: int
    linears: tuple[Linear, ...]
    """Of one layer."""
    head_norms: bool = False
    """Whether queries and keys have a norm of their own."""
    positions: int | None = None
    """Tokens in a row that the model was made for; None where its config.json does not tell."""
    window: int | None = None
    """Tokens that a layer sees at most, where that is fewer than there are."""

    @property
    def fused(self) -> bool:
        """Whether queries, keys and values come out of one linear layer, as one tensor."""
        return any(each.name == _FUSED_QKV for each in self.linears)

    @property
    def in_linears(self) -> int:
        """Parameters of all layers' linear layers, which are what qlora stores in 4 bit."""
        return self.layers * sum(each.parameters for each in self.linears)

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def head(self) -> int:
        """Of its own; 0 where it is the embedding."""
        return 0 if self.tied else self.embedding

    @property
    def parameters(self) -> int:
        return self.in_linears + self.embedding + self.head + self.small


def from_config(config: Mapping[str, Any]) -> Shape:
    """Read a config.json; raises UnknownShapeError."""
    kind = config.get("model_type")
    if kind not in MODEL_TYPES:
        raise UnknownShapeError(
            f"model_type {kind!r} is not one whose memory is known here: {', '.join(MODEL_TYPES)}"
        )
    hidden, intermediate, heads, layers, vocabulary = (_number(config, key) for key in _REQUIRED)
    size = _number(config, "head_dim", hidden // heads)
    queries = heads * size
    keys = _number(config, "num_key_value_heads", heads) * size
    tied = config.get("tie_word_embeddings", kind in _TIED)
    positions = config.get("max_position_embeddings")
    linears = _linears(hidden, queries, keys, intermediate, fused=kind in _FUSED)
    return Shape(
        hidden=hidden,
        layers=layers,
        heads=heads,
        queries=queries,
        keys=keys,
        intermediate=intermediate,
        vocabulary=vocabulary,
        tied=bool(tied),
        small=layers * (2 * hidden + _extras(config, linears, size)) + hidden,
        linears=linears,
        head_norms=kind in _HEAD_NORMS,
        positions=positions if _is_size(positions) else None,
        window=_window(config),
    )


def _window(config: Mapping[str, Any]) -> int | None:
    kind = config["model_type"]
    used = kind not in _WINDOW_IF_USED or config.get("use_sliding_window")
    window = config.get("sliding_window", _WINDOWS.get(kind))
    return window if used and _is_size(window) else None


def _extras(config: Mapping[str, Any], linears: tuple[Linear, ...], head_size: int) -> int:
    """Biases, and norms on queries and keys, of one layer."""
    kind = config["model_type"]
    with_bias: tuple[str, ...] = ()
    if kind in _QKV_BIAS:
        with_bias = ("q_proj", "k_proj", "v_proj")
    elif config.get("attention_bias"):
        with_bias = ("q_proj", "k_proj", "v_proj", "o_proj")
    if config.get("mlp_bias"):
        with_bias += ("gate_proj", "up_proj", "down_proj")
    biases = sum(each.fan_out for each in linears if each.name in with_bias)
    return biases + (2 * head_size if kind in _HEAD_NORMS else 0)


def _linears(h: int, q: int, kv: int, i: int, *, fused: bool) -> tuple[Linear, ...]:
    into = (
        [(_FUSED_QKV, h, q + 2 * kv, _ATTENTION_IN), ("gate_up_proj", h, 2 * i, _MLP_IN)]
        if fused
        else [
            ("q_proj", h, q, _ATTENTION_IN),
            ("k_proj", h, kv, _ATTENTION_IN),
            ("v_proj", h, kv, _ATTENTION_IN),
            ("gate_proj", h, i, _MLP_IN),
            ("up_proj", h, i, _MLP_IN),
        ]
    )
    out = [("o_proj", q, h, _ATTENTION_OUT), ("down_proj", i, h, _MLP_OUT)]
    return tuple(Linear(*each) for each in (*into, *out))


def _number(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    value = default if value is None else value
    if value is None:
        raise UnknownShapeError(f"config.json has no {key}")
    if not _is_size(value):
        raise UnknownShapeError(f"config.json: {key} is {value!r}, and no whole number above 0")
    return value


def _is_size(value: object) -> TypeIs[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST


def from_tensors(config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> Shape:
    """The same with what the weights themselves say, since a config.json omits its defaults."""
    told = dict(config)
    told |= {key: value for key, value in _read_off(config, tensors).items() if value is not None}
    shape = from_config(told)
    total = sum(_size(dimensions) for dimensions in tensors.values())
    return Shape(**{**vars(shape), "small": shape.small + total - shape.parameters})


def _read_off(
    config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]
) -> dict[str, int | bool | None]:
    by_leaf = {name.removesuffix(".weight").rsplit(".", 1)[-1]: at for name, at in tensors.items()}
    embedding = by_leaf.get("embed_tokens", ())
    layers = {name.split(".layers.")[1].split(".")[0] for name in tensors if ".layers." in name}
    keys = by_leaf.get("k_proj", ())
    size = config.get("head_dim")
    if size is None and "q_proj" in by_leaf and isinstance(config.get("num_attention_heads"), int):
        size = by_leaf["q_proj"][0] // config["num_attention_heads"]
    return {
        "vocab_size": embedding[0] if embedding else None,
        "hidden_size": embedding[1] if embedding else None,
        "num_hidden_layers": len(layers) or None,
        "intermediate_size": by_leaf["down_proj"][1] if "down_proj" in by_leaf else None,
        "head_dim": size,
        "num_key_value_heads": keys[0] // size if keys and size else None,
        "tie_word_embeddings": "lm_head" not in by_leaf,
    }


def _size(dimensions: tuple[int, ...]) -> int:
    total = 1
    for each in dimensions:
        total *= each
    return total
