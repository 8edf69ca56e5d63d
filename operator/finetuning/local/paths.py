"""A container's paths and variables as those of a local process; pure functions on text."""

import json
import re
from collections.abc import Mapping
from typing import Any

Folders = Mapping[str, str]
"""Path inside the container → path on this machine."""

_REFERENCE = re.compile(r"\$(?:(\$)|\(([^)]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` as kubelet expands it: unknown names stay as they are, `$$` is one `$`."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[1] else variables.get(found[2], found[0])

    return _REFERENCE.sub(value, text)


def localized(text: str, folders: Folders) -> str:
    """`text` with every path below a container folder moved; in JSON only whole strings move."""
    if text.startswith(("{", "[")):
        try:
            return json.dumps(_moved_inside(json.loads(text), folders), ensure_ascii=False)
        except ValueError:
            pass
    return _moved(text, folders)


def moved(path: str, folders: Folders) -> str:
    """`path` on this machine when it is, as a whole, a path below a container folder."""
    for inside in sorted(folders, key=len, reverse=True):
        if path == inside or path.startswith(f"{inside}/"):
            return folders[inside] + path[len(inside) :]
    return path


def _moved_inside(value: Any, folders: Folders) -> Any:
    match value:
        case str():
            return moved(value, folders)
        case list():
            return [_moved_inside(item, folders) for item in value]
        case dict():
            return {key: _moved_inside(item, folders) for key, item in value.items()}
        case _:
            return value


def _moved(text: str, folders: Folders) -> str:
    """Paths inside longer text: neither preceded nor followed by what continues a path's name."""
    if not folders:
        return text
    # The longest first, and all in one pass, so that no result is taken for a container path.
    names = "|".join(re.escape(name) for name in sorted(folders, key=len, reverse=True))
    pattern = rf"(?<![\w./~-])(?:{names})(?![\w.~+@%-])"
    return re.sub(pattern, lambda found: folders[found[0]], text)
