"""The Kubernetes API in a few calls on plain dictionaries.

The official client logs in (see `login`). Requests go straight to aiohttp, for two thirds of the
processor time (docs/decisions, 0072).

Every call has a time limit and is counted. Nothing is tried again here: a failed call ends the
look at its job, and the queue brings that job back with back-off. That is safe because every
child has a fixed name, so a POST whose answer was lost meets its own object the next time.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import urlencode
from urllib.request import getproxies

import aiohttp
import msgspec

from finetuning.api.v1alpha1 import GROUP, PLURAL, VERSION
from finetuning.controller import naming, wire
from finetuning.controller.login import Login
from finetuning.controller.pieces import whole_lines

CONNECT_SECONDS = 3.0
TOTAL_SECONDS = 12.0
"""A webhook may take ten, unless it says otherwise; then the API server tells of it."""
PAGE_SECONDS = 60.0
"""For 500 whole objects from a server that is as busy as one is after its start."""

PAGE = 500
WATCH_SECONDS = 300.0
"""After which the server ends a watch, more or less; the next one is signed with a new token."""

IDLE_SECONDS = 70.0
"""Of a kind that something happens to, a server that is well sends a bookmark every minute."""

LONGEST_WAIT_SECONDS = 60.0
"""However much longer somebody on the way asks for: a proxy says an hour while it is mended."""

SILENT = "Silent"
"""The reason of an error where a connection is open and nothing comes."""

TOO_LONG = "TooLong"
_UNKNOWN_LOGIN = 401
ALIEN = "NotKubernetes"
"""The reason of an error where somebody answers well, but no API server does."""

_BUFFER = 1 << 21
"""Bytes that are read ahead of who takes them; a page of a list is larger."""
_EVENT = 1 << 24
"""Bytes of one event; etcd keeps no object that is a tenth of it."""

_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_JSON, _MERGE_PATCH = "application/json", "application/merge-patch+json"

Count = Callable[[str, str, int, float], None]
"""Told verb, resource, status code and seconds of every call."""

Raw = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """What a kind is called in a URL."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str | None, *parts: str) -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        where = (f"namespaces/{namespace}",) if namespace else ()
        return "/".join((root, *where, self.plural, *parts))


CUSTOMS = Resource(GROUP, VERSION, PLURAL)
JOBS = Resource("batch", "v1", "jobs")
PODS = Resource("", "v1", "pods")
CLAIMS = Resource("", "v1", "persistentvolumeclaims")
SERVICES = Resource("", "v1", "services")
SERVICE_MONITORS = Resource("monitoring.coreos.com", "v1", "servicemonitors")
POD_MONITORS = Resource("monitoring.coreos.com", "v1", "podmonitors")
DEPLOYMENTS = Resource("apps", "v1", "deployments")
EVENTS = Resource("", "v1", "events")
LEASES = Resource("coordination.k8s.io", "v1", "leases")
NODES = Resource("", "v1", "nodes")
STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses")
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews")


class ApiError(Exception):
    """The API server refused a call, or did not answer (code 0)."""

    def __init__(self, code: int, reason: str, message: str, after: float | None = None) -> None:
        self.code, self.reason, self.message = code, reason, message
        self.after = None if after is None else min(after, LONGEST_WAIT_SECONDS)
        known = [str(code)] if code else []
        super().__init__(": ".join([*known, reason, message])[:500])


