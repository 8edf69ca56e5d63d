"""A container of a pod template as a command for this machine; pure but for the environment."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.local import paths

USERS_OWN = frozenset({"HOME", "HF_HOME"})
"""Left as the user has them, so that models are downloaded once and a Hub login counts."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One process to start."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    termination_log: Path
    message_from_log: bool
    """Whether the last lines of a failed process speak for it when it left no message."""
    grace: float
    restarts: bool = False


def launch(
    container: Mapping[str, Any],
    folders: paths.Folders,
    environ: Mapping[str, str],
    *,
    run_folder: Path,
    log: Path,
    grace: float,
) -> Launch:
    """`folders` are the container's mounts; `environ` is what every process of the user gets."""
    words = run_folder / f"termination-{container['name']}"
    moved = {**folders, container["terminationMessagePath"]: str(words)}
    variables = _variables(container["env"], environ)
    argv = [
        paths.localized(paths.expand(part, variables), moved)
        for part in [*container["command"], *container.get("args", [])]
    ]
    return Launch(
        name=container["name"],
        argv=tuple(_interpreter(argv)),
        env={**environ, **_localized(variables, moved), "PYTHONSAFEPATH": "1"},
        log=log,
        termination_log=words,
        message_from_log=container.get("terminationMessagePolicy") == "FallbackToLogsOnError",
        grace=grace,
        restarts=container.get("restartPolicy") == "Always",
    )


def _variables(env: Iterable[Mapping[str, Any]], environ: Mapping[str, str]) -> dict[str, str]:
    """In order, since a value may name those before it; a Secret's key is the user's own export."""
    found: dict[str, str] = {}
    for variable in env:
        name = variable["name"]
        if "value" in variable and name not in USERS_OWN:
            found[name] = paths.expand(variable["value"], found)
        elif "valueFrom" in variable and name in environ:
            found[name] = environ[name]
    return found


def _localized(variables: Mapping[str, str], folders: paths.Folders) -> dict[str, str]:
    local = {name: paths.localized(value, folders) for name, value in variables.items()}
    temporary = folders.get("/tmp")  # noqa: S108 - the container's
    return {**local, "TMPDIR": temporary} if temporary else local


def _interpreter(argv: Sequence[str]) -> list[str]:
    """The image's python3 is the environment that runs this command."""
    return [sys.executable, *argv[1:]] if argv[0] == "python3" else list(argv)


def with_port(argv: Sequence[str], old: int, new: int) -> tuple[str, ...]:
    """The value that stands behind --port, changed."""
    return tuple(
        str(new) if flag == "--port" and part == str(old) else part
        for flag, part in zip(("", *argv), argv, strict=False)
    )
