"""A file of this machine as data: small enough for a ConfigMap, or to be put into a claim first."""

import re
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from finetuning.api.dataset import DatasetColumns
from finetuning.api.hyperparameters import Objective
from finetuning.artifacts.failures import DatasetError
from finetuning.dataset import columns, files, shapes
from finetuning.dataset.rows import explain
from finetuning.scaffold.answers import Answers

CONFIG_MAP_BYTES = 1_000_000
"""A ConfigMap holds 1 MiB with its names."""
_ROWS = {".jsonl", ".json", ".csv", ".parquet"}
"""How files of rows end, and data sets of the Hub do not."""
_KEY = re.compile(r"\.?[-_A-Za-z0-9][-._A-Za-z0-9]*")


class DataError(Exception):
    """The file cannot be used as it is; the message says what to do with it."""


def placed(answers: Answers) -> tuple[Answers, Path | None]:
    """With a ConfigMap's key in place of a file that is here, and that file; else unchanged.

    Raises:
        DataError: the file is not there or empty, too large for a ConfigMap, its name is no key, or
            its rows cannot be trained on.
    """
    path = Path(answers.data).expanduser()
    if not (answers.data and path.is_file()):
        _require_elsewhere(answers.data, path)
        return answers, None
    if not path.stat().st_size:
        raise DataError(f"{path}: is empty; give a file with rows")
    if path.stat().st_size > CONFIG_MAP_BYTES:
        raise DataError(
            f"{path}: {path.stat().st_size / 1e6:.1f} MB are too much for a ConfigMap; copy the "
            f"file into a claim and name it as pvc://<claim>/{path.name}"
        )
    if not _KEY.fullmatch(path.name):
        raise DataError(
            f"{path}: its name must be of letters, digits, '-', '_' and '.' to be a ConfigMap's "
            "key; rename the file"
        )
    _require_rows(path, answers)
    return replace(answers, data=f"configmap:{config_map(answers)}:{path.name}"), path


def _require_rows(path: Path, answers: Answers) -> None:
    """As the trainer will read them; what takes a library that is not here is left to it."""
    try:
        named = DatasetColumns.model_validate(dict(answers.columns)) if answers.columns else None
        read = columns.rename(files.read(path), named)
        rows, _ = shapes.interpret(read, Objective(answers.objective))
    except DatasetError as error:
        raise DataError(_in_own_words(str(error))) from None
    except (ImportError, ValidationError):
        return
    if not rows.rows and not rows.bad:
        raise DataError(f"{path}: holds no rows; add at least one")
    if rows.bad:
        raise DataError(_in_own_words(explain(rows)))


def _in_own_words(text: str) -> str:
    """The trainer names its flags."""
    said = text.replace("--dataset-columns", "--columns")
    return said.replace("--dataset-format", "spec.dataset.format")


def _require_elsewhere(data: str, path: Path) -> None:
    """What names nothing here is taken for a data set of the Hub, and looked for in a pod."""
    if not data or ":" in data or path.is_absolute():
        return
    if path.is_dir():
        raise DataError(
            f"{path}: is a folder here; name a file in it, or hf://{data} for a data set of the Hub"
        )
    if path.suffix.lower() in _ROWS:
        raise DataError(
            f"{path}: no such file here; in a pod a path begins with /, in a claim with pvc://, "
            "in an S3 store with s3://"
        )


def config_map(answers: Answers) -> str:
    return f"{answers.job}-data"
