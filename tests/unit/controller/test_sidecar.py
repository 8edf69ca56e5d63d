import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from finetuning.artifacts.models import STATE_MAX_BYTES, TrainingState
from finetuning.controller import sidecar

Serve = Callable[[bytes, int], Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """A sidecar of one answer, as (body, code) -> port."""
    runners: list[web.AppRunner] = []

    async def start(body: bytes, code: int) -> int:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=body, status=code)

        app = web.Application()
        app.add_routes([web.get("/status", answer)])
        runner = web.AppRunner(app)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        return port

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("body", "code", "step"),
    [
        (b'{"updatedAt": 1, "step": 7}', 200, 7),
        (b"{}", 503, None),
        (b'{"updatedAt": 1, "step": 7}', 503, None),
        (b"<html>", 200, None),
        (b'{"updatedAt": 1, "step": -7}', 200, None),
        (b"", 200, None),
        (json.dumps({"updatedAt": 1, "x": "y" * STATE_MAX_BYTES}).encode(), 200, None),
    ],
)
async def test_an_answer_counts_only_when_it_is_a_state(
    serve: Serve, body: bytes, code: int, step: int | None
) -> None:
    port = await serve(body, code)
    found = await sidecar.fetch("127.0.0.1", port)
    assert (found.step if found else None) == step


async def test_nobody_there_is_no_state(unused_tcp_port: int) -> None:
    assert await sidecar.fetch("127.0.0.1", unused_tcp_port) is None


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


async def said_by(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> TrainingState | None:
    """What is made of somebody who answers at will."""
    monkeypatch.setattr(sidecar, "TIMEOUT_SECONDS", 0.3)
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        return await sidecar.fetch("127.0.0.1", server.sockets[0].getsockname()[1])


async def test_an_answer_in_pieces_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        for piece in (b"HTTP/1.0 200 OK\r", b"\n\r\n", b'{"updatedAt": 1, ', b'"step": 7}'):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.close()

    found = await said_by(talk, monkeypatch)
    assert found is not None
    assert found.step == 7
    assert b"User-Agent: finetuning-operator\r\n" in asked[0]


@pytest.mark.parametrize("silent", [True, False], ids=["nothing comes", "it never ends"])
async def test_who_says_nothing_or_too_much_is_left(
    monkeypatch: pytest.MonkeyPatch, *, silent: bool
) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not silent:
                writer.write(b"x" * 65536)
                await writer.drain()
            await asyncio.sleep(5)
        except ConnectionError:
            pass
        finally:
            writer.close()

    begun = asyncio.get_running_loop().time()
    assert await said_by(talk, monkeypatch) is None
    assert asyncio.get_running_loop().time() - begun < 2


async def test_a_connection_that_breaks_is_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.0 200 OK\r\n\r\n{"updatedAt": 1, "st')
        await writer.drain()
        writer.transport.abort()

    assert await said_by(talk, monkeypatch) is None
