"""The images to build on: a registry's where there is one, else made from Debian's packages."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

from hack.cluster import paths
from hack.cluster.native import prerequisites
from hack.cluster.shell import ClusterError, attempt, run, say, step
from hack.images import builder, inputs, pip_settings
from hack.images.builder import Build, Builder

SUITE = "bookworm"
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
DOCKERFILE = 'FROM scratch\nADD rootfs.tar /\nCMD ["python3"]\n'
# What no container reads; licences stay.
DROPPED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/locale", "usr/share/man", "var/log")


def published() -> str:
    """Read the base image that the Dockerfile names."""
    text = (paths.ROOT / inputs.OPERATOR.dockerfile).read_text()
    found = re.search(r"^ARG BASE_IMAGE=(\S+)", text, re.MULTILINE)
    if not found:
        raise ClusterError("Dockerfile.operator names no BASE_IMAGE")
    return found[1]


def python_base(program: Builder) -> str:
    """Give a base with Python, pulled or made; what is there already is taken."""
    made = f"localhost/finetuning-python:{inputs.digest((), SUITE, PACKAGES, DOCKERFILE)}"
    for name in (made, published()):
        if builder.exists(program, name):
            return name
    with step(f"pulling {published()}"):
        if builder.pull(program, published()):
            return published()
    say("no image registry answers: making a base from Debian's packages, once")
    make_python_base(program, made)
    return made


def make_python_base(program: Builder, name: str) -> None:
    """Bootstrap a small Debian with Python."""
    if os.geteuid() or platform.system() != "Linux":
        raise ClusterError(f"cannot pull {published()}: check Docker's access to its registry")
    prerequisites.need_builder()
    drafts = paths.cache() / "drafts"
    drafts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=drafts) as folder, step(f"making {name}"):
        root, context = Path(folder, "root"), Path(folder, "context")
        context.mkdir()
        options = ["--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)]
        run("debootstrap", *options, *debian_mirror())
        slim(root)
        run("tar", "--create", "--numeric-owner", f"--file={context}/rootfs.tar", "-C", root, ".")
        (context / "Dockerfile").write_text(DOCKERFILE)
        builder.build(program, Build(name, context / "Dockerfile", context, keep_layers=False))


def debian_mirror() -> list[str]:
    """Use the mirror that this machine's apt uses; elsewhere debootstrap knows its own."""
    form = "$(REPO_URI) $(ORIGIN) $(CODENAME)"
    command = ("apt-get", "indextargets", "--format", form, "Created-By: Packages")
    rows = [line.split() for line in attempt(*command).stdout.splitlines()]
    return next(([row[0]] for row in rows if row[1:] == ["Debian", SUITE]), [])


def slim(root: Path) -> None:
    """Remove caches, manuals and translations."""
    for name in DROPPED:
        for entry in (root / name).glob("*"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for file in (root / "usr/share/doc").rglob("*"):
        if file.is_file() and file.name != "copyright":
            file.unlink()


def torch_base(program: Builder) -> str:
    """Give a base with a CPU torch: what Dockerfile.trainer finds on a GPU machine's base."""
    python = python_base(program)
    name = inputs.image_name(inputs.TORCH_CPU, python)
    if builder.exists(program, name):
        return name
    with step("making a base with a CPU torch, once"), tempfile.TemporaryDirectory() as folder:
        context, hidden = Path(folder, "context"), Path(folder, "secrets")
        context.mkdir()
        hidden.mkdir()
        file = inputs.fill_context(inputs.TORCH_CPU, context, None)
        secrets = pip_settings.secrets(hidden)
        wanted = Build(name, file, context, python, secrets, keep_layers=False)
        builder.build(program, wanted)
    builder.remove_old(program, name.rpartition(":")[0], keep=2)
    return name
