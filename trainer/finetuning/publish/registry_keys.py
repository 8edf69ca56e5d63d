"""Who writes to a registry: the file that `docker login` keeps, and what a registry makes of it."""

import base64
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from pydantic import BaseModel
from typing_extensions import override

from finetuning.publish.errors import UsageError

CONFIG_ENV = "DOCKER_AUTH_CONFIG"
"""The file's text, which a pod gets from a Secret of the type kubernetes.io/dockerconfigjson."""

FOLDER_ENV = "DOCKER_CONFIG"
"""Folder of the file, where it is not ~/.docker."""

_PARAMETER = re.compile(r'([a-z]+)="([^"]*)"')


@dataclass(frozen=True)
class Keys:
    """What a registry knows somebody by: user and password, or a token that stands for both."""

    user: str = ""
    password: str = ""
    token: str = ""

    @property
    def basic(self) -> str:
        both = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(both).decode()}"


class _Entry(BaseModel):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _File(BaseModel):
    """What of ~/.docker/config.json counts here."""

    auths: dict[str, _Entry] = {}


def find(environ: Mapping[str, str], host: str, repository: str) -> Keys | None:
    """Those for the repository, or for the registry; None when there are none.

    Raises:
        UsageError: what should hold them cannot be read. It never quotes from there.
    """
    text, origin = _config(environ)
    if not text:
        return None
    try:
        return _of(_File.model_validate_json(text).auths, f"{host}/{repository}")
    except ValueError as error:
        raise UsageError(
            f"{origin}: is not what `docker login` writes, an object with `auths`; in a cluster "
            "name a Secret that `kubectl create secret docker-registry` made"
        ) from error


def _config(environ: Mapping[str, str]) -> tuple[str, str]:
    if text := environ.get(CONFIG_ENV):
        return text, CONFIG_ENV
    folder = environ.get(FOLDER_ENV) or Path("~/.docker").expanduser()
    path = Path(folder) / "config.json"
    try:
        return path.read_text(), str(path)
    except (OSError, UnicodeDecodeError):
        return "", str(path)


def _of(auths: Mapping[str, _Entry], place: str) -> Keys | None:
    """Of the entry that says most of the place."""
    # Docker's own registry goes by its older name there.
    place = re.sub(r"^docker\.io/", "index.docker.io/", place)
    fitting = [name for name in auths if f"{place}/".startswith(f"{_plain(name)}/")]
    if not fitting:
        return None
    entry = auths[max(fitting, key=len)]
    user, password = entry.username, entry.password
    if entry.auth:
        user, _, password = base64.b64decode(entry.auth, validate=True).decode().partition(":")
    found = Keys(user, password.rstrip("\0"), entry.identitytoken)
    return found if found.user or found.token else None


def _plain(name: str) -> str:
    """A registry without scheme and version, which old entries have."""
    bare = re.sub(r"^https?://", "", name).rstrip("/")
    bare = re.sub(r"^docker\.io(?=/|$)", "index.docker.io", bare)
    return re.sub(r"/v[12]$", "", bare)


class Pass(httpx2.Auth):
    """Shows the keys to the registry, or to the service that it sends us to for a token.

    To no other host: an upload may go to a store that the registry names.
    """

    requires_response_body = True

    def __init__(self, keys: Keys | None, base: str, scope: str) -> None:
        self._keys = keys
        self._base = httpx2.URL(base)
        self._scope = scope
        self._header = ""

    @override
    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        if request.url.netloc != self._base.netloc:
            yield request
            return
        if self._header:
            request.headers["Authorization"] = self._header
        response = yield request
        if response.status_code != httpx2.codes.UNAUTHORIZED:
            return
        wanted = challenge(response.headers.get("WWW-Authenticate", ""))
        if "realm" in wanted and wanted[""] == "bearer":
            answer = yield self._ask(wanted)
            self._header = _bearer(answer)
        elif self._keys is not None and self._keys.user:
            self._header = self._keys.basic
        if self._header:
            request.headers["Authorization"] = self._header
            yield request

    def _ask(self, wanted: Mapping[str, str]) -> httpx2.Request:
        realm = self._base.join(wanted["realm"])
        if realm.scheme != "https" and self._base.scheme == "https":
            raise UsageError(f"{self._base.host}: wants keys sent to {realm.host} without TLS")
        service = {"service": wanted["service"]} if "service" in wanted else {}
        fields = {**service, "scope": self._scope}
        if self._keys is not None and self._keys.token:
            grant = {"grant_type": "refresh_token", "refresh_token": self._keys.token}
            form = {**fields, **grant, "client_id": "finetuning"}
            return httpx2.Request("POST", realm, data=form)
        shown = {"Authorization": self._keys.basic} if self._keys is not None else {}
        return httpx2.Request("GET", realm.copy_merge_params(fields), headers=shown)


def challenge(header: str) -> dict[str, str]:
    """What a registry wants to be shown: its kind, in lower case, at the empty name."""
    kind, _, rest = header.partition(" ")
    return {"": kind.lower(), **dict(_PARAMETER.findall(rest))}


def _bearer(answer: httpx2.Response) -> str:
    """Empty when it is refused, which the registry then says in its own words."""
    token = next(_tokens(answer), "")
    return f"Bearer {token}" if token else ""


def _tokens(answer: httpx2.Response) -> Iterator[str]:
    try:
        found: Any = answer.json()
    except ValueError:
        return
    if answer.is_success and isinstance(found, dict):
        yield from (str(found[name]) for name in ("token", "access_token") if found.get(name))
