"""Read images out of buildah's storage layer by layer.

`buildah push` writes and packs every layer of an image on every call: a minute for two gigabytes
of which a code change has touched one megabyte. The storage keeps each layer as unpacked files
plus a log of the other bytes of its archive, so a single layer can be put together again exactly;
its digest proves it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hack.cluster.shell import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 1 << 16
SEGMENT = 2


@dataclass(frozen=True)
class Layer:
    """One layer: its folder's name in the storage, and what its archive has to be."""

    folder: str
    digest: str
    size: int


@dataclass(frozen=True)
class Image:
    """An image as the registry protocol knows it."""

    manifest: bytes
    config_digest: str
    config: bytes
    layers: tuple[Layer, ...]


def read_image(root: Path, name: str) -> Image:
    """Find an image by name."""
    images = json.loads((root / "overlay-images" / "images.json").read_text())
    found = next((image for image in images if name in (image.get("names") or [])), None)
    if found is None:
        raise ClusterError(f"no image {name}: build it with `make images`")
    folder = root / "overlay-images" / found["id"]
    manifest = (folder / "manifest").read_bytes()
    described = json.loads(manifest)
    config = described["config"]["digest"]
    known = read_layers(root)
    layers = tuple(known[layer["digest"]] for layer in described["layers"])
    return Image(manifest, config, (folder / encoded(config)).read_bytes(), layers)


def encoded(key: str) -> str:
    """Name the file of an entry whose key is no file name."""
    return f"={base64.b64encode(key.encode()).decode()}"


def read_layers(root: Path) -> dict[str, Layer]:
    """Give every layer by the digest of its archive."""
    listed: list[dict[str, Any]] = json.loads((root / "overlay-layers" / "layers.json").read_text())
    complete = (entry for entry in listed if "diff-digest" in entry)
    layers = (Layer(e["id"], e["diff-digest"], e.get("diff-size", 0)) for e in complete)
    return {layer.digest: layer for layer in layers}


def archive(root: Path, layer: Layer) -> Iterator[bytes]:
    """Put a layer's archive together, and refuse to end on any other bytes than the recorded."""
    whole = hashlib.sha256()
    for part in parts(root, layer):
        whole.update(part)
        yield part
    if f"sha256:{whole.hexdigest()}" != layer.digest:
        raise ClusterError(
            f"layer {layer.digest} of buildah's storage is damaged: delete {root} and build again"
        )


def parts(root: Path, layer: Layer) -> Iterator[bytes]:
    """Interleave the logged bytes with the files' contents."""
    log = root / "overlay-layers" / f"{layer.folder}.tar-split.gz"
    files = root / "overlay" / layer.folder / "diff"
    with gzip.open(log, "rt") as entries:
        for line in entries:
            entry = json.loads(line) if line.strip() else {}
            if entry.get("type") == SEGMENT:
                yield base64.b64decode(entry["payload"])
            elif entry.get("size"):
                yield from contents(files / name_of(entry))


def name_of(entry: dict[str, Any]) -> str:
    """Read a name, which is encoded where it is no valid text."""
    raw = entry.get("name_raw")
    return base64.b64decode(raw).decode(errors="surrogateescape") if raw else str(entry["name"])


def contents(file: Path) -> Iterator[bytes]:
    """Read a file in pieces."""
    with file.open("rb") as opened:
        while piece := opened.read(CHUNK):
            yield piece


class Reader:
    """Give pieces as the file-like object that tar archives are filled from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Read exactly so many bytes while there are any."""
        while size < 0 or len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest += piece
        end = len(self._rest) if size < 0 else size
        taken, self._rest = self._rest[:end], self._rest[end:]
        return taken
