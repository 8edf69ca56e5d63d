"""checkpoint_integrity: the result and the newest checkpoint are whole, and nothing but data.

Nothing is ever unpickled: files are measured, hashed, parsed as JSON or mapped as numbers.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from finetuning.artifacts import (
    CHECKPOINT_PREFIX,
    CHECKPOINTS_DIR,
    MANIFEST,
    MODEL_DIR_FILES,
    STATE_DIR,
    VALIDATION_DIR,
)
from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.artifacts.manifest import problem_with, read_manifest
from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.checks.weights import (
    WeightFile,
    first_nonfinite,
    read_header,
)
from finetuning.monitoring.validators.outcome import (
    CheckOutcome,
    Finding,
    Passed,
    first_finding,
    outcome,
)
from finetuning.monitoring.validators.subject import Subject

NAME = "checkpoint_integrity"
TRAINER_STATE = "trainer_state.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
JSON_MAX_BYTES = 256 << 20
"""The largest tokenizers are some tens of megabytes."""

_NOT_SEALED = (CHECKPOINTS_DIR, STATE_DIR, VALIDATION_DIR, "lost+found")
"""Folders beside the result: judged apart, still written to, or the file system's own."""

_DATA_SUFFIXES = (".safetensors", ".json", ".jsonl", ".model")
_LFS_POINTER = b"version https://git-lfs"
_LEFTOVER = re.compile(r"^\.tmp-|^\..*\.tmp$")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_INDEX_SUFFIX = ".safetensors.index.json"


@dataclass(frozen=True)
class Tree:
    """A folder with a model, and the files in it by their relative path."""

    root: Path
    files: tuple[str, ...]
    is_checkpoint: bool

    @property
    def label(self) -> str:
        return self.root.name if self.is_checkpoint else "result"

    def top_level(self, suffix: str) -> list[str]:
        return [name for name in self.files if name.endswith(suffix) and "/" not in name]

    @cached_property
    def weights(self) -> dict[str, WeightFile]:
        """Headers of all weight files; raises UnreadableFileError at the first bad one."""
        return {name: read_header(self.root / name) for name in self.top_level(".safetensors")}


Rule = Callable[[Tree], Finding | None]


def check(subject: Subject) -> CheckOutcome:
    """Judge the newest checkpoint, where checkpoints are kept, and the result itself."""
    missing = [name for name in ("numpy", "safetensors") if find_spec(name) is None]
    if missing:
        text = f"{missing[0]} is not installed: pip install 'finetuning-operator[trainer]'"
        return outcome(NAME, Finding("LibraryMissing", text, CheckResult.ERROR))
    if subject.model_path is None or not subject.model_path.is_dir():
        text = f"there is no model folder {subject.model_path or ''}".rstrip()
        return outcome(NAME, Finding("ModelFolderMissing", text))
    found = newest_checkpoint(subject.checkpoint_path)
    if isinstance(found, Finding):
        return outcome(NAME, found)
    trees = [tree_of(found, is_checkpoint=True)] if found else []
    trees.append(tree_of(subject.model_path.resolve(), is_checkpoint=False))
    return _judge(trees)


def _judge(trees: list[Tree]) -> CheckOutcome:
    for tree in trees:
        if finding := first_finding(RULES, tree):
            told = Finding(finding.reason, f"{tree.label}: {finding.message}", finding.result)
            return outcome(NAME, told, details={"folder": str(tree.root)})
    details = {tree.label: _details(tree) for tree in trees}
    return outcome(NAME, Passed("Checkpoint files are valid and complete"), details=details)


def newest_checkpoint(path: Path | None) -> Path | Finding | None:
    """The checkpoint in or at `path`; None where the run keeps none and none was asked for."""
    if path is None:
        return None
    if not path.is_dir():
        return Finding("CheckpointsMissing", f"there is no folder {path}")
    steps = {step: folder for folder in path.iterdir() if (step := step_of(folder)) is not None}
    if steps:
        return steps[max(steps)].resolve()
    if (path / MANIFEST).exists() or any((path / name).exists() for name in MODEL_DIR_FILES):
        return path.resolve()
    return Finding("CheckpointsMissing", f"there is no checkpoint in {path}")


