"""Finding the model that was tuned: a folder here, or a name on the Hub."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.artifacts import ADAPTER_CONFIG, MODEL_CONFIG
from finetuning.artifacts.files import UnreadableFileError, read_json
from finetuning.artifacts.models import CheckResult
from finetuning.monitoring.validators.outcome import Finding
from finetuning.monitoring.validators.subject import Subject

_PATHS = (".", "/", "~")
_HUB_SECONDS = 10.0


@dataclass(frozen=True)
class Base:
    """The model that was tuned: a folder here, or a name on the Hub."""

    name: str
    is_local: bool
    revision: str | None = None


def find_base(subject: Subject, folder: Path, *, is_adapter: bool) -> Base | Finding | None:
    """The folder that was named, else the one the run recorded, else the model's name on the Hub.

    A full model needs no base to answer: where the Hub may not be asked, it has none.
    """
    found = _at_hand(subject, folder)
    if found is not None:
        return found
    recorded = _recorded(subject, folder)
    hub = _name_on_the_hub(recorded)
    if hub is None:
        missing = base_missing(f"{recorded[0]} is not there" if recorded else "nothing names it")
        return missing if is_adapter else None
    if not is_adapter and (_offline() or not _hub_answers()):
        return None
    return Base(hub, is_local=_offline(), revision=_revision(subject))


def _at_hand(subject: Subject, folder: Path) -> Base | Finding | None:
    """A folder on this machine, which no network is asked for; the Hub's cache has some, too."""
    named = subject.settings.base_model_path
    if named is not None:
        if _is_folder(named):
            return Base(str(Path(named).resolve()), is_local=True)
        return base_missing(f"{named} holds no {MODEL_CONFIG}")
    recorded = _recorded(subject, folder)
    for name in recorded:
        path = Path(name).resolve()
        # A folder in the result would be the run's own choice of what it is compared with.
        if _is_folder(path) and not path.is_relative_to(folder.resolve()):
            return Base(str(path), is_local=True)
    hub = _name_on_the_hub(recorded)
    kept = _in_the_cache(hub, _revision(subject)) if hub is not None else None
    return Base(str(kept), is_local=True) if kept is not None else None


def _name_on_the_hub(recorded: list[str]) -> str | None:
    return next((name for name in recorded if not name.startswith(_PATHS)), None)


def _revision(subject: Subject) -> str | None:
    revision = subject.info.training_config.get("revision") if subject.info else None
    return revision if isinstance(revision, str) else None


def _in_the_cache(name: str, revision: str | None) -> Path | None:
    """The Hub's copy where there is a whole one: its files can be looked at."""
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - for a name on the Hub alone

        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except Exception:  # noqa: BLE001 - its absence, a name of no model, a cache that is not readable
        return None
    return folder if _is_folder(folder) and any(folder.glob("*.safetensors")) else None


def _hub_answers() -> bool:
    """Whatever it says. Its client would try for minutes, and a whole model does without."""
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        from huggingface_hub import get_session  # noqa: PLC0415 - of the Hub alone

        get_session().head(address, timeout=_HUB_SECONDS)
    except Exception:  # noqa: BLE001 - the network's failures are many
        return False
    return True


def _is_folder(name: str | Path) -> bool:
    return (Path(name) / MODEL_CONFIG).is_file()


def base_folder(subject: Subject) -> Path | None:
    """The base model's folder, where it is on this machine."""
    if subject.model_path is None:
        return None
    found = _at_hand(subject, subject.model_path)
    return Path(found.name) if isinstance(found, Base) else None


def base_missing(why: str) -> Finding:
    text = f"The adapter's base model was not found; name its folder with --base-model ({why})"
    return Finding("BaseModelMissing", text, CheckResult.ERROR)


def _recorded(subject: Subject, folder: Path) -> list[str]:
    """Names of the base model, the most trustworthy first; where a name is told, only that."""
    info, told = subject.info, subject.settings.model_id
    if told and not told.startswith(_PATHS):
        return [told]
    names: list[Any] = [told]  # A path may be told from elsewhere: the run has the whole of it.
    if info is not None:
        names += [info.base_model_path, info.training_config.get("model_id"), info.model_id]
    try:
        config = read_json(folder / ADAPTER_CONFIG)
        names.append(config.get("base_model_name_or_path"))
    except (UnreadableFileError, AttributeError):
        pass
    return [name for name in names if isinstance(name, str) and name]


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
