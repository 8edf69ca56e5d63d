"""Whether the files of a run agree: with each other, with the run's description, with the base."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from finetuning.artifacts import CHECKPOINT_PREFIX
from finetuning.artifacts.files import UnreadableFileError
from finetuning.monitoring.training_info import TrainingInfo
from finetuning.monitoring.validators.checks import shapes
from finetuning.monitoring.validators.checks.tree import Tree, step_of, tree_of
from finetuning.monitoring.validators.checks.weights import Tensor
from finetuning.monitoring.validators.outcome import Finding, Rule
from finetuning.monitoring.validators.settings import ValidationSettings

TEMPLATE_FILE = "chat_template.jinja"
_LONGEST_TEMPLATE = 1 << 20
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


@dataclass(frozen=True)
class Run:
    """All trees of a run that are whole by themselves; what is None is not at hand."""

    result: Tree
    checkpoint: Tree | None
    base: Tree | None
    info: TrainingInfo | None
    settings: ValidationSettings
    leftovers: tuple[str, ...] = ()
    """Half-written checkpoints beside the newest one."""

    @cached_property
    def base_weights(self) -> Mapping[str, Tensor]:
        try:
            return self.base.weights if self.base else {}
        except UnreadableFileError:
            return {}  # The base model is not on trial.

    @property
    def method(self) -> str | None:
        return self.settings.method or (self.info.method if self.info else None)

    @property
    def training_config(self) -> dict[str, Any]:
        return self.info.training_config if self.info else {}


def method_is_another(run: Run) -> Finding | None:
    """An adapter that was merged into its base is a whole model, whatever the method was."""
    if run.method != "full" or not run.result.is_adapter:
        return None
    return Finding("MethodMismatch", "the run was of method full, the result is an adapter")


def rank_is_another(run: Run) -> Finding | None:
    told = run.training_config.get("lora_rank")
    found = run.result.document("adapter_config.json").fields.get("r")
    if told is None or found is None or told == found:
        return None
    return Finding("RankMismatch", f"the run was of rank {told}, the adapter is of rank {found}")


def base_is_another(run: Run) -> Finding | None:
    named = run.result.document("adapter_config.json").fields.get("base_model_name_or_path")
    told = [run.training_config.get("model_id"), run.settings.model_id]
    told += [run.info.model_id] if run.info else []
    known = [name for name in told if isinstance(name, str)]
    if isinstance(named, str) and known and named not in known:
        return Finding("BaseMismatch", f"the adapter is of {named}, the run was of {known[0]}")
    if not run.result.is_adapter:
        return None
    problem = shapes.base_problem(run.result, run.base_weights)
    return Finding("BaseMismatch", problem) if problem else None


def tokenizer_is_another(run: Run) -> Finding | None:
    own = run.result.document("tokenizer.json")
    tokens = _vocabulary(own.value)
    size = run.result.document("config.json").fields.get("vocab_size")
    if tokens and isinstance(size, int) and (highest := max(tokens.values())) >= size:
        text = f"the tokenizer has a token {highest}, the model a vocabulary of {size}"
        return Finding("TokenizerMismatch", text, numbers={"token": highest, "vocabulary": size})
    before = run.base.document("tokenizer.json") if run.base else None
    if before is None or before.sha256 == own.sha256 or not tokens:
        return None
    wrong = [token for token, number in _vocabulary(before.value).items()
             if tokens.get(token) != number]  # fmt: skip
    if not wrong:
        return None
    text = f"{len(wrong)} tokens of the base model's tokenizer have another number or are gone"
    return Finding("TokenizerMismatch", text, numbers={"tokens": len(wrong)})


def _vocabulary(tokenizer: Any) -> dict[str, int]:
    """Tokens and their numbers of a tokenizer.json; what has another form tells nothing."""
    if not isinstance(tokenizer, dict):
        return {}
    model = tokenizer.get("model")
    listed = model.get("vocab") if isinstance(model, dict) else None
    pairs: list[tuple[Any, Any]] = []
    if isinstance(listed, dict):
        pairs = list(listed.items())
    elif isinstance(listed, list):  # Unigram: pairs of a piece and its score, in order.
        pairs = [(x[0], n) for n, x in enumerate(listed) if isinstance(x, list) and x]
    added = tokenizer.get("added_tokens")
    for token in added if isinstance(added, list) else ():
        if isinstance(token, dict):
            pairs.append((token.get("content"), token.get("id")))
    return {str(token): number for token, number in pairs if isinstance(number, int)}


def template_is_missing(run: Run) -> Finding | None:
    if run.base is None or not template_of(run.base) or template_of(run.result):
        return None
    return Finding("ChatTemplateMissing", "the base model has a chat template, the result has none")


def template_of(tree: Tree) -> str:
    """The chat template, from its own file or from the tokenizer's settings."""
    if TEMPLATE_FILE in tree.files:
        with (tree.root / TEMPLATE_FILE).open(encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST_TEMPLATE)
    for name in ("chat_template.json", "tokenizer_config.json"):
        if template := tree.document(name).fields.get("chat_template"):
            return str(template)
    return ""


