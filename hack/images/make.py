"""Make the repository's images and hand them to the cluster."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hack.cluster import paths
from hack.cluster.shell import ClusterError, locked, run, say, step, write
from hack.images import base, builder, inputs, pip_settings
from hack.images.builder import Build, Builder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hack.images.inputs import Recipe

RECIPES = {"operator": inputs.OPERATOR, "trainer": inputs.TRAINER}
KEPT = 3


def make(
    names: Iterable[str],
    program: Builder,
    deliver: Callable[[str], None],
    forget: Callable[[list[str]], None],
) -> None:
    """Build what is missing, deliver it to the cluster, and keep the newest few of each."""
    lock = paths.cache() / "locks" / "images"
    with locked(lock, "waiting: images are being built"):
        try:
            for name in names:
                image = ensure(RECIPES[name], program)
                deliver(image)
                record(name, image)
                forget(builder.remove_old(program, image.rpartition(":")[0], KEPT))
        finally:
            builder.tidy(program)


def ensure(recipe: Recipe, program: Builder) -> str:
    """Give the image of the present sources, built if it is not there."""
    bases = {"operator": base.python_base, "trainer": base.torch_base}
    below = bases[recipe.name](program)
    name = inputs.image_name(recipe, below)
    if not builder.exists(program, name):
        with step(f"building {name}"):
            build(recipe, program, name, below)
    builder.tag(program, name, f"{name.rpartition(':')[0]}:dev")
    return name


def build(recipe: Recipe, program: Builder, name: str, below: str) -> None:
    """Build in a folder that holds exactly what the Dockerfile copies."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [Path(folder, part) for part in ("context", "secrets", "dist")]
        for part in parts:
            part.mkdir()
        context, hidden, dist = parts
        file = inputs.fill_context(recipe, context, build_wheel(dist))
        secrets = pip_settings.secrets(hidden)
        builder.build(program, Build(name, file, context, below, secrets))


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel from the checkout as it is."""
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    if uv:
        run(uv, "build", "--quiet", "--wheel", "--out-dir", folder, paths.ROOT)
    else:
        run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, paths.ROOT)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ClusterError("the wheel was not built: type `make setup` and try again")
    return wheels[0]


def record(name: str, image: str) -> None:
    """Keep the full name where `make deploy` looks for it."""
    known = json.loads(paths.IMAGES_FILE.read_text()) if paths.IMAGES_FILE.exists() else {}
    write(paths.IMAGES_FILE, json.dumps({**known, name: image}, indent=1) + "\n")
    say(f"{name}: {image}")
