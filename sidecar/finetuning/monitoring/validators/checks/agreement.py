"""Whether the files of a run agree: with each other, with the run's description, with the base."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetuning.artifacts import ADAPTER_CONFIG, MODEL_DIR_FILES
from finetuning.artifacts.base_weights import BaseWeights
from finetuning.monitoring.validators.checks import shapes
from finetuning.monitoring.validators.checks.run import Run
from finetuning.monitoring.validators.checks.same_weights import are_those_of
from finetuning.monitoring.validators.checks.tokenizer import (
    template_is_another,
    template_is_missing,
    template_was_changed,
    tokenizer_is_another,
    tokenizer_was_changed,
)
from finetuning.monitoring.validators.checks.tree import Tree, step_of
from finetuning.monitoring.validators.checks.weights import Tensor, dead_layers
from finetuning.monitoring.validators.outcome import Finding, Rule

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npy", ".npz")
_PICKLED = re.compile(rb"\x80[\x02-\x05]|PK\x03\x04|\x93NUMPY")
_COMPUTES = frozenset({
    "attention_bias", "attn_logit_softcapping", "final_logit_softcapping", "head_dim", "hidden_act",
    "hidden_size", "intermediate_size", "layer_norm_eps", "max_position_embeddings", "mlp_bias",
    "num_attention_heads", "num_experts", "num_experts_per_tok", "num_hidden_layers",
    "num_key_value_heads", "num_local_experts", "query_pre_attn_scalar", "rms_norm_eps",
    "rope_theta", "tie_word_embeddings",
})  # fmt: skip
"""Settings of a config.json by which the same weights would compute something else.

