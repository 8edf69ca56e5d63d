"""publication.json in a folder of an S3 store: whose turn it is there, and in the end the seal.

A store locks nothing. Where it takes conditions, the seal is written only while it is still what
was seen last, so that of two publications at once one is refused. Elsewhere the seal is looked at
before each file, and somebody who begins after the last look goes unnoticed.
"""

from collections.abc import Mapping
from typing import Any

from finetuning.artifacts import PUBLICATION
from finetuning.publish import s3_put, seal
from finetuning.publish.bundle import Say
from finetuning.publish.errors import UnavailableError
from finetuning.publish.seal import Publication


def tag(stream: Any) -> str:
    """Of the object that is read; empty where the store gives none."""
    return str(stream.metadata().get("ETag", b"").decode())


class Seal:
    """Raises what the client of the store raises, and UnavailableError where somebody else is."""

    def __init__(
        self, store: Any, uri: str, path: str, environ: Mapping[str, str], say: Say
    ) -> None:
        self._store, self._uri, self._path = store, uri, f"{path}/{PUBLICATION}"
        self._environ, self._say = environ, say
        self._seen: Publication | None = None
        self._tag: str | None = s3_put.ABSENT
        """Of what was seen last; None where the store takes no conditions."""

    def look(self) -> Publication | None:
        """What is there, which the first write takes the place of."""
        self._seen, self._tag = self._read()
        return self._seen

    def take(self, begun: Publication) -> None:
        """Say that files are being sent."""
        self._write(begun)
        if self._tag is None:
            return
        try:
            # Something is there: a store that writes all the same looks at no condition.
            s3_put.put(self._path, begun.to_bytes(), s3_put.ABSENT, self._environ)
        except s3_put.ChangedError:
            return
        except s3_put.UnconditionalError as error:
            self._do_without(str(error))
        else:
            self._do_without("it passes over them")

    def require_own(self) -> None:
        """Whoever began after us has taken the seal, and may change files.

        Both may find that; the next try holds every file against its digest.
        """
        if self._read()[0] != self._seen:
            raise self._taken()

    def close(self, complete: Publication) -> None:
        """Say that the copy is complete."""
        self._write(complete)

    def _read(self) -> tuple[Publication | None, str | None]:
        with self._store.open_input_stream(self._path) as stream:
            return Publication.parse(stream.read(seal.MAX_BYTES)), tag(stream) or None

    def _write(self, new: Publication) -> None:
        if self._tag is not None:
            self._tag = self._put(new.to_bytes(), self._tag)
        if self._tag is None:
            with self._store.open_output_stream(self._path) as stream:
                stream.write(new.to_bytes())
        self._seen = new

    def _put(self, data: bytes, seen: str) -> str | None:
        """The new tag; None when nothing was written, for the store takes no conditions."""
        try:
            return s3_put.put(self._path, data, seen, self._environ)
        except s3_put.ChangedError:
            if not self._is_as_seen():
                raise self._taken() from None
            self._do_without("it finds a difference where there is none")
        except s3_put.UnconditionalError as error:
            self._do_without(str(error))
        return None

    def _is_as_seen(self) -> bool:
        try:
            return self._read()[0] == self._seen
        except FileNotFoundError:
            return self._seen is None

    def _do_without(self, why: str) -> None:
        self._tag = None
        self._say(
            f"{self._uri}: no conditional writes there ({why}); a publication that begins there "
            "in the last moment of this one would not be noticed"
        )

    def _taken(self) -> UnavailableError:
        return UnavailableError(
            f"{self._uri}: something else is published there at the same time; give each job a "
            "folder of its own, or try again when it is done"
        )
