"""Whether tensors have the shapes that the configuration, the rank or the base model ask for."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from finetuning.artifacts import ADAPTER_CONFIG
from finetuning.artifacts.trainer_state import OPTIMIZER
from finetuning.monitoring.validators.checks.tree import Tree
from finetuning.monitoring.validators.checks.weights import Tensor
from finetuning.monitoring.validators.outcome import Finding

DENSE_MODELS = frozenset(
    {"gemma", "gemma2", "granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3"}
)
"""Architectures whose layers are all alike and named as below; no other is judged by its shapes."""

_FIRST, _SECOND = ".lora_A.weight", ".lora_B.weight"
_PEFT_PREFIX = "base_model.model."
_LAYER = re.compile(r"^(.*\blayers)\.(\d+)\.(.+)$")
_TIED = ("lm_head", "embed_tokens")
_WRAPPERS = re.compile(r"(\.modules_to_save)?\.default(?=\.|$)")
"""What peft puts into the names of parameters, and leaves out in files."""

_MOMENTS = (".exp_avg", ".exp_avg_sq")

Shape = tuple[int, ...]
Pairs = dict[str, tuple[Tensor | None, Tensor | None]]


def ranks_differ(tree: Tree) -> Finding | None:
    """Every first matrix has its second, and both the rank of the configuration."""
    config = tree.document(ADAPTER_CONFIG).fields
    if not tree.is_adapter or config.get("peft_type", "LORA") != "LORA":
        return None
    if config.get("target_parameters"):  # Stacked experts share one matrix.
        return None
    problem = _rank_problem(adapter_pairs(tree), _ranks(config))
    return Finding("RankMismatch", problem) if problem else None


def adapter_pairs(tree: Tree) -> Pairs:
    """First and second matrix of every adapted layer, by the layer's name in the file."""
    stems = {
        name.removesuffix(end) for name in tree.weights for end in (_FIRST, _SECOND)
        if name.endswith(end)
    }  # fmt: skip
    return {
        stem: (tree.weights.get(stem + _FIRST), tree.weights.get(stem + _SECOND))
        for stem in sorted(stems)
    }


def _ranks(config: Mapping[str, Any]) -> list[Any]:
    pattern = config.get("rank_pattern")
    return [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]


def _rank_problem(pairs: Pairs, allowed: list[Any]) -> str:
    if not pairs:
        return "the adapter's weights hold no lora_A and lora_B"
    for stem, (first, second) in pairs.items():
        if first is None or second is None:
            return f"{stem} has only one of its two matrices"
        rank = first.shape[0] if first.shape else None
        if second.shape[1:2] != (rank,) or rank not in allowed:
            told = ", ".join(str(known) for known in allowed)
            shapes = f"{list(first.shape)} and {list(second.shape)}"
            return f"{stem} has matrices of {shapes}, the configured rank is {told}"
    return ""


def shapes_differ(tree: Tree) -> Finding | None:
    """A whole model of a known architecture against its config.json."""
    config = tree.document("config.json").fields
    if tree.is_adapter or not is_dense(tree):
        return None
    if config.get("quantization_config"):  # Packed weights have other shapes.
        return None
    problem = _layer_problem(tree.weights, config) or _shape_problem(tree.weights, config)
    return Finding("ShapeMismatch", problem) if problem else None


def is_dense(tree: Tree) -> bool:
    return str(tree.document("config.json").fields.get("model_type")) in DENSE_MODELS


