"""checkpoint_integrity: the result and the checkpoints are whole, and nothing but data.

Nothing is ever unpickled: files are measured, hashed, parsed as JSON or mapped as numbers.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from finetuning.artifacts import (
    ADAPTER_CONFIG,
    AIM_PROFILE,
    LOSS_HISTORY,
    MANIFEST,
    MODEL_DIR_FILES,
    TRAINING_INFO,
    VOCABULARIES,
)
from finetuning.artifacts.files import UnreadableFileError, is_pointer
from finetuning.artifacts.manifest import contents_problem, size_problem
from finetuning.artifacts.models import CheckResult
from finetuning.artifacts.trainer_state import OPTIMIZER
from finetuning.monitoring.validators.checks import agreement, copied, resuming, shapes
from finetuning.monitoring.validators.checks.adapter_settings import foreign_setting
from finetuning.monitoring.validators.checks.agreement import PICKLES, leftovers_in
from finetuning.monitoring.validators.checks.base_model import base_folder
from finetuning.monitoring.validators.checks.checkpoints import checkpoints_in
from finetuning.monitoring.validators.checks.run import Run
from finetuning.monitoring.validators.checks.tree import (
    LEFTOVER,
    Tree,
    model_tree,
    no_file,
    tree_of,
)
from finetuning.monitoring.validators.outcome import (
    CheckOutcome,
    Finding,
    Passed,
    Rule,
    all_findings,
    first_finding,
    outcome,
)
from finetuning.monitoring.validators.subject import Subject

NAME = "checkpoint_integrity"
_DATA_SUFFIXES = (".safetensors", ".json", ".jsonl", ".model")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_INDEX_SUFFIX = ".safetensors.index.json"
_LOADED = re.compile(
    r"(config|generation_config|adapter_config|tokenizer|tokenizer_config|vocab|tekken|"
    r"special_tokens_map|added_tokens|preprocessor_config|processor_config|chat_template)\.json|"
    r"(vocab|merges)\.txt|[^/]*\.(safetensors|safetensors\.index\.json|model|jinja|tiktoken|spm)|"
    r"(modeling|configuration|tokenization|(image_|video_)?processing|processor|generate|handler|"
    r"feature_extraction|pipeline)(_\w+)?\.py|additional_chat_templates/[^/]*|custom_generate/.*"
)
"""What the libraries read of a model's folder: of folders in it, these two alone."""

_ABOUT_THE_RUN = (TRAINING_INFO, AIM_PROFILE, LOSS_HISTORY)
"""What the other checks read."""

_ADAPTER_WEIGHTS = "adapter_model"
_BUFFERS = "masked_bias"
"""Older models keep a mask of huge numbers among their weights."""


def check(subject: Subject) -> CheckOutcome:
    """Judge the checkpoints, where they are kept, the result, and all together."""
    missing = [name for name in ("numpy", "safetensors") if find_spec(name) is None]
    if missing:
        text = f"{missing[0]} is not installed: pip install 'finetuning-operator[trainer]'"
        return outcome(NAME, Finding("LibraryMissing", text, CheckResult.ERROR))
    if subject.model_path is None or not subject.model_path.is_dir():
        text = f"there is no model folder {subject.model_path or ''}".rstrip()
        return outcome(NAME, Finding("ModelFolderMissing", text))
    found = checkpoints_in(subject.checkpoint_path, subject.model_path)
    if isinstance(found, Finding):
        return outcome(NAME, found)
    base = base_folder(subject)
    return _judge(
        Run(
            tree_of(subject.model_path.resolve(), is_checkpoint=False),
            tuple(tree_of(folder, is_checkpoint=True) for folder in found),
            model_tree(base) if base else None,
            subject.info,
            subject.settings,
            leftovers_in(subject.checkpoint_path),
        )
    )


def _judge(run: Run) -> CheckOutcome:
    trees = [*reversed(run.checkpoints), run.result]
    for tree in trees:
        if finding := first_finding(RULES, tree):
            text = f"{tree.label}: {finding.message}"
            told = Finding(finding.reason, text, finding.result, finding.numbers)
            return outcome(NAME, told, details={"folder": str(tree.root)})
    details = {tree.label: _details(tree) for tree in trees}
    if finding := first_finding(RUN_RULES, run):
        return outcome(NAME, finding, details=details)
    warnings = all_findings(agreement.WARNINGS, run)
    passed = Passed("Checkpoint files are valid and complete")
    return outcome(NAME, passed, details=details, warnings=warnings)


def link_or_device(tree: Tree) -> Finding | None:
    problem = no_file(tree)
    return Finding("NotAFile", problem) if problem else None


def leftover_of_a_write(tree: Tree) -> Finding | None:
    for name in tree.files:
        if any(LEFTOVER.search(part) for part in Path(name).parts):
            return Finding("WriteInterrupted", f"{name} is left over from an interrupted write")
    return None


