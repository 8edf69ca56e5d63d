"""A reverse proxy between the operator and the API server that goes wrong where a test says so."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

WRITES = {"POST", "PATCH", "PUT", "DELETE"}
_HOP = {"host", "transfer-encoding", "content-length", "connection", "accept-encoding"}


@dataclass
class Fault:
    """What happens to the next `times` requests that match."""

    kind: str
    """A status code; `reset`, `slow`, `half line`, `lost answer` (done, but nobody hears) and
    `late answer` (done, and heard of a second later)."""
    method: str = ""
    path: str = ""
    times: int = 1
    happened: int = field(default=0, init=False)

    def hits(self, method: str, path: str) -> bool:
        if self.happened >= self.times:
            return False
        if self.method not in {"", method} or not re.search(self.path, path):
            return False
        self.happened += 1
        return True


class Proxy:
    """Counts writes; breaks what `faults` name."""

    def __init__(self, upstream: str) -> None:
        self.upstream, self.faults, self.writes = upstream, list[Fault](), list[str]()
        self.after_write: Callable[[int], None] = lambda _count: None
        """Told after each write, before its answer is given, how many there were."""
        self.hidden: Callable[[dict[str, Any]], bool] = lambda _event: False
        """Events of watches that are swallowed."""
        self.told_twice = False
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._watches = set[web.StreamResponse]()

    async def start(self, port: int = 0) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=False, limit=0), auto_decompress=False
        )
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        if self._runner is not None and self._session is not None:
            self.cut_watches()
            await self._runner.cleanup()
            await self._session.close()

    def cut_watches(self) -> None:
        """As a load balancer does: every open watch ends in the middle."""
        for watch in list(self._watches):
            transport = watch._req.transport if watch._req else None
            if transport is not None:
                transport.abort()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = next((f for f in self.faults if f.hits(request.method, request.path_qs)), None)
        kind = fault.kind if fault else ""
        if kind.isdecimal():
            return _refusal(int(kind))
        if kind == "slow":
            await asyncio.sleep(5)
        if kind == "reset":
            return _abort(request)
        if request.query.get("watch"):
            try:
                return await self._watch(request, cut=kind == "half line")
            except aiohttp.ClientConnectorError:
                return web.Response(status=502, text="{}")
        answer = await self._forward(request)
        if request.method in WRITES and answer.status < 300:
            self.writes.append(f"{request.method} {request.path}")
            self.after_write(len(self.writes))
        if kind == "late answer":
            await asyncio.sleep(1)
        return _abort(request) if kind == "lost answer" else answer

    def _ask(self, request: web.Request, body: bytes) -> Any:
        assert self._session is not None
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        limit = aiohttp.ClientTimeout(total=None)
        url = f"{self.upstream}{request.path_qs}"
        return self._session.request(
            request.method, url, headers=headers, data=body or None, timeout=limit
        )

    async def _forward(self, request: web.Request) -> web.Response:
        try:
            async with self._ask(request, await request.read()) as answer:
                body = await answer.read()
        except aiohttp.ClientError:
            return web.Response(status=502, text="{}")
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
        return web.Response(status=answer.status, body=body, headers=kept)

    async def _watch(self, request: web.Request, *, cut: bool) -> web.StreamResponse:
        async with self._ask(request, b"") as answer:
            stream = web.StreamResponse(
                status=answer.status, headers={"Content-Type": answer.headers["Content-Type"]}
            )
            await stream.prepare(request)
            self._watches.add(stream)
            try:
                while line := await answer.content.readline():
                    await self._pass_on(stream, line, cut=cut)
            except (aiohttp.ClientError, ConnectionError):
                pass
            finally:
                self._watches.discard(stream)
        return stream

    async def _pass_on(self, stream: web.StreamResponse, line: bytes, *, cut: bool) -> None:
        if self.hidden(json.loads(line)):
            return
        if cut:
            await stream.write(line[: len(line) // 2])
            raise ConnectionError
        await stream.write(line * (2 if self.told_twice else 1))


def _abort(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    raise web.HTTPServiceUnavailable


def _refusal(code: int) -> web.Response:
    status = {"kind": "Status", "status": "Failure", "code": code, "reason": "Injected"}
    headers = {"Retry-After": "1"} if code in {429, 503} else {}
    return web.json_response({**status, "message": "by the tests"}, status=code, headers=headers)
