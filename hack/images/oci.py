"""Write a one-layer image from files alone: enough for static programs, needs no builder."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class ScratchImage:
    """Static programs by their path in the image, and how to start one of them."""

    name: str
    files: Mapping[str, Path]
    entrypoint: tuple[str, ...]
    user: str = "65534:65534"
    writable: tuple[str, ...] = ()
    architecture: str = "amd64"


def layer(image: ScratchImage) -> bytes:
    """Pack the files with fixed owners and times: the same input gives the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in image.writable:
            entry = tarfile.TarInfo(path.strip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(entry)
        for path, file in sorted(image.files.items()):
            entry = tarfile.TarInfo(path.strip("/"))
            entry.size, entry.mode = file.stat().st_size, 0o755
            with file.open("rb") as content:
                tar.addfile(entry, content)
    return buffer.getvalue()


def config(image: ScratchImage, digest: str) -> bytes:
    """Describe how the image runs."""
    return encode(
        {
            "architecture": image.architecture,
            "os": "linux",
            "config": {"Entrypoint": list(image.entrypoint), "User": image.user},
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
    )


def encode(value: Mapping[str, Any]) -> bytes:
    """Encode without anything that varies."""
    return json.dumps(value, sort_keys=True).encode()


def blob(kind: str, content: bytes) -> dict[str, Any]:
    """Refer to content by its digest."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": kind, "digest": digest, "size": len(content)}


def write_archive(image: ScratchImage, out: IO[bytes]) -> None:
    """Write the archive that `ctr images import` and `docker load` read."""
    packed = layer(image)
    packed_ref = blob(LAYER, packed)
    described = config(image, packed_ref["digest"])
    described_ref = blob(CONFIG, described)
    manifest = encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described_ref,
            "layers": [packed_ref],
        }
    )
    entry = {**blob(MANIFEST, manifest), "annotations": names(image.name)}
    with tarfile.open(fileobj=out, mode="w") as tar:
        add_index(tar, [entry])
        for ref, content in ((packed_ref, packed), (described_ref, described), (entry, manifest)):
            add_blob(tar, ref["digest"], content)


def names(name: str) -> dict[str, str]:
    """Give the image's name in the two ways that importers look for it."""
    return {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }


def add_index(tar: tarfile.TarFile, manifests: list[dict[str, Any]]) -> None:
    """Add the two files that every layout begins with."""
    add(tar, "oci-layout", encode({"imageLayoutVersion": "1.0.0"}))
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    add(tar, "index.json", encode(index))


def add_blob(tar: tarfile.TarFile, digest: str, content: bytes) -> None:
    """Add content under its digest."""
    add(tar, blob_path(digest), content)


def blob_path(digest: str) -> str:
    """Place content in the layout."""
    return f"blobs/{digest.replace(':', '/')}"


def add(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    """Add one file to the archive."""
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
