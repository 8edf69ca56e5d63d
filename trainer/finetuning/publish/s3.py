"""A copy of the model in an S3 store, by the client that reads rows from there."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from finetuning.artifacts import PUBLICATION
from finetuning.artifacts.failures import first_line
from finetuning.artifacts.models import CopiedModel
from finetuning.base import s3 as client
from finetuning.publish import seal
from finetuning.publish.bundle import Bundle, Item, Say
from finetuning.publish.errors import (
    ModelChangedError,
    PublishError,
    RefusedError,
    TakenError,
    UnavailableError,
    UsageError,
)
from finetuning.publish.s3_seal import Seal, tag
from finetuning.publish.seal import Publication

PIECE = 8 << 20
"""Bytes of one read and one write."""


def publish(bundle: Bundle, uri: str, environ: Mapping[str, str], say: Say) -> CopiedModel:
    """Send what is missing, read it back, seal it; a complete copy is left as it is.

    Raises:
        PublishError: the store cannot be reached, refuses, holds somebody else's files, or gets
            those of another publication at the same time.
    """
    try:
        return _Folder(uri, environ, say).bring_about(bundle)
    except (OSError, ValueError) as error:
        raise _explained(uri, error, environ) from error


class _Folder:
    """A folder of a bucket, and what is in it."""

    def __init__(self, uri: str, environ: Mapping[str, str], say: Say) -> None:
        self._uri = uri.rstrip("/")
        self._path = self._uri.removeprefix(client.PREFIX)
        self._store = client.store(environ)
        self._seal = Seal(self._store, self._uri, self._path, environ, say)
        self._tags: dict[str, str] = {}
        """Of each file as it was read back."""
        self._say = say

    def bring_about(self, bundle: Bundle) -> CopiedModel:
        wanted = Publication.of(bundle)
        sizes = self._sizes()
        older = self._seal.look() if PUBLICATION in sizes else None
        if others := seal.foreign(wanted, older, sizes):
            more = f" and {len(others) - 1} more" if others[1:] else ""
            raise TakenError(
                f"{self._uri}: holds {others[0]}{more} that no publication wrote; give an empty "
                "folder, or delete them"
            )
        missing = {
            name: item
            for name, item in bundle.items.items()
            if not seal.is_there(name, item.entry, older, sizes)
        }
        surplus = seal.left_over(wanted, older, sizes)
        sent = 0
        if missing or surplus or older != wanted:
            self._seal.take(wanted.begun(older))
            for name, item in missing.items():
                self._seal.require_own()
                sent += self._bring(name, item, sizes)
            self._require_unchanged()
            self._seal.require_own()
            for name in surplus:
                self._store.delete_file(self._at(name))
            self._seal.close(wanted)
        return CopiedModel(
            kind="s3",
            location=self._uri,
            digest=hashlib.sha256(wanted.to_bytes()).hexdigest(),
            files=len(bundle.items),
            size_bytes=bundle.size,
            sent_files=sent,
        )

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _sizes(self) -> dict[str, int]:
        from pyarrow import fs  # noqa: PLC0415 - is loaded by now

        wish = fs.FileSelector(self._path, recursive=True, allow_not_found=True)
        return {
            info.path.removeprefix(f"{self._path}/"): info.size
            for info in self._store.get_file_info(wish)
            if info.type is fs.FileType.File
        }

    def _bring(self, name: str, item: Item, sizes: Mapping[str, int]) -> bool:
        """Whether the file had to be sent: a broken-off publication may have sent it."""
        if sizes.get(name) == item.entry.size and self._digest(name) == item.entry.sha256:
            return False
        self._say(f"{name}: {item.entry.size:,} bytes")
        with self._store.open_output_stream(self._at(name)) as stream:
            sent = _copied(item, stream.write)
        if sent != item.entry.sha256:
            raise ModelChangedError(f"{item.path}: changed while it was sent; start again")
        if self._digest(name) != item.entry.sha256:
            raise UnavailableError(
                f"{self._uri}/{name}: reads back other than it was sent; try again, and check the "
                "store if that does not help"
            )
        return True

    def _require_unchanged(self) -> None:
        """A file that another publication was still sending when this one began may come late."""
        for name, seen in self._tags.items():
            with self._store.open_input_stream(self._at(name)) as stream:
                if tag(stream) != seen:
                    raise UnavailableError(
                        f"{self._uri}: something else is published there at the same time, and "
                        f"sent {name} again; give each job a folder of its own, or try again when "
                        "it is done"
                    )

    def _digest(self, name: str) -> str:
        total = hashlib.sha256()
        with self._store.open_input_stream(self._at(name)) as stream:
            self._tags[name] = tag(stream)
            while piece := stream.read(PIECE):
                total.update(piece)
        return total.hexdigest()


def _copied(item: Item, write: Callable[[bytes], Any]) -> str:
    total = hashlib.sha256()
    for piece in _pieces(item):
        total.update(piece)
        write(piece)
    return total.hexdigest()


def _pieces(item: Item) -> Iterator[bytes]:
    with item.path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _explained(uri: str, error: Exception, environ: Mapping[str, str]) -> PublishError:
    short = first_line(error, 200)
    place = client.endpoint(environ) or "Amazon S3"
    match client.trouble_of(error):
        case client.Trouble.REFUSED:
            key = "the key may not write it" if client.has_key(environ) else "no key was given"
            return RefusedError(
                f"{uri}: {place} refuses it ({key}); set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY of one who may list, read, write and delete there, in a "
                f"cluster by spec.output.publish.s3.secretName ({short})"
            )
        case client.Trouble.NO_BUCKET:
            return UsageError(f"{uri}: {place} has no such bucket; make it, or name another")
        case client.Trouble.LATER:
            return UnavailableError(
                f"{uri}: {place} cannot be reached or does not answer as S3 does; check "
                f"AWS_ENDPOINT_URL and the network, or try again ({short})"
            )
        case client.Trouble.OTHER:
            return UsageError(f"{uri}: {short}; give s3://<bucket>/<folder>")
