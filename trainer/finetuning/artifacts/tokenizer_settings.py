"""Settings of a tokenizer that name a file: transformers opens what some of them name.

`vocab: /proc/self/environ` makes a token of all keys of the process, and a model that answers with
it writes them down.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from finetuning.artifacts.nested import texts_in

FILES = ("tokenizer_config.json", "special_tokens_map.json")
"""Those whose settings the class of a tokenizer is made with."""

_NEVER_OPENED = {
    "added_tokens_decoder", "chat_template", "name_or_path", "special_tokens_map_file",
    "tokenizer_file",
}  # fmt: skip
"""Tokens, a template, and names of the machine that saved it, which others take the place of."""

_KERNELS = ("/proc/", "/dev/", "/sys/")


def named_file(paths: Iterable[Path]) -> str:
    """The first of these settings that names a file of somebody else's; empty where none does.

    What cannot be read as settings is for whoever loads it to tell.
    """
    for path in paths:
        for name, value in _settings(path).items():
            for text in texts_in(value) if name not in _NEVER_OPENED else ():
                if (_is_file(text) and not _is_inside(path.parent, text)) or _is_the_kernels(text):
                    return f"{path.name}: {name} names the file {text}"
    return ""


def _is_file(text: str) -> bool:
    """False also for what is no path, on which pathlib raises."""
    return os.path.exists(text) and not os.path.isdir(text)  # noqa: PTH110, PTH112


def _is_the_kernels(text: str) -> bool:
    """Also of what is not there yet: a thread that starts later has the same environment."""
    path = os.path.realpath(text) if "/" in text and "\0" not in text else ""
    return path.startswith(_KERNELS)


def _is_inside(folder: Path, text: str) -> bool:
    """The model's own, as where somebody works in its folder; a link counts as what it leads to."""
    return Path(os.path.realpath(text)).is_relative_to(os.path.realpath(folder))


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
