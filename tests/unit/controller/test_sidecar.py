import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from finetuning.artifacts.models import STATE_MAX_BYTES
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
    async with aiohttp.ClientSession() as session:
        found = await sidecar.fetch(session, "127.0.0.1", port)
    assert (found.step if found else None) == step


async def test_nobody_there_is_no_state(unused_tcp_port: int) -> None:
    async with aiohttp.ClientSession() as session:
        assert await sidecar.fetch(session, "127.0.0.1", unused_tcp_port) is None