class Gateway:
    """A connection to one API server; `sender` is the field manager of what it writes."""

    _sender: Mapping[str, str] = MappingProxyType({"fieldManager": naming.FIELD_MANAGER})
    _ahead = timedelta()
    """By how much the API server's clock is ahead of ours."""

    _date = ""
    """When its last answer was sent, as it says it."""

    def __init__(self, login: Login, count: Count, sender: str = naming.FIELD_MANAGER) -> None:
        self._login = login
        self._http = _session(login, sender)
        self._count = count
        self._sender = {"fieldManager": sender}

    @classmethod
    async def connect(
        cls,
        kubeconfig: str | None,
        count: Count,
        *,
        context: str | None = None,
        sender: str = naming.FIELD_MANAGER,
    ) -> Self:
        """Use the Pod's service account, or a kubeconfig with whatever login it describes."""
        return cls(await Login.of(kubeconfig, context), count, sender)

    async def close(self) -> None:
        await self._http.close()

    @property
    def closed(self) -> bool:
        return self._http.closed

    def now(self) -> datetime:
        """The time by the API server's clock, in which objects tell their times."""
        return datetime.now(UTC) + self._ahead

    async def get(self, resource: Resource, namespace: str, name: str) -> Raw | None:
        """None when there is no such object."""
        return await self._find("get", resource, resource.path(namespace, name))

    async def create(
        self, resource: Resource, manifest: Mapping[str, Any], *, dry_run: bool = False
    ) -> Raw:
        """Dry: the server checks and completes the object, and keeps nothing."""
        path = resource.path(manifest["metadata"]["namespace"])
        query = {**self._sender, **({"dryRun": "All"} if dry_run else {})}
        return wire.written(
            await self._ask("create", resource, "POST", path, query=query, body=manifest)
        )

    async def review(self, resource: Resource, manifest: Mapping[str, Any]) -> Raw:
        """Put a question to the API server, such as what this login may do."""
        return await self._call("create", resource, "POST", resource.path(None), body=manifest)

    async def patch(
        self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any], *sub: str
    ) -> Raw:
        """Merge `patch` into an object, or into its `sub`resource."""
        path = resource.path(namespace, name, *sub)
        return wire.written(
            await self._ask("patch", resource, "PATCH", path, query=self._sender, body=patch)
        )

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Delete this very object; one that is gone, or has a successor, is left alone."""
        path = resource.path(namespace, name)
        body = {"preconditions": {"uid": uid}}
        try:
            await self._call("delete", resource, "DELETE", path, body=body)
        except ApiError as error:
            if error.code not in {404, 409}:
                raise

    async def items(
        self, resource: Resource, namespace: str | None, **selectors: str
    ) -> AsyncIterator[Raw]:
        """Whole objects; `selectors` are labelSelector and fieldSelector."""
        query = {**selectors, "limit": str(PAGE)}
        while True:
            page = await self._call("list", resource, "GET", resource.path(namespace), query=query)
            for item in page.get("items") or ():
                yield item
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return
            query["continue"] = token

    async def uids(self, resource: Resource, namespace: str | None, **selectors: str) -> set[str]:
        """Only who is there: the server sends no specs and no states."""
        found: set[str] = set()
        query = {**selectors, "limit": str(PAGE)}
        while True:
            text = await self._ask(
                "list",
                resource,
                "GET",
                resource.path(namespace),
                query=query,
                accept=_METADATA_ONLY,
            )
            page = wire.names(text)
            found |= {each.metadata.uid for each in page.items or ()}
            if not page.metadata.more:
                return found
            query["continue"] = page.metadata.more

    async def page(
        self, resource: Resource, namespace: str | None, more: str, **selectors: str
    ) -> bytes:
        """The JSON text of the first page of a list, or of that which `more` asks for."""
        query = {**selectors, "limit": str(PAGE), **({"continue": more} if more else {})}
        path = resource.path(namespace)
        return await self._ask("list", resource, "GET", path, query=query, limit=PAGE_SECONDS)

    async def newest(self, resource: Resource, namespace: str | None, **selectors: str) -> int:
        """The version that a list would have now; one name comes along."""
        query, path = {**selectors, "limit": "1"}, resource.path(namespace)
        text = await self._ask("list", resource, "GET", path, query=query, accept=_METADATA_ONLY)
        version = wire.names(text).metadata.version
        return int(version) if version.isdecimal() else 0

    async def watch(
        self, resource: Resource, namespace: str | None, version: str, **selectors: str
    ) -> AsyncGenerator[bytes, None]:
        """The JSON text of each event after `version`, until the server ends the watch.

        A last line that was cut off is left out. Raises ApiError, with the reason SILENT where
        nothing came for IDLE_SECONDS.
        """
        seconds = WATCH_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 - not all at once
        query = {
            **selectors,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(int(seconds)),
        }
        limit = aiohttp.ClientTimeout(
            total=seconds + 30, sock_connect=CONNECT_SECONDS, sock_read=IDLE_SECONDS
        )
        pieces = self._stream(resource, "watch", resource.path(namespace), query, limit=limit)
        async with aclosing(pieces):
            async for line in _lines(pieces):
                yield line

    async def serves(self, resource: Resource) -> bool:
        """Whether the API server knows the kind at all."""
        path = f"/apis/{resource.group}/{resource.version}"
        found = await self._find("get", resource, path)
        return any(each["name"] == resource.plural for each in (found or {}).get("resources", ()))

    async def document(self, resource: Resource, path: str) -> Raw | None:
        """What stands at any path, such as /version; None when nothing does."""
        return await self._find("get", resource, path)

    async def log(self, namespace: str, pod: str, **query: str) -> AsyncIterator[str]:
        """A container's output as it comes, in pieces that end where a line ends.

        `query` is container, follow, tailLines and so on. Raises ApiError.
        """
        path = PODS.path(namespace, pod, "log")
        limit = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        pieces = self._stream(PODS, "get", path, query, limit=limit, accept="*/*")
        async with aclosing(pieces):
            async for piece in whole_lines(pieces):
                yield piece

    async def _stream(
        self,
        resource: Resource,
        verb: str,
        path: str,
        query: Mapping[str, str],
        *,
        limit: aiohttp.ClientTimeout,
        accept: str = "application/json",
    ) -> AsyncGenerator[bytes, None]:
        """What comes, as it comes; counted when the answer begins. Raises ApiError."""
        code, begun = 0, time.monotonic()
        try:
            try:
                response = await self._send("GET", path, query, None, accept, limit=limit)
                code = response.status
            finally:
                self._count(verb, resource.plural, code, time.monotonic() - begun)
            async with response:
                if code >= 400:  # noqa: PLR2004 - the first of the error codes
                    after = response.headers.get("Retry-After")
                    raise _error(code, await response.read(), after)
                async for piece in response.content.iter_any():
                    yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error, silent=code > 0) from error

    async def _find(self, verb: str, resource: Resource, path: str) -> Raw | None:
        try:
            return await self._call(verb, resource, "GET", path)
        except ApiError as error:
            if error.code == 404:  # noqa: PLR2004 - Not Found
                return None
            raise

    async def _call(
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        accept: str = "application/json",
    ) -> Raw:
        text = await self._ask(verb, resource, method, path, query=query, body=body, accept=accept)
        found: Raw = msgspec.json.decode(text) if text else {}
        return found

    async def _ask(
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        accept: str = "application/json",
        limit: float | None = None,
    ) -> bytes:
        """The text of an answer. Raises ApiError."""
        code, begun = 0, time.monotonic()
        times = aiohttp.ClientTimeout(total=limit or TOTAL_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            response = await self._send(method, path, query or {}, body, accept, limit=times)
            async with response:
                code = response.status
                text = await response.read()
            self._set_clock(response.headers.get("Date", ""))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error
        finally:
            self._count(verb, resource.plural, code, time.monotonic() - begun)
        if code >= 400:  # noqa: PLR2004 - the first of the error codes
            raise _error(code, text, response.headers.get("Retry-After"))
        if text and not text.lstrip().startswith(b"{"):
            raise _alien(text)
        return text

    def _set_clock(self, date: str) -> None:
        """Dates have whole seconds: a difference of less than two says nothing."""
        if date == self._date:
            return
        self._date = date
        try:
            ahead = parsedate_to_datetime(date) - datetime.now(UTC)
        except (TypeError, ValueError):
            return
        self._ahead = ahead if abs(ahead) > timedelta(seconds=2) else timedelta()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        accept: str,
        *,
        limit: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        """With a new token where the API server does not know the old one: nothing was done."""
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = _MERGE_PATCH if method == "PATCH" else _JSON
        where = f"{path}?{urlencode(query)}" if query else path
        data = None if body is None else _encode(body)
        send = partial(self._sent, method, where, data=data, headers=headers, limit=limit)
        token = await self._login.token()
        answer = await send(token=token)
        if answer.status == _UNKNOWN_LOGIN and await self._login.is_renewed(token):
            answer.release()
            return await send(token=await self._login.token())
        return answer

    async def _sent(
        self,
        method: str,
        where: str,
        *,
        token: str | None,
        data: bytes | None,
        headers: Mapping[str, str],
        limit: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        server = self._login.server
        return await self._http.request(
            method,
            server.host + where,
            data=data,
            headers={**headers, "Authorization": token} if token else headers,
            timeout=limit,
            proxy=server.proxy,
            proxy_headers=server.proxy_headers,
            server_hostname=server.tls_server_name,
        )


def _session(login: Login, sender: str) -> aiohttp.ClientSession:
    """The connections to one API server."""
    return aiohttp.ClientSession(
        connector=login.connector(),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": sender},
        read_bufsize=_BUFFER,
        # Else every request asks two threads for ~/.netrc and for proxies.
        trust_env=bool(getproxies()),
    )


def _text(value: object) -> str:
    """Some readers of YAML give texts of a type of their own."""
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{value!r} has no form in JSON")


_encode = msgspec.json.Encoder(enc_hook=_text).encode


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Without what stands after the last line's end; raises ApiError for one that has none."""
    held: list[bytes] = []
    size = 0
    async for piece in pieces:
        first, *others = piece.split(b"\n")
        held.append(first)
        size += len(first)
        if size > _EVENT:
            raise ApiError(0, TOO_LONG, f"a line of more than {_EVENT} bytes in a watch")
        if others:
            yield b"".join(held)
            *whole, rest = others
            for line in whole:
                yield line
            held, size = [rest], len(rest)


