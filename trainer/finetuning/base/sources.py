"""Where the rows of a run are: a file or a folder here, an object in an S3 store, or the Hub."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from finetuning.api.dataset import DatasetFormat
from finetuning.api.run_config import DatasetConfig
from finetuning.artifacts.archives import unpack_no_links
from finetuning.artifacts.exits import ExitCode
from finetuning.artifacts.failures import DatasetError, first_line
from finetuning.artifacts.volume import leaves
from finetuning.base import cards, hub, s3
from finetuning.dataset import files, streams
from finetuning.dataset.rows import Row, Rows, without_fill

HUB_PREFIX = "hf://"
TEMPLATES = "/workspace/templates/"
"""Where an optional ConfigMap is mounted."""

_SHOWN = 300
"""Characters of a data set's names of its parts, of which there may be hundreds."""


def read(config: DatasetConfig, flag: str = "--dataset-path") -> Rows:
    """Read every row of the configured source; those that are no objects become its bad rows.

    `flag` names the source in what is said of a missing one.

    Raises:
        DatasetError: it is missing, unreadable or empty, or broken in a way that no line ends.
    """
    rows = _read_any(config, flag)
    if not rows.rows and not rows.bad:
        raise DatasetError(f"{rows.source}: holds no rows; add at least one")
    return rows


def _read_any(config: DatasetConfig, flag: str) -> Rows:
    if config.path.startswith(s3.PREFIX):
        path = s3.fetch(config.path, flag)
        return replace(files.read(path, config.format), source=config.path)
    path = Path(config.path).expanduser()
    on_hub = config.format is DatasetFormat.HF and not path.exists()
    if config.path.startswith(HUB_PREFIX) or on_hub:
        return _from_hub(config.path.removeprefix(HUB_PREFIX))
    if hub.in_a_pod():
        _refuse_links_out(path)
    if path.is_dir():
        return _from_folder(path)
    if not path.exists():
        _missing(config.path, flag)
    if not path.is_file():
        raise DatasetError(f"{path}: not a regular file; give a data file or a folder")
    return files.read(path, config.format)


def _refuse_links_out(path: Path) -> None:
    """Of a volume that others fill as well: rows are not what a link finds elsewhere in the pod."""
    inside = path.rglob("*") if path.is_dir() else ()
    for each in (path, *(one for one in inside if one.is_symlink())):
        if leaves(each):
            raise DatasetError(
                f"{each}: is a link out of its volume; put the file there itself, or remove it"
            )


def _missing(path: str, flag: str) -> NoReturn:
    more = f", or {HUB_PREFIX}{path} for the Hub" if re.fullmatch(r"[^/]+/[^/]+", path) else ""
    if path.startswith(TEMPLATES):
        more = f"; in a cluster that is the key {path.removeprefix(TEMPLATES)} of the ConfigMap "
        more += "finetuning-templates in the job's namespace: create it, then the job again"
    raise DatasetError(f"{flag} {path}: no such file or folder; check the path{more}")


def _from_folder(path: Path) -> Rows:
    """A folder written by `save_to_disk` of `datasets`, or one with data files of one kind."""
    import datasets  # noqa: PLC0415 - takes seconds

    unpack_no_links()
    cards.require_own_rows(str(path), path)
    datasets.disable_progress_bars()
    saved = any((path / name).is_file() for name in cards.NOTES)
    if saved:
        cards.require_own_parts(str(path), path)
    try:
        data = datasets.load_from_disk(str(path)) if saved else datasets.load_dataset(str(path))
    except Exception as error:  # A damaged folder makes the library raise anything.
        _refuse_parts(str(path), str(path), error)
        raise DatasetError(
            f"{path}: not a folder that `datasets` can read: {first_line(error)}; "
            f"give one written by save_to_disk, or a {files.SUFFIXES} file"
        ) from error
    return _from_datasets(str(path), data)


def _from_hub(name: str) -> Rows:
    import datasets  # noqa: PLC0415 - takes seconds

    unpack_no_links()
    source = HUB_PREFIX + name
    cards.require_own_rows_on_the_hub(source, name)
    try:
        data = datasets.load_dataset(name)
    except Exception as error:  # The network's and the Hub's failures are many.
        _refuse_parts(source, name, error)
        result = DatasetError(
            f"{source}: cannot be loaded: {first_line(error)}; check the name, the network and "
            "HF_TOKEN for private data, or give a local file"
        )
        if hub.trouble_of(error) or (hub.is_unreachable(error) and hub.in_a_pod()):
            result.exit_code = ExitCode.FAILED
        raise result from error
    return _from_datasets(source, data)


def _refuse_parts(source: str, name: str, error: Exception) -> None:
    """Raises DatasetError where the library wants to be told which part of a data set is meant."""
    found = re.search(r"available configs: \[(.*)\]", str(error))
    if found:
        first = found[1].split(",")[0]
        raise DatasetError(
            f"{source}: has several parts ({found[1][:_SHOWN]}); "
            + _as_a_file(name, f"{first}, split='train'")
        ) from error


def _as_a_file(name: str, which: str) -> str:
    saved = (Path(name) / "dataset_dict.json").is_file()
    split = which.removeprefix("split=")
    load = f"load_from_disk({name!r})[{split}]" if saved else f"load_dataset({name!r}, {which})"
    return (
        "save the one that is meant as a file and give that, in Python: "
        f"datasets.{load}.to_json('train.jsonl')"
    )


def _from_datasets(source: str, data: Any) -> Rows:
    """The `train` split, or the only one."""
    splits = data if isinstance(data, dict) else {"train": data}
    if "train" not in splits and len(splits) != 1:
        names = ", ".join(map(str, splits))
        first = next(iter(splits))
        raise DatasetError(
            f"{source}: has the splits {names} and no `train` among them; "
            f"{_as_a_file(source.removeprefix(HUB_PREFIX), f'split={first!r}')}"
        )
    name = "train" if "train" in splits else next(iter(splits))
    chosen = splits[name]
    chosen.info.features = type(chosen.features)(_as_stored(chosen.features))
    if chosen.data.nbytes > files.IN_MEMORY_BYTES:
        return streams.numbered(
            source, len(chosen), lambda line, at: Row(line, without_fill(chosen[at]))
        )
    return files.numbered(source, map(without_fill, chosen))


def _as_stored(feature: Any) -> Any:
    """Pictures, sounds and the like as they lie there: to decode one may mean to fetch it."""
    if isinstance(feature, dict):
        return {name: _as_stored(part) for name, part in feature.items()}
    if (inner := getattr(feature, "feature", None)) is not None:
        return replace(feature, feature=_as_stored(inner))
    decodes = getattr(feature, "decode", False) and type(feature).__name__ != "Json"
    return replace(feature, decode=False) if decodes else feature
