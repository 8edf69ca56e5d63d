"""What a data set's card says of where its rows are: in the data set, and nowhere else.

`datasets` fetches whatever address stands there, from inside the cluster's network, and reads any
path of the pod.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from finetuning.artifacts.failures import DatasetError
from finetuning.artifacts.files import UnreadableFileError, read_bounded
from finetuning.artifacts.nested import texts_in

CARDS = ("README.md", ".huggingface.yaml")
NOTES = {"dataset_dict.json": "splits", "state.json": "_data_files"}
"""Of one that `save_to_disk` wrote, and what in each names files or folders."""
_LARGEST = 8 << 20
_FRONT = re.compile(r"\s*---[\r\n]+([\S\s]*?)[\r\n]+---(\r\n|\n|$)")
_PLACES = ("data_files", "data_dir")


def require_own_rows(source: str, folder: Path) -> None:
    """Raises DatasetError where a card of the folder takes rows from elsewhere."""
    for name in CARDS:
        # In a cache of the Hub's it is a link.
        path = (folder / name).resolve()
        if path.exists():
            _require(source, name, _read(path))


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, _LARGEST)
    except UnreadableFileError as error:
        raise DatasetError(f"{error}; remove it, or give a data file") from error


def require_own_rows_on_the_hub(source: str, name: str) -> None:
    """The same of a data set of the Hub; a Hub that does not answer is left to who asks it next."""
    from huggingface_hub import errors, hf_hub_download  # noqa: PLC0415 - takes a second

    for card in CARDS:
        try:
            path = Path(hf_hub_download(name, card, repo_type="dataset"))
        except errors.RemoteEntryNotFoundError:
            continue
        except Exception:  # noqa: BLE001 - the network's and the Hub's failures are many
            return
        require_own_rows(source, path.parent)


def _require(source: str, card: str, data: bytes) -> None:
    text = data.decode(errors="replace")
    if not card.endswith(".yaml"):
        front = _FRONT.match(text)
        text = front[1] if front else ""
    _require_inside(source, card, _places(text))


def _require_inside(source: str, card: str, places: Iterator[str]) -> None:
    for place in places:
        if "://" in place or place.startswith("/") or ".." in PurePosixPath(place).parts:
            raise DatasetError(
                f"{source}: its {card} takes rows from {place[:200]!r}, which is not in the data "
                "set; save them as a file and give that"
            )


def require_own_parts(source: str, folder: Path) -> None:
    """The same of one written by `save_to_disk`, whose notes name its splits and its files."""
    for name, field in NOTES.items():
        for path in sorted(folder.rglob(name)):
            _require_inside(source, name, texts_in(_noted(path).get(field)))


def _noted(path: Path) -> dict[str, Any]:
    """What is no object is none to the library either."""
    try:
        told = json.loads(_read(path.resolve()))
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _places(text: str) -> Iterator[str]:
    """Of each part of the data set; what is no YAML is none to the library either."""
    try:
        told = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return
    parts = told.get("configs") if isinstance(told, dict) else None
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict):
            yield from (text for name in _PLACES for text in texts_in(part.get(name)))
