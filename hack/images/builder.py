"""Build with Docker or buildah: the same Dockerfiles, one small interface."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from hack.cluster import paths
from hack.cluster.shell import attempt, run

if TYPE_CHECKING:
    from collections.abc import Mapping

RUN_ROOT = Path("/run/finetuning-images")
PULL_TIMEOUT_S = 600.0


class Builder(StrEnum):
    """The program that builds, by its name on the PATH."""

    DOCKER = "docker"
    BUILDAH = "buildah"


@dataclass(frozen=True)
class Build:
    """One build: where its files lie, what it is called, what it may see."""

    name: str
    dockerfile: Path
    context: Path
    base: str = ""
    secrets: Mapping[str, Path] = field(default_factory=dict)
    keep_layers: bool = True


def buildah(*words: str | Path) -> list[str]:
    """Keep buildah's images in the cache, apart from the user's own."""
    root = paths.cache() / "buildah"
    place = ["--root", str(root), "--runroot", str(RUN_ROOT)]
    return ["buildah", *place, "--storage-driver", "overlay", *map(str, words)]


def exists(builder: Builder, name: str) -> bool:
    """Tell whether the builder has the image."""
    match builder:
        case Builder.DOCKER:
            command = ["docker", "image", "inspect", name]
        case Builder.BUILDAH:
            command = buildah("inspect", "--type", "image", name)
    return attempt(*command).returncode == 0


def pull(builder: Builder, name: str) -> bool:
    """Try to get an image from a registry; no registry is an answer, too."""
    match builder:
        case Builder.DOCKER:
            command = ["docker", "pull", "--quiet", name]
        case Builder.BUILDAH:
            command = buildah("pull", "--quiet", name)
    return attempt(*command, timeout=PULL_TIMEOUT_S).returncode == 0


def build(builder: Builder, wanted: Build) -> None:
    """Build one image."""
    words = ["--file", str(wanted.dockerfile), "--tag", wanted.name]
    words += ["--build-arg", f"BASE_IMAGE={wanted.base}"] if wanted.base else []
    for name, file in wanted.secrets.items():
        words += ["--secret", f"id={name},src={file}"]
    match builder:
        case Builder.DOCKER:
            command = ["docker", "build", "--quiet", *words, str(wanted.context)]
        case Builder.BUILDAH:
            layers = f"--layers={str(wanted.keep_layers).lower()}"
            fixed = ["bud", "--isolation", "chroot", "--pull-never", "--quiet", layers]
            command = buildah(*fixed, *words, wanted.context)
    run(*command, env={"DOCKER_BUILDKIT": "1"})


def tag(builder: Builder, name: str, alias: str) -> None:
    """Give an image a second name."""
    match builder:
        case Builder.DOCKER:
            run("docker", "tag", name, alias)
        case Builder.BUILDAH:
            run(*buildah("tag", name, alias))


def remove_old(builder: Builder, repository: str, keep: int) -> list[str]:
    """Remove all but the newest images of one repository and give their names."""
    names = [name for name in by_age(builder, repository) if not name.endswith(":dev")][keep:]
    for name in names:
        remove = ["docker", "rmi", name] if builder is Builder.DOCKER else buildah("rmi", name)
        attempt(*remove)
    return names


def by_age(builder: Builder, repository: str) -> list[str]:
    """List a repository's images, the newest first."""
    if builder is Builder.DOCKER:
        form = "{{.Repository}}:{{.Tag}}"
        return run("docker", "images", "--format", form, repository).split()
    found = json.loads(run(*buildah("images", "--json")) or "[]")
    dated = [(i["created"], name) for i in found or [] for name in i.get("names") or []]
    return [name for _, name in sorted(dated, reverse=True) if name.startswith(f"{repository}:")]


def tidy(builder: Builder) -> None:
    """Leave nothing of a build outside the cache."""
    if builder is Builder.BUILDAH:
        attempt("umount", paths.cache() / "buildah" / "overlay")
        shutil.rmtree(RUN_ROOT, ignore_errors=True)
