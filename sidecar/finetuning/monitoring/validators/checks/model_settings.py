"""Whether a whole model computes and answers by the settings of its base.

Both are read by the same classes of one version of the library: what two versions write in other
words, or leave out where it is the default, is the same to them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finetuning.artifacts import GENERATION_CONFIG

_FREE = frozenset({
    "_attn_implementation", "_from_model_config", "_name_or_path", "_output_attentions",
    "architectures", "attention_dropout", "attn_implementation", "attn_pdrop", "auto_map",
    "bos_token_id", "chunk_size_feed_forward", "dtype", "embd_pdrop", "eos_token_id", "id2label",
    "initializer_range", "is_encoder_decoder", "label2id", "output_attentions",
    "output_hidden_states", "output_router_logits", "pad_token_id", "pretraining_tp",
    "problem_type", "quantization_config", "resid_pdrop", "return_dict", "router_aux_loss_coef",
    "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache",
})  # fmt: skip
"""Of a config.json, what changes nothing that a loaded model computes, or what others look at: the
generation's settings say where an answer ends, and tied matrices are compared as weights."""

_FREE_IN_GENERATION = frozenset({
    "_from_model_config", "bos_token_id", "output_attentions", "output_hidden_states",
    "output_logits", "output_scores", "pad_token_id", "return_dict_in_generate",
    "transformers_version", "use_cache",
})  # fmt: skip
_UNSAID: Mapping[str, Any] = {
    "diversity_penalty": 0.0, "do_sample": False, "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0, "encoder_repetition_penalty": 1.0, "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0, "length_penalty": 1.0, "max_length": 20, "min_length": 0,
    "no_repeat_ngram_size": 0, "num_beam_groups": 1, "num_beams": 1, "num_return_sequences": 1,
    "remove_invalid_values": False, "renormalize_logits": False, "repetition_penalty": 1.0,
    "temperature": 1.0, "top_k": 50, "top_p": 1.0, "typical_p": 1.0,
}  # fmt: skip
"""What holds where nothing is said, by transformers' documentation of GenerationConfig: version 4
wrote only what differs from it."""

_ENDS = "eos_token_id"
"""One token, or several in any order."""

_SHOWN = 40


def computes_otherwise(own: str, base: str, of_the_base: Mapping[str, Any]) -> str:
    """The first setting of config.json in which the models differ, with both values; else empty.

    A model of texts may be part of a larger base.
    """
    mine, theirs = _computing(own, _HERE), _computing(base, of_the_base)
    return _difference(mine, theirs, _FREE)


def generates_otherwise(own: str, base: str, of_the_base: Mapping[str, Any]) -> str:
    """The same of how an answer is made: by generation_config.json, or what stands for it."""
    mine, theirs = _generation(own, _HERE), _generation(base, of_the_base)
    return _difference(mine, theirs, _FREE_IN_GENERATION)


_HERE = {"local_files_only": True, "trust_remote_code": False}


def _computing(path: str, where: Mapping[str, Any]) -> dict[str, Any]:
    """What its architecture knows: tools leave notes of their own there, which nothing reads."""
    from transformers import AutoConfig  # noqa: PLC0415 - in the process that loads the model

    found = AutoConfig.from_pretrained(path, **where).get_text_config()
    known = type(found)().to_dict()
    return {key: value for key, value in found.to_dict().items() if key in known}


def _generation(path: str, where: Mapping[str, Any]) -> dict[str, Any]:
    """A model without the file answers by what its config.json says."""
    from transformers import AutoConfig, GenerationConfig  # noqa: PLC0415 - see above

    files = {key: value for key, value in where.items() if key != "trust_remote_code"}
    try:
        found = GenerationConfig.from_pretrained(path, **files)
    except OSError:
        if (Path(path) / GENERATION_CONFIG).is_file():
            raise
        found = GenerationConfig.from_model_config(AutoConfig.from_pretrained(path, **where))
    told = {key: value for key, value in found.to_dict().items() if value is not None}
    ends = told.get(_ENDS, [])
    several = ends if isinstance(ends, list) else [ends]
    return {**_UNSAID, **told, _ENDS: sorted(set(several))}


def _difference(own: dict[str, Any], base: dict[str, Any], free: frozenset[str]) -> str:
    mine, theirs = (dict(_flat({k: v for k, v in each.items() if k not in free}))
                    for each in (own, base))  # fmt: skip
    for key in sorted(mine.keys() | theirs.keys()):
        if mine.get(key) != theirs.get(key):
            return f"{key} is {_shown(mine.get(key))}, not {_shown(theirs.get(key))}"
    return ""


def _flat(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted paths to the values; what is null is as if it were not there."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        elif value is not None:
            yield f"{path}{key}", value


def _shown(value: Any) -> str:
    text = repr(value)
    return "unset" if value is None else text[:_SHOWN] + ("…" if len(text) > _SHOWN else "")