def step_of(folder: Path) -> int | None:
    """The step in a checkpoint's name; None for any other file."""
    digits = folder.name.removeprefix(CHECKPOINT_PREFIX)
    named = folder.name.startswith(CHECKPOINT_PREFIX) and digits.isdecimal()
    return int(digits) if named else None


def tree_of(root: Path, *, is_checkpoint: bool) -> Tree:
    skipped = () if is_checkpoint else _NOT_SEALED
    return Tree(root, tuple(sorted(_walk(root, root, skipped))), is_checkpoint)


def _walk(root: Path, folder: Path, skipped: tuple[str, ...]) -> Iterator[str]:
    """Files and links below `folder`, no link followed."""
    for entry in os.scandir(folder):
        if entry.name in skipped:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, Path(entry.path), ())
        else:
            yield str(Path(entry.path).relative_to(root))


def link_or_device(tree: Tree) -> Finding | None:
    """Nor a pipe, whose reading would never end."""
    for name in tree.files:
        if not stat.S_ISREG((tree.root / name).lstat().st_mode):
            return Finding("NotAFile", f"{name} is a link or a device; the file itself is needed")
    return None


def leftover_of_a_write(tree: Tree) -> Finding | None:
    for name in tree.files:
        if any(_LEFTOVER.search(part) for part in Path(name).parts):
            return Finding("WriteInterrupted", f"{name} is left over from an interrupted write")
    return None


def file_is_empty(tree: Tree) -> Finding | None:
    for name in tree.files:
        if name.endswith(_DATA_SUFFIXES) and (tree.root / name).lstat().st_size == 0:
            return Finding("FileEmpty", f"{name} is empty")
    return None


def file_is_an_lfs_pointer(tree: Tree) -> Finding | None:
    for name in tree.files:
        if name.endswith(_DATA_SUFFIXES) and _starts_with(tree.root / name, _LFS_POINTER):
            text = f"{name} is a Git LFS pointer, not the file; run `git lfs pull`"
            return Finding("LfsPointer", text)
    return None


def manifest_is_missing(tree: Tree) -> Finding | None:
    if MANIFEST in tree.files:
        return None
    text = f"{MANIFEST} is missing: whoever wrote this folder did not finish"
    return Finding("ManifestMissing", text)


def manifest_does_not_match(tree: Tree) -> Finding | None:
    problem = problem_with(tree.root)
    return Finding("ManifestMismatch", problem) if problem else None


def weights_are_missing(tree: Tree) -> Finding | None:
    if [name for name in tree.top_level(".safetensors") if name != "optimizer.safetensors"]:
        return None
    pickled = [*tree.top_level(".bin"), *tree.top_level(".pt"), *tree.top_level(".pth")]
    hint = f"; {pickled[0]} is a pickle, which is never opened" if pickled else ""
    return Finding("WeightsMissing", f"there is no *.safetensors file{hint}")


def config_is_missing(tree: Tree) -> Finding | None:
    if any(name in tree.files for name in MODEL_DIR_FILES):
        return None
    return Finding("ConfigMissing", f"there is neither {' nor '.join(MODEL_DIR_FILES)}")


def tokenizer_is_missing(tree: Tree) -> Finding | None:
    if tree.is_checkpoint or any(name in tree.files for name in TOKENIZER_FILES):
        return None
    return Finding("TokenizerMissing", f"there is none of {', '.join(TOKENIZER_FILES)}")


def json_is_unreadable(tree: Tree) -> Finding | None:
    for name in tree.files:
        if name.endswith(".json"):
            try:
                data = read_json(tree.root / name, JSON_MAX_BYTES)
            except UnreadableFileError as error:
                text = str(error).replace(f"{tree.root}/", "")
                return Finding("JsonUnreadable", text)
            if not isinstance(data, dict) and name in MODEL_DIR_FILES:
                return Finding("JsonUnreadable", f"{name}: no JSON object")
    return None