def result_is_another(run: Run) -> Finding | None:
    """The checkpoint of the step whose weights were kept is the result, written twice."""
    kept = _kept_checkpoint(run)
    if kept is None or _forms(kept.weights) != _forms(run.result.weights):
        return None
    for name in kept.headers:
        if name in run.result.headers and run.result.sha256(name) != kept.sha256(name):
            text = f"{name} of the result is not that of {kept.root.name}, which was kept"
            return Finding("ResultMismatch", text)
    return None


def _kept_checkpoint(run: Run) -> Tree | None:
    """None where it is not there, or cannot be read: only the newest is judged by itself."""
    step = run.info.results.result_step if run.info else None
    if run.checkpoint is None or step is None or step_of(run.checkpoint.root) == step:
        return run.checkpoint if step is not None else None
    folder = run.checkpoint.root.with_name(f"{CHECKPOINT_PREFIX}{step}")
    if folder.is_symlink() or not folder.is_dir():
        return None
    tree = tree_of(folder, is_checkpoint=True)
    try:
        return tree if tree.contents else None
    except (OSError, UnreadableFileError):
        return None


def _forms(weights: Mapping[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in weights.items()}


def pickle_is_there(run: Run) -> Finding | None:
    names = run.result.top_level(*_PICKLES)
    return Finding("PickleFound", f"{names[0]} may be a pickle") if names else None


def code_is_there(run: Run) -> Finding | None:
    names = [name for name in run.result.files if name.endswith(".py")]
    configs = ("config.json", "tokenizer_config.json")
    names += [c for c in configs if run.result.document(c).fields.get("auto_map")]
    return Finding("CodeFound", f"{names[0]} holds or names Python code") if names else None


def template_was_changed(run: Run) -> Finding | None:
    before = template_of(run.base) if run.base else ""
    if not before or before == template_of(run.result):
        return None
    return Finding("TemplateChanged", "the chat template is not the base model's")


def checkpoint_was_left_over(run: Run) -> Finding | None:
    if not run.leftovers:
        return None
    return Finding("CheckpointLeftover", f"{run.leftovers[0]} was never finished")


def adapter_is_partly_zero(run: Run) -> Finding | None:
    zero = [name for seen in run.result.contents.values() for name in seen.zero]
    if not zero:
        return None
    return Finding("AdapterPartlyZero", f"{len(zero)} lora_B hold only zeros, such as {zero[0]}")


def base_is_not_at_hand(run: Run) -> Finding | None:
    if run.base is not None:
        return None
    text = "tokenizer, template and shapes were not compared with the base model's"
    return Finding("BaseNotAtHand", text)


RULES: tuple[Rule[Run], ...] = (
    method_is_another,
    rank_is_another,
    base_is_another,
    tokenizer_is_another,
    template_is_missing,
    result_is_another,
)
WARNINGS: tuple[Rule[Run], ...] = (
    pickle_is_there,
    code_is_there,
    template_was_changed,
    checkpoint_was_left_over,
    adapter_is_partly_zero,
    base_is_not_at_hand,
)


def leftovers_in(folder: Path | None) -> tuple[str, ...]:
    """Names of half-written checkpoints; the trainer writes under these before it renames."""
    if folder is None or not folder.is_dir():
        return ()
    return tuple(sorted(path.name for path in folder.iterdir() if path.name.startswith(".tmp-")))
