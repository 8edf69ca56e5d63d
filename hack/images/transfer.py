"""Move an image from buildah to containerd without copying what is there already."""

from __future__ import annotations

import subprocess
import tarfile
from typing import IO, TYPE_CHECKING, cast

from hack.cluster import paths
from hack.cluster.native import containers
from hack.cluster.shell import LAST_WORDS, ClusterError, step
from hack.images import oci, storage
from hack.images.storage import Reader

if TYPE_CHECKING:
    from hack.images.storage import Image, Layer


def deliver(name: str) -> None:
    """Import an image into the native node, unless it is there."""
    if name not in containers.images():
        with step(f"importing {name}"):
            move(name)
    containers.tag(name, f"{name.rpartition(':')[0]}:dev")


def move(name: str) -> None:
    """Stream what is new into the import; nothing is written twice."""
    image = storage.read_image(paths.cache() / "buildah", name)
    known = {blob.name for blob in containers.blobs().glob("*")}
    missing = [layer for layer in image.layers if hexadecimal(layer.digest) not in known]
    command = containers.import_command("-")
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=quiet, stderr=pipe) as importing:
        stdin, stderr = cast("IO[bytes]", importing.stdin), cast("IO[bytes]", importing.stderr)
        try:
            stream(name, image, missing, stdin)
        except BrokenPipeError:
            pass  # The import ended early and says why.
        except BaseException:
            importing.kill()
            raise
        words = stderr.read().decode(errors="replace").strip()[-LAST_WORDS:]
    if importing.returncode:
        raise ClusterError(f"importing {name} failed: {words}")


def stream(name: str, image: Image, missing: list[Layer], out: IO[bytes]) -> None:
    """Write the archive of what the node lacks and close the stream."""
    with out, tarfile.open(fileobj=out, mode="w|") as tar:
        entry = {**oci.blob(oci.MANIFEST, image.manifest), "annotations": oci.names(name)}
        oci.add_index(tar, [entry])
        oci.add_blob(tar, entry["digest"], image.manifest)
        oci.add_blob(tar, image.config_digest, image.config)
        for layer in missing:
            info = tarfile.TarInfo(oci.blob_path(layer.digest))
            info.size = layer.size
            pieces = storage.archive(paths.cache() / "buildah", layer)
            tar.addfile(info, cast("IO[bytes]", Reader(pieces)))


def hexadecimal(digest: str) -> str:
    """Drop the algorithm's name."""
    return digest.removeprefix("sha256:")