Not all that differs is damage: libraries write what another version wrote in a form of their own.
"""

_FREE = frozenset({
    "_name_or_path", "architectures", "dtype", "quantization_config", "torch_dtype",
    "transformers_version", "use_cache",
})  # fmt: skip
"""What rounding or quantising the result afterwards changes."""

_GELU = "gelu"
"""Libraries put one approximation of it for another."""

_ROUNDED = frozenset(
    {("F32", "BF16"), ("F32", "F16"), *((each, each) for each in ("F32", "BF16", "F16"))}
)
"""Types of a tensor in the checkpoint and in the result, where the one can be made of the other."""

_ADAPTER_SETTINGS = ("lora_alpha", "use_rslora", "use_dora")
_NAME_CODE = ("attn_implementation", "_attn_implementation")


def method_is_another(run: Run) -> Finding | None:
    """An adapter that was merged into its base is a whole model, whatever the method was."""
    if run.method != "full" or not run.result.is_adapter:
        return None
    return Finding("MethodMismatch", "the run was of method full, the result is an adapter")


def rank_is_another(run: Run) -> Finding | None:
    told = run.training_config.get("lora_rank")
    found = run.result.document(ADAPTER_CONFIG).fields.get("r")
    if told is None or found is None or told == found:
        return None
    return Finding("RankMismatch", f"the run was of rank {told}, the adapter is of rank {found}")


def base_is_another(run: Run) -> Finding | None:
    named = run.result.document(ADAPTER_CONFIG).fields.get("base_model_name_or_path")
    told = [run.training_config.get("model_id"), run.settings.model_id]
    told += [run.info.model_id] if run.info else []
    known = [name for name in told if isinstance(name, str)]
    if isinstance(named, str) and known and named not in known:
        return Finding("BaseMismatch", f"the adapter is of {named}, the run was of {known[0]}")
    if not run.result.is_adapter:
        return None
    problem = shapes.base_problem(run.result, run.base_weights) or _other_weights(run)
    return Finding("BaseMismatch", problem) if problem else None


def _other_weights(run: Run) -> str:
    """Of the same shape, but not those that the trainer has read."""
    told = run.info.base_weights if run.info else None
    if told is None or run.base is None or not told.is_another(BaseWeights.of(run.base.root)):
        return ""
    return "the base model's weights are not those that the run began with"


def settings_are_others(run: Run) -> Finding | None:
    """How the weights are computed with: a change there needs no change of a weight."""
    own = run.result.document(ADAPTER_CONFIG).fields
    for name in _ADAPTER_SETTINGS if run.result.is_adapter else ():
        told, found = run.training_config.get(name), own.get(name)
        if told is not None and found is not None and told != found:
            text = f"{ADAPTER_CONFIG}: {name} is {found!r}, the run had {told!r}"
            return Finding("ConfigMismatch", text)
    if run.kept and (problem := _settings_problem(run, run.kept)):
        return Finding("ConfigMismatch", f"{problem} is not as in {run.kept.root.name}")
    at = "" if run.result.is_adapter or run.base is None else _other_computing(run.result, run.base)
    text = f"config.json: {at} is not as in the base model"
    return Finding("ConfigMismatch", text) if at else None


def _settings_problem(run: Run, kept: Tree) -> str:
    """Both were written by one library, so that everything that both have must be the same.

    What the trainer itself wrote has lost nothing, either.
    """
    own = run.result
    for name in MODEL_DIR_FILES:
        if name not in own.files or name not in kept.files:
            continue
        mine, theirs = (
            {key: value for key, value in tree.document(name).fields.items() if key not in _FREE}
            for tree in (own, kept)
        )
        lost = sorted(theirs.keys() - mine.keys()) if run.is_as_trained else []
        if at := _difference(mine, theirs) or next(iter(lost), ""):
            return f"{name}: {at}"
    return ""


def _other_computing(own: Tree, base: Tree) -> str:
    mine, theirs = (_computing(tree.document("config.json").fields) for tree in (own, base))
    return next((key for key in sorted(mine) if _differ(mine[key], theirs.get(key))), "")


def _computing(config: dict[str, Any]) -> dict[str, Any]:
    """Newer libraries keep the base of the rotation in an object."""
    inner = config.get("rope_parameters")
    theta = inner.get("rope_theta") if isinstance(inner, dict) else None
    known = {key: value for key, value in config.items() if key in _COMPUTES}
    return known if theta is None else {**known, "rope_theta": theta}


def _differ(mine: Any, theirs: Any) -> bool:
    """Nothing told is nothing to compare."""
    if mine is None or theirs is None or mine == theirs:
        return False
    return not (str(mine).startswith(_GELU) and str(theirs).startswith(_GELU))


def _difference(own: dict[str, Any], other: dict[str, Any]) -> str:
    """Dotted path to the first value that both have, and that differs; empty without one.

    Versions of the libraries add keys and leave them out; objects without a common one differ.
    """
    for key in sorted(own.keys() & other.keys()):
        mine, theirs = own[key], other[key]
        nested = isinstance(mine, dict) and isinstance(theirs, dict) and mine.keys() & theirs.keys()
        if nested and (inner := _difference(mine, theirs)):
            return f"{key}.{inner}"
        if not nested and mine != theirs:
            return str(key)
    return ""


def result_is_another(run: Run) -> Finding | None:
    """The checkpoint of the step whose weights were kept is the result, written twice."""
    kept = run.kept
    if kept is None:
        return None
    if _rounded(run.result.weights, kept.weights):
        text = f"the result's weights are not those of {kept.root.name}, rounded, which was kept"
        same = are_those_of(run.result, kept)
        return None if same else Finding("ResultMismatch", text)
    if run.result.is_adapter and kept.weights.keys() != run.result.weights.keys():
        text = f"the adapter's tensors have other names than those of {kept.root.name}"
        return Finding("ResultMismatch", f"{text}, which was kept")
    if _forms(kept.weights) != _forms(run.result.weights):
        return None
    for name in kept.headers:
        if name in run.result.headers and run.result.sha256(name) != kept.sha256(name):
            text = f"{name} of the result is not that of {kept.root.name}, which was kept"
            return Finding("ResultMismatch", text)
    return None


def _rounded(own: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> bool:
    """Whether the same tensors are stored in a smaller type: a checkpoint has the wide ones."""
    if own.keys() != kept.keys() or any(own[name].shape != kept[name].shape for name in own):
        return False
    types = {(kept[name].dtype, own[name].dtype) for name in own}
    return types <= _ROUNDED and any(before != after for before, after in types)


def _forms(weights: Mapping[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in weights.items()}


def pickle_is_there(run: Run) -> Finding | None:
    """By the name, and by the first bytes of what has another."""
    for name in run.result.files:
        if name.endswith(PICKLES) or _begins_as_pickle(run.result.root / name):
            return Finding("PickleFound", f"{name} may be a pickle")
    return None


def _begins_as_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return _PICKLED.match(file.read(8)) is not None


def code_is_there(run: Run) -> Finding | None:
    """A file, a class in one, or a compiled kernel from the Hub."""
    names = [name for name in run.result.files if name.endswith(".py")]
    for name in run.result.top_level("config.json"):
        fields = run.result.document(name).fields
        kernels = [str(fields.get(key) or "") for key in _NAME_CODE]
        names += [name] if fields.get("auto_map") or "/" in "".join(kernels) else []
    return Finding("CodeFound", f"{names[0]} holds or names code") if names else None


def checkpoint_was_left_over(run: Run) -> Finding | None:
    if not run.leftovers:
        return None
    return Finding("CheckpointLeftover", f"{run.leftovers[0]} was never finished")


def checkpoint_is_behind(run: Run) -> Finding | None:
    """The trainer keeps one of its last step."""
    last = run.info.results.global_step if run.info else None
    newest = step_of(run.checkpoint.root) if run.checkpoint else None
    if last is not None and run.checkpoint is None and run.is_as_trained:
        return Finding("CheckpointBehind", f"there is none, the run ended at {last}")
    if last is None or newest is None or newest >= last:
        return None
    return Finding("CheckpointBehind", f"the newest is of step {newest}, the run ended at {last}")


def adapter_is_partly_zero(run: Run) -> Finding | None:
    dead = sorted(dead_layers(run.result.zero))
    if not dead:
        return None
    text = f"{len(dead)} adapted layers have a matrix of zeros, such as {dead[0]}"
    return Finding("AdapterPartlyZero", text)


def base_is_not_at_hand(run: Run) -> Finding | None:
    if run.base is not None:
        return None
    text = "tokenizer, template and shapes were not compared with the base model's"
    return Finding("BaseNotAtHand", text)


RULES: tuple[Rule[Run], ...] = (
    method_is_another,
    rank_is_another,
    base_is_another,
    settings_are_others,
    tokenizer_is_another,
    template_is_missing,
    template_is_another,
    result_is_another,
)
WARNINGS: tuple[Rule[Run], ...] = (
    pickle_is_there,
    code_is_there,
    tokenizer_was_changed,
    template_was_changed,
    checkpoint_was_left_over,
    checkpoint_is_behind,
    adapter_is_partly_zero,
    base_is_not_at_hand,
)


def leftovers_in(folder: Path | None) -> tuple[str, ...]:
    """Names of half-written checkpoints; the trainer writes under these before it renames."""
    if folder is None or not folder.is_dir():
        return ()
    return tuple(sorted(path.name for path in folder.iterdir() if path.name.startswith(".tmp-")))
