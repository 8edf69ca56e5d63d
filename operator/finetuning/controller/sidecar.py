"""The metrics sidecar's live state: one GET with a time limit and a size limit, nothing more."""

import asyncio
from typing import cast

from pydantic import ValidationError
from typing_extensions import override

from finetuning.artifacts.models import STATE_MAX_BYTES, TrainingState
from finetuning.controller import naming

TIMEOUT_SECONDS = 2.0
_HEAD_LIMIT = 8192
_REQUEST = "GET /status HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\nConnection: close\r\n\r\n"
"""The user agent is how the sidecar of a trainer that was killed knows whom to wait for."""


class _Question(asyncio.Protocol):
    """Asks, and keeps what comes until the other side has said everything, or too much."""

    def __init__(self, request: bytes) -> None:
        self._request, self._said = request, bytearray()
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Of a stream; uvloop's is no subclass of it.
        cast("asyncio.Transport", transport).write(self._request)

    @override
    def data_received(self, data: bytes) -> None:
        self._said += data
        if len(self._said) > _HEAD_LIMIT + STATE_MAX_BYTES:
            self._end(b"")

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end(bytes(self._said) if exc is None else b"")

    def _end(self, answer: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


async def fetch(ip: str, port: int = naming.METRICS_PORT) -> TrainingState | None:
    """The sidecar's live state; None when there is none yet, or nobody answers.

    A client of HTTP costs three times as much, and a thousand running jobs are asked a hundred
    times a second.
    """
    host = f"[{ip}]" if ":" in ip else ip
    request = _REQUEST.format(f"{host}:{port}", naming.MANAGED_BY).encode()
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            said = await _ask(ip, port, request)
    except (OSError, TimeoutError):
        return None
    head, _, body = said.partition(b"\r\n\r\n")
    return parse(body) if head.split(b" ", 2)[1:2] == [b"200"] else None


async def _ask(ip: str, port: int, request: bytes) -> bytes:
    """What is answered until the connection ends; nothing where that is too much."""
    loop = asyncio.get_running_loop()
    transport, question = await loop.create_connection(lambda: _Question(request), ip, port)
    try:
        return await question.answer
    finally:
        transport.abort()


def parse(data: bytes) -> TrainingState | None:
    if len(data) > STATE_MAX_BYTES:
        return None
    try:
        return TrainingState.model_validate_json(data)
    except ValidationError:
        return None
