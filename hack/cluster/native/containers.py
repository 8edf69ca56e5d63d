"""The container runtime of the native node: images in, containers out."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hack.cluster import paths
from hack.cluster.native import config
from hack.cluster.shell import attempt, run
from hack.images.oci import ScratchImage, write_archive

CTR = ("ctr", "--address", str(config.SOCKET), "--namespace", "k8s.io")


def answers() -> bool:
    """Tell whether the runtime serves."""
    return attempt(*CTR, "version", timeout=10).returncode == 0


def forget_all() -> bool:
    """Remove every container, dead or alive, and tell whether there was one."""
    found = attempt(*CTR, "containers", "list", "--quiet", timeout=20).stdout.split()
    for name in found:
        attempt(*CTR, "tasks", "delete", "--force", name, timeout=20)
        attempt(*CTR, "containers", "delete", name, timeout=20)
    if found:
        shutil.rmtree(config.containerd_root() / "io.containerd.grpc.v1.cri", ignore_errors=True)
    return bool(found)


def digests() -> dict[str, str]:
    """Give the digest of every image reference."""
    lines = attempt(*CTR, "images", "list").stdout.splitlines()[1:]
    rows = (line.split() for line in lines)
    return {row[0]: row[2] for row in rows if len(row) > 2}  # noqa: PLR2004


def images() -> set[str]:
    """Name the images that the node has."""
    return set(digests())


def blobs() -> Path:
    """Find the folder where the runtime keeps the content of images by digest."""
    return config.containerd_root() / "io.containerd.content.v1.content" / "blobs" / "sha256"


def import_command(archive: str) -> list[str]:
    """Import an archive, or `-` for a stream; layers that the node has need not be in it."""
    local = ["--local"] if supports_local() else []
    return [*CTR, "images", "import", *local, archive]


def load_archive(archive: Path) -> None:
    """Import an archive."""
    run(*import_command(str(archive)))


def supports_local() -> bool:
    """Tell whether this `ctr` would otherwise hand the import to a transfer service."""
    return "--local" in attempt("ctr", "images", "import", "--help").stdout


def load_scratch(image: ScratchImage) -> None:
    """Make a one-layer image and import it."""
    with tempfile.TemporaryDirectory(dir=paths.RUN) as folder:
        archive = Path(folder) / "image.tar"
        with archive.open("wb") as out:
            write_archive(image, out)
        load_archive(archive)


def tag(source: str, name: str) -> None:
    """Give an image one more name."""
    run(*CTR, "images", "tag", "--force", source, name)


def remove(names: list[str]) -> None:
    """Remove images by name, and the references by number that would keep their layers."""
    if names:
        attempt(*CTR, "images", "remove", *names)
    numbers = unnamed(digests())
    if numbers:
        attempt(*CTR, "images", "remove", *numbers)


def unnamed(known: dict[str, str]) -> list[str]:
    """List the runtime's own references to images that have lost every name."""
    wanted = {digest for name, digest in known.items() if not name.startswith("sha256:")}
    return [name for name, digest in known.items() if digest not in wanted]


def main_pid(container_id: str) -> int:
    """Find the first process of a running container."""
    for line in run(*CTR, "tasks", "list").splitlines():
        words = line.split()
        if words and words[0] == container_id:
            return int(words[1])
    return 0


def version() -> str:
    """Read the runtime's version: its configuration has two dialects."""
    words = run("containerd", "--version").split()
    return words[2].removeprefix("v") if len(words) > 2 else "1"  # noqa: PLR2004