def _unreachable(error: Exception, *, silent: bool = False) -> ApiError:
    """`silent`: the connection stood, so that running out of time is a matter of its own."""
    reason = SILENT if silent and isinstance(error, TimeoutError) else "Unreachable"
    return ApiError(0, reason, str(error) or type(error).__name__)


def _alien(text: bytes) -> ApiError:
    """A page for people, mostly: of a proxy that wants a login, or of another server."""
    shown = " ".join(text[:100].decode(errors="replace").split())
    return ApiError(0, ALIEN, f"what answers there is no Kubernetes; it says {shown!r}")


def _error(code: int, text: bytes, retry_after: str | None) -> ApiError:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    status = found if isinstance(found, dict) else {}
    reason, message = status.get("reason") or "", status.get("message") or ""
    after = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return ApiError(code, reason, message or text[:200].decode(errors="replace"), after)


async def wait_for_kind(gateway: Gateway, resource: Resource, seconds: float) -> bool:
    """Wait until the API server serves the kind; raises ApiError when it never answers.

    False when it has answered for so long without it: one that has just begun knows none yet.
    """
    silent = time.monotonic() + seconds
    missing: float | None = None
    while True:
        try:
            if await gateway.serves(resource):
                return True
            missing = missing or time.monotonic() + seconds
            if time.monotonic() > missing:
                return False
        except ApiError as error:
            if error.code in {401, 403} or time.monotonic() > silent:
                raise
        await asyncio.sleep(1)
