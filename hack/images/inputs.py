"""What an image is made of: its files, and the name that follows from them."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hack.cluster import paths

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SOURCES = ("operator/finetuning", "trainer/finetuning", "sidecar/finetuning")
WHEEL_INPUTS = (*SOURCES, "pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Recipe:
    """An image of this repository: a Dockerfile, the files that it copies, its base."""

    name: str
    dockerfile: str
    files: tuple[str, ...]
    has_wheel: bool = True


OPERATOR = Recipe("operator", "Dockerfile.operator", ("requirements/operator.lock",))
TRAINER = Recipe("trainer", "Dockerfile.trainer", ("requirements/trainer.lock",))
TORCH_CPU = Recipe(
    "torch-cpu",
    "hack/images/Dockerfile.torch-cpu",
    ("requirements/torch-cpu.lock", "hack/stub_cuda.py"),
    has_wheel=False,
)


def files_below(name: str) -> list[Path]:
    """List the files of a source folder, without what running it leaves there."""
    top = paths.ROOT / name
    if top.is_file():
        return [top]
    found = (file for file in top.rglob("*") if file.is_file())
    return sorted(file for file in found if "__pycache__" not in file.parts)


def digest(names: Iterable[str], *words: str) -> str:
    """Hash files by path and content, and words beside them."""
    whole = hashlib.sha256("\0".join(words).encode())
    for name in names:
        for file in files_below(name):
            content = file.read_bytes()
            place = file.relative_to(paths.ROOT)
            whole.update(f"\0{place}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()[:12]


def image_name(recipe: Recipe, base: str) -> str:
    """Name an image after everything it depends on: the same inputs are the same image."""
    wheel = WHEEL_INPUTS if recipe.has_wheel else ()
    tag = digest((recipe.dockerfile, *recipe.files, *wheel), base)
    return f"localhost/finetuning-{recipe.name}:{tag}"


def fill_context(recipe: Recipe, folder: Path, wheel: Path | None) -> Path:
    """Copy what the Dockerfile asks for into an empty folder, and give the Dockerfile's path."""
    for name in (recipe.dockerfile, *recipe.files):
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths.ROOT / name, copy)
    if wheel:
        (folder / "dist").mkdir()
        shutil.copyfile(wheel, folder / "dist" / wheel.name)
    return folder / recipe.dockerfile
