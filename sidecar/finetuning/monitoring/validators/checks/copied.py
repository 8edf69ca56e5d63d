"""What a result has from its base model as it is there: the trainer copies it byte for byte.

A whole model made of an adapter afterwards was written by other libraries, in a form of their own.
"""

from finetuning.artifacts import CHAT_TEMPLATE, GENERATION_CONFIG, TOKENIZER_FILES
from finetuning.monitoring.validators.checks.run import Run
from finetuning.monitoring.validators.checks.tokenizer import template_of
from finetuning.monitoring.validators.checks.tree import Tree
from finetuning.monitoring.validators.outcome import Finding

_CAUSAL = ("ForCausalLM", "LMHeadModel")
"""How the classes are called that go on with a text, in transformers."""


def file_is_not_the_bases(run: Run) -> Finding | None:
    """By the digests that the trainer told, and by the base model's folder where it is there.

    A result that is as the trainer left it is held against both.
    """
    if run.info is None or not run.is_as_trained:
        return None
    for name, told in run.info.base_files_sha256.items():
        if name not in run.result.files:
            return Finding("BaseFileChanged", f"{name} is missing, the base model had it")
        if run.result.sha256(name) != told:
            return Finding("BaseFileChanged", f"{name} is not what the base model had")
    if run.base is None:
        return None
    for name in _copied(run.result):
        if problem := _problem_of(name, run.result, run.base):
            return Finding("BaseFileChanged", f"{name} {problem}")
    return None


def generation_is_another(run: Run) -> Finding | None:
    """Of a base model without such settings: whoever serves the model answers by those it has."""
    told = run.info.added_generation_config_sha256 if run.info and run.is_as_trained else None
    if told is None or run.result.is_adapter:
        return None
    problem = "is missing" if GENERATION_CONFIG not in run.result.files else ""
    if not problem and run.result.sha256(GENERATION_CONFIG) != told:
        problem = "was changed"
    text = f"{GENERATION_CONFIG} {problem}: the base model has none, and the trainer wrote another"
    return Finding("BaseFileChanged", text) if problem else None


def _copied(result: Tree) -> tuple[str, ...]:
    return TOKENIZER_FILES if result.is_adapter else (*TOKENIZER_FILES, GENERATION_CONFIG)


def _problem_of(name: str, own: Tree, base: Tree) -> str:
    if name not in base.files:
        # What writes a whole model writes this, and a template is added where there is none.
        added = name == GENERATION_CONFIG or (name == CHAT_TEMPLATE and not template_of(base))
        return "" if name not in own.files or added else "is not among the base model's files"
    if name not in own.files:
        return "is missing, the base model has it"
    return "" if own.sha256(name) == base.sha256(name) else "is not the base model's"


def architecture_is_another(run: Run) -> Finding | None:
    """Servers choose by it which class is loaded; transformers here does not ask."""
    base = _architectures(run.base) if run.base else None
    for tree in (run.result, *run.checkpoints):
        found = _architectures(tree)
        if found is None or _are_right(found, base):
            continue
        wanted = f"the base model's {base}" if base else f"a class that ends in {_CAUSAL[0]}"
        text = f"{tree.label}: config.json: architectures is {found}, not {wanted}"
        return Finding("ConfigMismatch", text)
    return None


def _are_right(found: str, base: str | None) -> bool:
    """A base model may be told as a larger one, of which the part for texts was tuned."""
    return found == base or (found.endswith(_CAUSAL) and not (base or "").endswith(_CAUSAL))


def _architectures(tree: Tree) -> str | None:
    """None where nothing is told, or the tree is an adapter."""
    told = tree.document("config.json").fields.get("architectures")
    if tree.is_adapter or not told:
        return None
    return " ".join(map(str, told)) if isinstance(told, list) else str(told)
