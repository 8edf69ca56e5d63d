"""Move an image from buildah to containerd without copying what is there already."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from pathlib import Path

from hack.cluster import paths
from hack.cluster.native import containers
from hack.cluster.shell import step
from hack.images import builder


def deliver(name: str) -> None:
    """Import an image into the native node, unless it is there."""
    if name not in containers.images():
        with step(f"importing {name}"):
            move(name)
    containers.tag(name, f"{name.rpartition(':')[0]}:dev")


def move(name: str) -> None:
    """Write the image beside links to the node's own layers; what is no link is new."""
    drafts = paths.cache() / "drafts"
    drafts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=drafts) as folder:
        layout, archive = Path(folder, "layout"), Path(folder, "image.tar")
        link_known(layout)
        builder.export_layout(name, layout)
        rename(layout, name)
        pack_new(layout, archive)
        containers.load_archive(archive)


def link_known(layout: Path) -> None:
    """Offer the node's layers to the export by hard links, which cost nothing."""
    target = layout / "blobs" / "sha256"
    target.mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    known = containers.blobs()
    for blob in known.iterdir() if known.exists() else ():
        os.link(blob, target / blob.name)


def rename(layout: Path, name: str) -> None:
    """Put the full name into the index, where containerd reads it."""
    index = json.loads((layout / "index.json").read_text())
    for manifest in index["manifests"]:
        manifest["annotations"] = {"io.containerd.image.name": name}
    (layout / "index.json").write_text(json.dumps(index))


def pack_new(layout: Path, archive: Path) -> None:
    """Pack the index and what the export has written."""
    with tarfile.open(archive, "w") as tar:
        for name in ("oci-layout", "index.json"):
            tar.add(layout / name, name)
        for blob in sorted((layout / "blobs" / "sha256").iterdir()):
            if blob.stat().st_nlink == 1:
                tar.add(blob, f"blobs/sha256/{blob.name}")
