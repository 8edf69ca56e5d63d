"""Tasks of lm-evaluation-harness from files of the user's, taken without any code in them.

Such a file may name Python functions, metrics and data sets that are programs. Whoever writes one
could give a verdict on their own model: only the fields are taken that say what to ask and how to
count, and data come from files alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from finetuning.artifacts.files import UnreadableFileError, read_bounded
from finetuning.artifacts.volume import leaves

MAX_BYTES = 1 << 20
SUFFIXES = (".yaml", ".yml")
FORMATS = ("json", "csv", "parquet", "text")
"""What `dataset_path` may be: a reader of files."""

_PLAIN = {
    "task", "task_alias", "tag", "dataset_path", "training_split", "validation_split",
    "test_split", "fewshot_split", "doc_to_text", "doc_to_target", "doc_to_choice", "description",
    "target_delimiter", "fewshot_delimiter", "num_fewshot", "output_type", "repeats", "metadata",
    "gen_prefix",
}  # fmt: skip
_FIELDS = {*_PLAIN, "dataset_kwargs", "metric_list", "generation_kwargs", "filter_list"}
_METRIC = {"metric", "aggregation", "higher_is_better", "ignore_case", "ignore_punctuation",
           "ignore_numbers", "regexes_to_ignore"}  # fmt: skip
_GENERATION = {"until", "do_sample", "temperature", "max_gen_toks"}

Task = dict[str, Any]


def read_tasks(folder: Path) -> dict[str, Task]:
    """The tasks of a folder by their names; paths of data are made those below the folder.

    Raises:
        UnreadableFileError: no such folder, or a file that is no task or wants code to be run.
    """
    if not folder.is_dir():
        raise UnreadableFileError(f"{folder}: there is no such folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    tasks = [_read(path) for path in paths]
    return {task["task"]: task for task in tasks}


def _read(path: Path) -> Task:
    try:
        # In a mounted ConfigMap every file is a link.
        told = yaml.safe_load(read_bounded(path.resolve(), MAX_BYTES))
        return _task(told, path.parent)
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        hint = "; functions are not called" if "!function" in text else ""
        raise UnreadableFileError(f"{path}: {text}{hint}") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError(f"{path}: {error}") from error


def _task(told: Any, folder: Path) -> Task:
    """Raises ValueError naming the field."""
    if not isinstance(told, dict) or not isinstance(told.get("task"), str):
        raise ValueError("a task is an object with its name as `task`")  # noqa: TRY004
    _only(told, _FIELDS, "")
    if told.get("dataset_path") not in FORMATS:
        allowed = ", ".join(FORMATS)
        raise ValueError(f"dataset_path: {told.get('dataset_path')!r} is none of {allowed}")
    for metric in _objects(told, "metric_list"):
        _only(metric, _METRIC, "metric_list.")
    _only(_object(told, "generation_kwargs"), _GENERATION, "generation_kwargs.")
    kwargs = _object(told, "dataset_kwargs")
    _only(kwargs, {"data_files"}, "dataset_kwargs.")
    return {**told, "dataset_kwargs": {"data_files": _files(kwargs.get("data_files"), folder)}}


def _only(told: Mapping[str, Any], known: set[str], where: str) -> None:
    if strange := sorted(set(map(str, told)) - known):
        allowed = ", ".join(sorted(known))
        raise ValueError(f"{where}{strange[0]} is not taken here; allowed are {allowed}")


def _object(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = told.get(name) or {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object")  # noqa: TRY004
    return value


def _objects(told: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = told.get(name) or []
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise ValueError(f"{name} must be a list of objects")
    return value


def _files(told: Any, folder: Path) -> Any:
    """A path, a list of paths, or either by split."""
    if isinstance(told, dict):
        return {str(split): _files(part, folder) for split, part in told.items()}
    if isinstance(told, list):
        return [_files(part, folder) for part in told]
    if not isinstance(told, str) or not told:
        raise ValueError("dataset_kwargs.data_files must name files")
    if told.startswith("/") or ".." in Path(told).parts:
        raise ValueError(f"dataset_kwargs.data_files: {told!r} is not below the task's own folder")
    path = folder / told
    if not path.is_file():
        raise ValueError(f"dataset_kwargs.data_files: there is no file {path}")
    if leaves(path):
        raise ValueError(f"dataset_kwargs.data_files: {path} is a link out of its volume")
    return str(path.absolute())
