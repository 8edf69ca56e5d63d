"""Whether tokenizer and chat template are those that the model was trained with."""

from collections.abc import Mapping
from typing import Any

from finetuning.artifacts import CHAT_TEMPLATE
from finetuning.monitoring.validators.checks.run import Run
from finetuning.monitoring.validators.checks.tree import Tree
from finetuning.monitoring.validators.outcome import Finding

_LONGEST_TEMPLATE = 1 << 20
_ENDS = ("bos_token", "eos_token")
_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_BINARY = ".model"


def tokenizer_is_another(run: Run) -> Finding | None:
    own = run.result.document("tokenizer.json")
    tokens = _vocabulary(own.value)
    size = run.result.document("config.json").fields.get("vocab_size")
    if isinstance(size, int) and (highest := _highest_of_its_own(run, tokens)) >= size:
        text = f"the tokenizer has a token {highest}, the model a vocabulary of {size}"
        return Finding("TokenizerMismatch", text, numbers={"token": highest, "vocabulary": size})
    if run.base is None:
        return None
    problem = _file_problem(run.result, run.base) or _end_problem(run.result, run.base)
    if problem:
        return Finding("TokenizerMismatch", problem)
    before = run.base.document("tokenizer.json")
    # What cannot be read of the base model is nothing to compare with.
    if before.sha256 == own.sha256 or not tokens or not before.fields:
        return None
    return _other_words(before.value, own.value)


def _highest_of_its_own(run: Run, tokens: Mapping[str, int]) -> int:
    """The highest number of a token that is not the base model's, too; -1 where all are.

    Some models have a token more than they have embeddings of, such as Gemma's for an image; it
    was added to the vocabulary, which tells where there is no base to compare with.
    """
    before = run.base.document("tokenizer.json").value if run.base else None
    known = _vocabulary(before) or _added(run.result.document("tokenizer.json").value)
    return max((n for token, n in tokens.items() if known.get(token) != n), default=-1)


def _file_problem(own: Tree, base: Tree) -> str:
    """tokenizer.json is read before any other form, so that it must not be lost."""
    if "tokenizer.json" in base.files and "tokenizer.json" not in own.files:
        return "the base model's tokenizer.json is missing"
    for name in own.top_level(_BINARY):
        if name in base.files and own.sha256(name) != base.sha256(name):
            return f"{name} is not the base model's"
    return ""


def _end_problem(own: Tree, base: Tree) -> str:
    """Where a text begins and ends, for whoever serves the model."""
    mine, before = (tree.document("tokenizer_config.json").fields for tree in (own, base))
    for name in _ENDS:
        told, known = _content(mine.get(name)), _content(before.get(name))
        if told and known and told != known:
            return f"tokenizer_config.json: {name} is {told!r}, the base model's {known!r}"
    return ""


def _content(token: Any) -> str:
    """A token is a text, or an object with one."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else ""


def _other_words(before: Any, own: Any) -> Finding | None:
    tokens = _vocabulary(own)
    wrong = [token for token, number in _vocabulary(before).items() if tokens.get(token) != number]
    if wrong:
        text = f"{len(wrong)} tokens of the base model's tokenizer have another number or are gone"
        return Finding("TokenizerMismatch", text, numbers={"tokens": len(wrong)})
    if _merges(before) != _merges(own):
        text = "tokenizer.json merges letters to tokens otherwise than the base model's"
        return Finding("TokenizerMismatch", text)
    return None


def _merges(tokenizer: Any) -> list[tuple[Any, ...]]:
    """Pairs, in order; older files have each as one text."""
    model = tokenizer.get("model") if isinstance(tokenizer, dict) else None
    listed = model.get("merges") if isinstance(model, dict) else None
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in _list(listed))
    return [tuple(pair) for pair in pairs if isinstance(pair, list)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


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
    numbers = {str(token): number for token, number in pairs if isinstance(number, int)}
    return numbers | _added(tokenizer)


def _added(tokenizer: Any) -> dict[str, int]:
    """Those that are no part of the model that divides words."""
    listed = _list(tokenizer.get("added_tokens")) if isinstance(tokenizer, dict) else []
    pairs = [(each.get("content"), each.get("id")) for each in listed if isinstance(each, dict)]
    return {str(token): number for token, number in pairs if isinstance(number, int)}


def tokenizer_was_changed(run: Run) -> Finding | None:
    """Libraries differ in what they read of these parts, and in how they write them."""
    before = run.base.document("tokenizer.json").fields if run.base else {}
    own = run.result.document("tokenizer.json").fields
    changed = [part for part in _PARTS if own and before and own.get(part) != before.get(part)]
    if not changed:
        return None
    return Finding("TokenizerChanged", f"tokenizer.json: {changed[0]} is not the base model's")


def template_is_missing(run: Run) -> Finding | None:
    if template_of(run.result):
        return None
    if run.base is not None and template_of(run.base):
        whose = "the base model has a chat template"
    elif _added_template(run):
        whose = "the trainer added a chat template"
    else:
        return None
    return Finding("ChatTemplateMissing", f"{whose}, the result has none")


def template_is_another(run: Run) -> Finding | None:
    """Of a base model without one: what was trained answers to the form of the trainer's."""
    told = _added_template(run)
    if not told or (CHAT_TEMPLATE in run.result.files and run.result.sha256(CHAT_TEMPLATE) == told):
        return None
    text = f"{CHAT_TEMPLATE} is not what the trainer added to a base model without a chat template"
    return Finding("ChatTemplateMismatch", text)


def _added_template(run: Run) -> str | None:
    """Its digest, of a result that is as the trainer wrote it."""
    return run.info.added_chat_template_sha256 if run.info and run.is_as_trained else None


def template_of(tree: Tree) -> str:
    """The chat template, from its own file or from the tokenizer's settings."""
    if CHAT_TEMPLATE in tree.files:
        with (tree.root / CHAT_TEMPLATE).open(encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST_TEMPLATE)
    for name in ("chat_template.json", "tokenizer_config.json"):
        if template := tree.document(name).fields.get("chat_template"):
            return str(template)
    return ""


def template_was_changed(run: Run) -> Finding | None:
    before = template_of(run.base) if run.base else ""
    if not before or before == template_of(run.result):
        return None
    return Finding("TemplateChanged", "the chat template is not the base model's")
