"""Shapes of models that are often tuned, so that a job can be judged by its model's name alone.

From the config.json that their makers publish: hidden_size, intermediate_size, layers, attention
heads, key-value heads, vocab_size, and what differs from the usual. Tests compare the parameters
that follow with the published numbers.
"""

from typing import Any

from finetuning.estimate.shape import Shape, from_config

_TIED = {"tie_word_embeddings": True}
_HEAD_128 = {"head_dim": 128}
_NO_WINDOW = {"sliding_window": None}

_LLAMA: dict[str, tuple[int, int, int, int, int, int, dict[str, Any]]] = {
    "meta-llama/Llama-2-7b": (4096, 11008, 32, 32, 32, 32000, {}),
    "meta-llama/Llama-2-13b": (5120, 13824, 40, 40, 40, 32000, {}),
    "meta-llama/Llama-2-70b": (8192, 28672, 80, 64, 8, 32000, {}),
    "meta-llama/Meta-Llama-3-8B": (4096, 14336, 32, 32, 8, 128256, {}),
    "meta-llama/Meta-Llama-3-70B": (8192, 28672, 80, 64, 8, 128256, {}),
    "meta-llama/Llama-3.1-8B": (4096, 14336, 32, 32, 8, 128256, {}),
    "meta-llama/Llama-3.1-70B": (8192, 28672, 80, 64, 8, 128256, {}),
    "meta-llama/Llama-3.1-405B": (16384, 53248, 126, 128, 8, 128256, {}),
    "meta-llama/Llama-3.2-1B": (2048, 8192, 16, 32, 8, 128256, _TIED),
    "meta-llama/Llama-3.2-3B": (3072, 8192, 28, 24, 8, 128256, _TIED),
    "meta-llama/Llama-3.3-70B": (8192, 28672, 80, 64, 8, 128256, {}),
    "HuggingFaceTB/SmolLM2-135M": (576, 1536, 30, 9, 3, 49152, _TIED),
    "HuggingFaceTB/SmolLM2-360M": (960, 2560, 32, 15, 5, 49152, _TIED),
    "HuggingFaceTB/SmolLM2-1.7B": (2048, 8192, 24, 32, 32, 49152, _TIED),
}
_MISTRAL: dict[str, tuple[int, int, int, int, int, int, dict[str, Any]]] = {
    "mistralai/Mistral-7B-v0.1": (4096, 14336, 32, 32, 8, 32000, {}),
    "mistralai/Mistral-7B-Instruct-v0.2": (4096, 14336, 32, 32, 8, 32000, _NO_WINDOW),
    "mistralai/Mistral-7B-v0.3": (4096, 14336, 32, 32, 8, 32768, _NO_WINDOW),
    "mistralai/Mistral-7B-Instruct-v0.3": (4096, 14336, 32, 32, 8, 32768, _NO_WINDOW),
}
_QWEN2: dict[str, tuple[int, int, int, int, int, int, dict[str, Any]]] = {
    "Qwen/Qwen2.5-0.5B": (896, 4864, 24, 14, 2, 151936, _TIED),
    "Qwen/Qwen2.5-1.5B": (1536, 8960, 28, 12, 2, 151936, _TIED),
    "Qwen/Qwen2.5-3B": (2048, 11008, 36, 16, 2, 151936, _TIED),
    "Qwen/Qwen2.5-7B": (3584, 18944, 28, 28, 4, 152064, {}),
    "Qwen/Qwen2.5-14B": (5120, 13824, 48, 40, 8, 152064, {}),
    "Qwen/Qwen2.5-32B": (5120, 27648, 64, 40, 8, 152064, {}),
    "Qwen/Qwen2.5-72B": (8192, 29568, 80, 64, 8, 152064, {}),
}
_QWEN3: dict[str, tuple[int, int, int, int, int, int, dict[str, Any]]] = {
    "Qwen/Qwen3-0.6B": (1024, 3072, 28, 16, 8, 151936, _TIED | _HEAD_128),
    "Qwen/Qwen3-1.7B": (2048, 6144, 28, 16, 8, 151936, _TIED | _HEAD_128),
    "Qwen/Qwen3-4B": (2560, 9728, 36, 32, 8, 151936, _TIED | _HEAD_128),
    "Qwen/Qwen3-8B": (4096, 12288, 36, 32, 8, 151936, _HEAD_128),
    "Qwen/Qwen3-14B": (5120, 17408, 40, 40, 8, 151936, _HEAD_128),
    "Qwen/Qwen3-32B": (5120, 25600, 64, 64, 8, 151936, _HEAD_128),
}
_FAMILIES = {"llama": _LLAMA, "mistral": _MISTRAL, "qwen2": _QWEN2, "qwen3": _QWEN3}
_POSITIONS: dict[str, int] = {
    "HuggingFaceTB/SmolLM2-": 8192,
    "Qwen/Qwen2.5-": 32768,
    "Qwen/Qwen3-": 40960,
    "meta-llama/Llama-2-": 4096,
    "meta-llama/Llama-3.": 131_072,
    "meta-llama/Meta-Llama-3-": 8192,
    "mistralai/Mistral-7B-": 32768,
}
"""max_position_embeddings by the beginning of a model's name."""

_OTHER_POSITIONS: dict[str, int] = {
    **dict.fromkeys((f"Qwen/Qwen2.5-{size}B" for size in (7, 14, 32, 72)), 131_072),
    **dict.fromkeys((f"Qwen/Qwen3-{size}B-Base" for size in ("0.6", 1.7, 4, 8, 14)), 32768),
}
"""By the whole name, where it is not as that."""

_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
_VARIANTS = ("-Instruct", "-instruct", "-chat-hf", "-chat", "-hf", "-Base")
"""Endings of the same shape trained for something else."""


def shape_of(model_id: str) -> Shape | None:
    """The shape of a model by its Hub id; None when it is not among those known here."""
    names = {model_id, *(model_id.removesuffix(ending) for ending in _VARIANTS)}
    for kind, models in _FAMILIES.items():
        for name in names & models.keys():
            *sizes, rest = models[name]
            told = dict(zip(_KEYS, sizes, strict=True)) | rest
            positions = {"max_position_embeddings": _positions(model_id)}
            return from_config({"model_type": kind, **told, **positions})
    return None


def _positions(model_id: str) -> int:
    begin = next(each for each in _POSITIONS if model_id.startswith(each))
    return _OTHER_POSITIONS.get(model_id, _POSITIONS[begin])


def names() -> list[str]:
    return sorted(name for models in _FAMILIES.values() for name in models)