def file_is_empty(tree: Tree) -> Finding | None:
    for name in _of_the_model(tree):
        if name.endswith(_DATA_SUFFIXES) and (tree.root / name).lstat().st_size == 0:
            return Finding("FileEmpty", f"{name} is empty")
    return None


def file_is_an_lfs_pointer(tree: Tree) -> Finding | None:
    for name in _of_the_model(tree):
        if name.endswith(_DATA_SUFFIXES) and is_pointer(tree.root / name):
            text = f"{name} is a Git LFS pointer, not the file; run `git lfs pull`"
            return Finding("LfsPointer", text)
    return None


def manifest_is_missing(tree: Tree) -> Finding | None:
    if MANIFEST in tree.files:
        return None
    text = f"{MANIFEST} is missing: whoever wrote this folder did not finish"
    return Finding("ManifestMissing", text)


def manifest_does_not_match(tree: Tree) -> Finding | None:
    """Sizes of all files first, because they cost nothing."""
    try:
        listed = tree.manifest.files
    except UnreadableFileError as error:
        return Finding("ManifestMismatch", str(error))
    for name, entry in listed.items():
        size = (tree.root / name).lstat().st_size if name in tree.files else None
        if problem := size_problem(entry, size):
            return Finding("ManifestMismatch", f"{name}: {problem}")
    for name, entry in listed.items():
        if problem := contents_problem(entry, tree.sha256(name)):
            return Finding("ManifestMismatch", f"{name}: {problem}")
    return None


def weights_are_missing(tree: Tree) -> Finding | None:
    if [name for name in tree.top_level(".safetensors") if name != OPTIMIZER]:
        return None
    pickled = tree.top_level(".bin", ".pt", ".pth")
    hint = f"; {pickled[0]} is a pickle, which is never opened" if pickled else ""
    return Finding("WeightsMissing", f"there is no *.safetensors file{hint}")


def config_is_missing(tree: Tree) -> Finding | None:
    if any(name in tree.files for name in MODEL_DIR_FILES):
        return None
    return Finding("ConfigMissing", f"there is neither {' nor '.join(MODEL_DIR_FILES)}")


def tokenizer_is_missing(tree: Tree) -> Finding | None:
    if tree.is_checkpoint or tree.top_level(*VOCABULARIES):
        return None
    return Finding("TokenizerMissing", f"there is none of {', '.join(VOCABULARIES[:4])}")


def json_is_unreadable(tree: Tree) -> Finding | None:
    for name in _of_the_model(tree):
        document = tree.document(name)
        if document.problem:
            return Finding("JsonUnreadable", document.problem)
        if name in MODEL_DIR_FILES and not isinstance(document.value, dict):
            return Finding("JsonUnreadable", f"{name}: no JSON object")
    return None


def adapter_setting_is_foreign(tree: Tree) -> Finding | None:
    """Whoever loads the adapter would load another model than the one that is judged."""
    problem = foreign_setting(tree.document(ADAPTER_CONFIG).fields) if tree.is_adapter else ""
    return Finding("AdapterSettingForeign", f"{ADAPTER_CONFIG}: {problem}") if problem else None


def weights_are_malformed(tree: Tree) -> Finding | None:
    try:
        files = tree.headers
    except UnreadableFileError as error:
        return Finding("WeightsMalformed", str(error))
    empty = [name for name, file in files.items() if not file.tensors and name != OPTIMIZER]
    return Finding("WeightsMalformed", f"{empty[0]} holds no tensor") if empty else None


def shards_do_not_match(tree: Tree) -> Finding | None:
    """The index and the files must name the same tensors in the same places, both ways."""
    indexes = tree.top_level(_INDEX_SUFFIX)
    shards = {name for name in tree.headers if _SHARD.search(name)}
    if not indexes:
        text = f"{min(shards)} is a part, but there is no index of the parts" if shards else ""
        return Finding("IndexMissing", text) if shards else None
    index = _index(tree.document(indexes[0]).fields)
    if index is None:
        return Finding("IndexMismatch", f"{indexes[0]} has no weight_map of names to files")
    found = {tensor: name for name in sorted(shards) for tensor in tree.headers[name].names}
    told = tree.document(indexes[0]).fields.get("metadata")
    problem = _difference(index, found, shards) or _size_difference(
        told, sum(tree.headers[name].bytes for name in shards)
    )
    return Finding("IndexMismatch", f"{indexes[0]}: {problem}") if problem else None


def _difference(index: dict[str, str], found: dict[str, str], shards: set[str]) -> str:
    if absent := sorted(set(index.values()) - shards):
        return f"the part {absent[0]} is missing"
    if stray := sorted(shards - set(index.values())):
        return f"the part {stray[0]} is not listed"
    wrong = sorted(name for name in {*index, *found} if index.get(name) != found.get(name))
    return f"the tensor {wrong[0]} is not where it is listed" if wrong else ""


def _size_difference(metadata: Any, found: int) -> str:
    """Some writers count a shared tensor twice, so that only a size below the files' is wrong."""
    told = metadata.get("total_size") if isinstance(metadata, dict) else None
    if not isinstance(told, int) or told >= found:
        return ""
    return f"its total_size is {told}, the parts hold {found} bytes"


