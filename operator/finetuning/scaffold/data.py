"""A file of this machine as data: small enough for a ConfigMap, or to be put into a claim first."""

import re
from dataclasses import replace
from pathlib import Path

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
        DataError: the file is not there or empty, too large for a ConfigMap, or its name is no key.
    """
    path = Path(answers.data)
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
    return replace(answers, data=f"configmap:{config_map(answers)}:{path.name}"), path


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