def _layer_problem(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    """All layers that are planned, each with the same tensors."""
    layers: dict[int, set[str]] = {}
    for name in weights:
        if match := _LAYER.match(name):
            layers.setdefault(int(match[2]), set()).add(match[3])
    wanted = config.get("num_hidden_layers")
    # No range of that many: the number is the file's word.
    there = len(layers) if sorted(layers) == list(range(len(layers))) else -1
    if isinstance(wanted, int) and there != wanted:
        return f"there are weights of {len(layers)} layers, config.json has {wanted}"
    every = set().union(*layers.values()) if layers else set()
    lacking = [(n, min(every - names)) for n, names in sorted(layers.items()) if every - names]
    return f"layer {lacking[0][0]} has no {lacking[0][1]}" if lacking else ""


def _shape_problem(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    wanted = _wanted_shapes(config)
    for name, tensor in weights.items():
        shape = wanted.get(_module_of(name)) if name.endswith(".weight") else None
        if shape is not None and tensor.shape != shape:
            return f"{name} is {list(tensor.shape)}, by config.json it is {list(shape)}"
    return ""


def _wanted_shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
    """By the last part of a tensor's name; empty where the sizes are not all told."""
    hidden, inner = _size(config, "hidden_size"), _size(config, "intermediate_size")
    heads, vocabulary = _size(config, "num_attention_heads"), _size(config, "vocab_size")
    if not (hidden and inner and heads and vocabulary):
        return {}
    width = _size(config, "head_dim") or hidden // heads
    queries, pairs = heads * width, (_size(config, "num_key_value_heads") or heads) * width
    return {
        "embed_tokens": (vocabulary, hidden),
        "lm_head": (vocabulary, hidden),
        "q_proj": (queries, hidden),
        "k_proj": (pairs, hidden),
        "v_proj": (pairs, hidden),
        "o_proj": (hidden, queries),
        "gate_proj": (inner, hidden),
        "up_proj": (inner, hidden),
        "down_proj": (hidden, inner),
    }


def _size(config: Mapping[str, Any], name: str) -> int:
    """0 where it is not told."""
    value = config.get(name)
    return value if isinstance(value, int) else 0


def optimizer_differs(tree: Tree) -> Finding | None:
    """AdamW keeps two moments of the shape of each weight that it changes."""
    if OPTIMIZER not in tree.headers:
        return None
    known = set()
    for tensor in tree.headers[OPTIMIZER].tensors:
        name, moment = moment_of(tensor.name)
        if name not in tree.weights:  # peft writes the magnitudes of DoRA without this end.
            name = name.removesuffix(".weight")
        weight = tree.weights.get(name)
        if weight and moment and weight.shape != tensor.shape:
            text = f"{tensor.name} is {list(tensor.shape)}, its weight {list(weight.shape)}"
            return Finding("OptimizerMismatch", text)
        known |= {name} if moment else set()
    lacking = sorted(set(tree.weights) - known - _tied_to(known, tree.weights))
    lacking = [name for name in lacking if not _was_never_used(tree, name, known)]
    # Experts that no row has reached have no moments.
    if not lacking or (len(known) > 0 and not (tree.is_adapter or is_dense(tree))):
        return None
    return Finding("OptimizerMismatch", f"the optimizer has no state of {lacking[0]}")


def _was_never_used(tree: Tree, name: str, known: set[str]) -> bool:
    """An adapted layer whose weight its module takes without calling it, as Mamba does some."""
    layer, is_adapted, _ = name.rpartition(".lora_")
    if not is_adapted:
        return False
    second = next((each for each in tree.weights if each.startswith(f"{layer}.lora_B")), "")
    return second not in known and second in tree.zero


def _tied_to(known: set[str], weights: Mapping[str, Tensor]) -> set[str]:
    """A head that is the embeddings is in an adapter's file twice, and in the optimizer once."""
    twins = {name for name in weights if _module_of(name) in _TIED}
    shapes = {weights[name].shape for name in twins & known}
    return {name for name in twins if weights[name].shape in shapes}


def _module_of(name: str) -> str:
    return name.removesuffix(".weight").rsplit(".", maxsplit=1)[-1]


def moment_of(name: str) -> tuple[str, bool]:
    """The weight that a tensor of the optimizer is about, and whether it has the weight's shape."""
    parameter, _, key = name.rpartition(".")
    return _WRAPPERS.sub("", parameter), f".{key}" in _MOMENTS


def base_problem(adapter: Tree, base: Mapping[str, Tensor]) -> str:
    """Why the adapter cannot have been made for this base model; empty where it may have been.

    A base model whose tensors have other names altogether is not judged: libraries rename them.
    """
    layers = list(_adapted_layers(adapter))
    if not any(f"{name}.weight" in base for name, _ in layers):
        return ""
    config = adapter.document(ADAPTER_CONFIG).fields
    if config.get("target_parameters"):
        layers = [layer for layer in layers if not _are_stacked(layer[0], base)]
    swapped = bool(config.get("fan_in_fan_out"))
    # In 4 bits GPT-2's layers are stored as any other's are, and their adapter says so.
    ways = [True] if swapped else [False, True]
    problems = [_misfit(layers, base, swapped=way) for way in ways]
    return problems[0] if all(problems) else ""


def _are_stacked(name: str, base: Mapping[str, Tensor]) -> bool:
    """Experts in one parameter each, or as many layers in the files: no weight has their name.

    Of a module with two such parameters the second one's matrices lie one level deeper.
    """
    module = name.removesuffix(".base_layer")
    return f"{name}.weight" not in base and any(each.startswith(f"{module}.") for each in base)


def _misfit(
    layers: Iterable[tuple[str, Shape]], base: Mapping[str, Tensor], *, swapped: bool
) -> str:
    """The first layer that the base model lacks, or has in another size; all lie the same way."""
    for name, wanted in layers:
        weight = base.get(f"{name}.weight")
        if weight is None and _module_of(name) not in _TIED:
            return f"the base model has no {name}"
        if weight is not None and weight.dtype not in ("U8", "I8"):
            shape = weight.shape[::-1] if swapped else weight.shape
            if shape != wanted:
                return f"{name} is {list(shape)} in the base model, the adapter's {list(wanted)}"
    return ""


def _adapted_layers(adapter: Tree) -> Iterator[tuple[str, Shape]]:
    """The layer's name in the base model, and the shape that its weight must have there."""
    for stem, (first, second) in adapter_pairs(adapter).items():
        if first and second and len(first.shape) == len(second.shape) == 2:  # noqa: PLR2004
            yield stem.removeprefix(_PEFT_PREFIX), (second.shape[0], first.shape[1])