def _index(fields: dict[str, Any]) -> dict[str, str] | None:
    listed: Any = fields.get("weight_map")
    if not isinstance(listed, dict):
        return None
    return listed if all(isinstance(value, str) for value in listed.values()) else None


def file_is_not_sealed(tree: Tree) -> Finding | None:
    """What the trainer did not write would be loaded all the same."""
    strange = sorted(_loaded(tree) - set(tree.manifest.files))
    return Finding("FileNotListed", f"{strange[0]} is not in {MANIFEST}") if strange else None


def _of_the_model(tree: Tree) -> list[str]:
    """What was sealed, and what is loaded all the same; anything else may lie there as it likes."""
    try:
        listed = set(tree.manifest.files)
    except UnreadableFileError:
        listed = set(tree.files)
    return sorted({*listed, *_loaded(tree)} & {*tree.files})


def _loaded(tree: Tree) -> set[str]:
    """By libraries, or by the checks; pickles where libraries would look for weights."""
    about = () if tree.is_checkpoint else _ABOUT_THE_RUN
    ends = (*PICKLES, ".py") if _names_code(tree) else PICKLES
    own = {name for name in tree.files if _LOADED.fullmatch(name) or name in about}
    return own | {*tree.top_level(*ends)}


def _names_code(tree: Tree) -> bool:
    """Whether a configuration tells libraries to import what lies beside it."""
    settings = (tree.document(name).fields for name in tree.top_level("config.json"))
    return any(each.get("auto_map") or each.get("custom_pipelines") for each in settings)


def weights_are_ambiguous(tree: Tree) -> Finding | None:
    """Which file is read depends on the library where several would do."""
    if tree.is_adapter:
        names = [n for n in tree.headers if n != OPTIMIZER and not n.startswith(_ADAPTER_WEIGHTS)]
        text = f"{names[0]} lies in the folder of an adapter" if names else ""
        return Finding("WeightsAmbiguous", text) if names else None
    where: dict[str, str] = {}
    for name, file in tree.headers.items():
        for tensor in sorted(file.names) if name != OPTIMIZER else ():
            if (other := where.setdefault(tensor, name)) != name:
                text = f"the tensor {tensor} is in {other} and in {name}"
                return Finding("WeightsAmbiguous", text)
    return None


def weight_is_not_finite(tree: Tree) -> Finding | None:
    for name, seen in tree.contents.items():
        if seen.nonfinite:
            return Finding("WeightsNotFinite", f"{name}: {seen.nonfinite} holds NaN or infinity")
    return None


def weight_is_huge(tree: Tree) -> Finding | None:
    for name, seen in tree.contents.items():
        if seen.huge and name != OPTIMIZER and not seen.huge.endswith(_BUFFERS):
            text = f"{name}: {seen.huge} holds a number of 2^24 or more"
            return Finding("WeightsImplausible", text)
    return None


def matrix_is_zero(tree: Tree) -> Finding | None:
    """In the architectures that are known to have none; an adapter's first ones begin at random."""
    zero = [name for name in tree.zero if name in tree.weights]
    if tree.is_adapter:
        zero = [name for name in zero if ".lora_A." in name]
    elif not shapes.is_dense(tree):
        return None
    found = next((n for n in sorted(zero) if len(tree.weights[n].shape) > 1), None)
    return Finding("WeightsZero", f"{found} holds nothing but zeros") if found else None


RULES: tuple[Rule[Tree], ...] = (
    link_or_device,
    leftover_of_a_write,
    file_is_empty,
    file_is_an_lfs_pointer,
    manifest_is_missing,
    weights_are_missing,
    config_is_missing,
    tokenizer_is_missing,
    json_is_unreadable,
    adapter_setting_is_foreign,
    resuming.trainer_state_is_missing,
    resuming.step_is_another,
    resuming.trainer_state_is_malformed,
    resuming.optimizer_state_is_missing,
    weights_are_malformed,
    shards_do_not_match,
    manifest_does_not_match,
    file_is_not_sealed,
    weights_are_ambiguous,
    shapes.ranks_differ,
    shapes.shapes_differ,
    shapes.optimizer_differs,
    resuming.optimizer_steps_differ,
    weight_is_not_finite,
    resuming.moments_are_impossible,
    weight_is_huge,
    matrix_is_zero,
    resuming.training_is_lost,
)

RUN_RULES: tuple[Rule[Run], ...] = (
    *agreement.RULES,
    copied.architecture_is_another,
    copied.file_is_not_the_bases,
    copied.generation_is_another,
    *resuming.RULES,
)
"""Of all trees together."""


def _details(tree: Tree) -> dict[str, Any]:
    return {
        "folder": str(tree.root),
        "files": len(tree.files),
        "tensors": sum(len(file.tensors) for file in tree.headers.values()),
        "weightBytes": sum(file.bytes for file in tree.headers.values()),
    }
