"""A repository of an OCI registry, as far as sending an artifact into it needs one."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import httpx2

from finetuning.artifacts.failures import first_line
from finetuning.artifacts.plain import plain
from finetuning.publish import registry_keys
from finetuning.publish.artifact import MANIFEST_TYPE, digest
from finetuning.publish.errors import (
    ModelChangedError,
    PublishError,
    RefusedError,
    UnavailableError,
    UsageError,
)

PREFIX = "oci://"
PIECE = 1 << 20
"""Bytes of a file that are in memory at a time."""

PAUSES = (1.0, 5.0)
"""Seconds before each further try of one file."""

TIMEOUT = httpx2.Timeout(60.0, connect=10.0, read=900.0)
"""A registry answers for a file of some gigabytes once it has hashed it."""

_LATER = (httpx2.codes.REQUEST_TIMEOUT, httpx2.codes.TOO_MANY_REQUESTS)
_REFUSED = (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN)
_ALIASES = {"docker.io": "registry-1.docker.io"}

Result = TypeVar("Result")


@dataclass(frozen=True)
class Reference:
    """A tag of a repository; `text` is of the kind `finetuning.api.text.OciUri`."""

    host: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Self:
        host, _, rest = text.removeprefix(PREFIX).partition("/")
        repository, _, tag = rest.rpartition(":")
        return cls(host, repository, tag)


class _Body:
    """A file's bytes; may be asked for again, when the first sending was refused."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    def __iter__(self) -> Iterator[bytes]:
        left = self._size
        with self._path.open("rb") as file:
            while piece := file.read(PIECE):
                left -= len(piece)
                if left < 0:
                    break
                yield piece
        if left:
            raise _changed(self._path)


class Repository:
    """Raises PublishError for whatever a registry does not do."""

    def __init__(self, to: Reference, environ: Mapping[str, str], *, plain_http: bool) -> None:
        self._to = to
        scheme = "http" if plain_http else "https"
        base = f"{scheme}://{_ALIASES.get(to.host, to.host)}"
        self._root = f"{base}/v2/{to.repository}"
        self._keys = registry_keys.find(environ, to.host, to.repository)
        scope = f"repository:{to.repository}:pull,push"
        self._client = httpx2.Client(
            auth=registry_keys.Pass(self._keys, base, scope),
            timeout=TIMEOUT,
            headers={"User-Agent": "finetuning-publish"},
        )

    def __enter__(self) -> Self:
        self._client.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def manifest(self) -> bytes | None:
        """What the tag names; None when there is no such tag."""
        address = f"{self._root}/manifests/{self._to.tag}"
        response = self._ask("GET", address, headers={"Accept": MANIFEST_TYPE})
        if response.status_code == httpx2.codes.NOT_FOUND:
            return None
        return self._require(response).content

    def put_manifest(self, data: bytes) -> None:
        """Set the tag; the registry refuses it while it lacks anything that it names."""
        address = f"{self._root}/manifests/{self._to.tag}"
        headers = {"Content-Type": MANIFEST_TYPE}
        self._require(self._ask("PUT", address, headers=headers, content=data))

    def bring(self, path: Path, sha256: str, size: int, before: Callable[[], None]) -> bool:
        """Whether the file had to be sent; `before` is called when it is.

        Raises:
            ModelChangedError: what arrived has another digest.
        """
        return _patiently(lambda: self._bring(path, sha256, size, before))

    def bring_bytes(self, data: bytes) -> None:
        """The same of what is no file."""
        named = digest(data)
        if not self._has(named):
            self._require(self._upload(named, data, len(data)))

    def _bring(self, path: Path, sha256: str, size: int, before: Callable[[], None]) -> bool:
        named = f"sha256:{sha256}"
        if self._has(named):
            return False
        before()
        response = self._upload(named, _Body(path, size), size)
        if "DIGEST_INVALID" in response.text or "SIZE_INVALID" in response.text:
            raise _changed(path)
        self._require(response)
        return True

    def _has(self, named: str) -> bool:
        # A registry may point to the store that has it.
        response = self._ask("HEAD", f"{self._root}/blobs/{named}")
        if response.status_code == httpx2.codes.NOT_FOUND:
            return False
        return response.is_redirect or bool(self._require(response))

    def _upload(self, named: str, content: bytes | _Body, size: int) -> httpx2.Response:
        begun = self._require(self._ask("POST", f"{self._root}/blobs/uploads/"))
        address = self._same_scheme(begun.url.join(begun.headers.get("Location", "")))
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        address = address.copy_add_param("digest", named)
        return self._ask("PUT", str(address), headers=headers, content=content)

    def _same_scheme(self, address: httpx2.URL) -> httpx2.URL:
        """Behind a proxy that ends TLS, a registry may believe that it is asked without."""
        root = httpx2.URL(self._root)
        if address.host != root.host:
            return address
        return address.copy_with(scheme=root.scheme, port=root.port)

    def _ask(
        self,
        verb: str,
        address: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | _Body | None = None,
    ) -> httpx2.Response:
        try:
            return self._client.request(verb, address, headers=headers, content=content)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise UnavailableError(
                f"{self._place}: cannot be reached or does not answer as a registry does; check "
                "the name and the network, in a cluster spec.output.publish.oci.plainHttp too, "
                f"or try again ({first_line(error, 200)})"
            ) from error

    def _require(self, response: httpx2.Response) -> httpx2.Response:
        if response.is_success:
            return response
        raise self._explained(response)

    def _explained(self, response: httpx2.Response) -> PublishError:
        status, said = response.status_code, f"{response.status_code} {_words(response)}".strip()
        if status in _REFUSED:
            who = "they may not write there" if self._keys else "none were given for it"
            return RefusedError(
                f"{self._place}: refuses the keys ({who}); give those of one who may pull and "
                "push there: in a cluster by spec.output.publish.oci.secretName, else by "
                f"`docker login` or {registry_keys.CONFIG_ENV} ({said})"
            )
        if status == httpx2.codes.NOT_FOUND:
            return UsageError(f"{self._place}: no such repository; make it there first ({said})")
        if status in _LATER or response.is_server_error:
            return UnavailableError(f"{self._place}: does not answer now; try again ({said})")
        return UsageError(f"{self._place}: does not take the model ({said})")

    @property
    def _place(self) -> str:
        return f"{PREFIX}{self._to.host}/{self._to.repository}"


def _words(response: httpx2.Response) -> str:
    """What a registry says of its refusal."""
    found = re.findall(r'"(?:code|message)"\s*:\s*"([^"]*)"', response.text)
    return plain(": ".join(found[:2]), 160)


def _changed(path: Path) -> ModelChangedError:
    return ModelChangedError(f"{path}: changed while it was sent; start again")


def _patiently(action: Callable[[], Result]) -> Result:
    """Again after each pause, as long as another try may help."""
    for seconds in PAUSES:
        try:
            return action()
        except UnavailableError:
            time.sleep(seconds)
    return action()