def step_is_another(tree: Tree) -> Finding | None:
    """A checkpoint says which step it is, in its name and in its state."""
    step = step_of(tree.root)
    if not tree.is_checkpoint or step is None:
        return None
    if TRAINER_STATE not in tree.files:
        return Finding("TrainerStateMissing", f"{TRAINER_STATE} is missing: it cannot be resumed")
    told = read_json(tree.root / TRAINER_STATE, JSON_MAX_BYTES)
    found = told.get("global_step") if isinstance(told, dict) else None
    if found == step:
        return None
    return Finding("StepMismatch", f"{TRAINER_STATE} is of step {found}")


def weights_are_malformed(tree: Tree) -> Finding | None:
    try:
        empty = [name for name, file in tree.weights.items() if not file.tensors]
    except UnreadableFileError as error:
        return Finding("WeightsMalformed", str(error))
    if empty and not tree.is_checkpoint:
        return Finding("WeightsMalformed", f"{empty[0]} holds no tensor")
    return None


def shards_do_not_match(tree: Tree) -> Finding | None:
    """The index and the files must name the same tensors in the same places, both ways."""
    indexes = tree.top_level(_INDEX_SUFFIX)
    shards = {name for name in tree.weights if _SHARD.search(name)}
    if not indexes:
        text = f"{min(shards)} is a part, but there is no index of the parts" if shards else ""
        return Finding("IndexMissing", text) if shards else None
    index = _index(tree.root / indexes[0])
    if index is None:
        return Finding("IndexMismatch", f"{indexes[0]} has no weight_map of names to files")
    found = {tensor: name for name in sorted(shards) for tensor in tree.weights[name].names}
    if problem := _difference(index, found, shards):
        return Finding("IndexMismatch", f"{indexes[0]}: {problem}")
    return None


def _difference(index: dict[str, str], found: dict[str, str], shards: set[str]) -> str:
    if absent := sorted(set(index.values()) - shards):
        return f"the part {absent[0]} is missing"
    if stray := sorted(shards - set(index.values())):
        return f"the part {stray[0]} is not listed"
    wrong = sorted(name for name in {*index, *found} if index.get(name) != found.get(name))
    return f"the tensor {wrong[0]} is not where it is listed" if wrong else ""


def _index(path: Path) -> dict[str, str] | None:
    data = read_json(path, JSON_MAX_BYTES)
    listed: Any = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(listed, dict):
        return None
    return listed if all(isinstance(value, str) for value in listed.values()) else None


def weights_are_not_sealed(tree: Tree) -> Finding | None:
    """A weight file that the trainer did not write would be loaded all the same."""
    strange = sorted(set(tree.weights) - set(read_manifest(tree.root).files))
    return Finding("FileNotListed", f"{strange[0]} is not in {MANIFEST}") if strange else None


def weight_is_not_finite(tree: Tree) -> Finding | None:
    for name, file in tree.weights.items():
        if tensor := first_nonfinite(file):
            return Finding("WeightsNotFinite", f"{name}: {tensor} holds NaN or infinity")
    return None


RULES: tuple[Rule, ...] = (
    link_or_device,
    leftover_of_a_write,
    file_is_empty,
    file_is_an_lfs_pointer,
    manifest_is_missing,
    weights_are_missing,
    config_is_missing,
    tokenizer_is_missing,
    json_is_unreadable,
    step_is_another,
    weights_are_malformed,
    shards_do_not_match,
    manifest_does_not_match,
    weights_are_not_sealed,
    weight_is_not_finite,
)


def _starts_with(path: Path, prefix: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(prefix)) == prefix


def _details(tree: Tree) -> dict[str, Any]:
    return {
        "folder": str(tree.root),
        "files": len(tree.files),
        "tensors": sum(len(file.tensors) for file in tree.weights.values()),
        "weightBytes": sum(file.bytes for file in tree.weights.values()),
    }
