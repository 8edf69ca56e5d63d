"""A real browser without a screen, told what to do through its DevTools protocol."""

import itertools
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from hack.cluster.native import prerequisites
from hack.cluster.shell import ClusterError
from tests.unit.local.processes import until

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 30.0


class NoBrowserError(Exception):
    """There is no browser here, and none can be had."""


def program() -> str:
    """The browser's program; as root on Debian it is installed."""
    if (found := _found()) is None:
        try:
            prerequisites.install(["chromium", "fonts-dejavu-core"], "the browser")
        except ClusterError as error:
            raise NoBrowserError(str(error)) from None
        found = _found()
    if found is None:
        raise NoBrowserError("the package chromium brought no program of that name")
    return found


def _found() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab; events are kept by their name."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=PATIENCE)
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    async def ask(self, expression: str) -> Any:
        """Evaluate JavaScript; a page's policy does not bind the protocol."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def open(self, where: Path | str) -> None:
        """A file, or an address."""
        self.events.clear()
        for domain in ("Page", "Network", "Log", "Runtime"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=where if isinstance(where, str) else where.as_uri())
        while not any(each["method"] == "Page.loadEventFired" for each in self.events):
            self.events.append(await self._socket.receive_json(timeout=PATIENCE))

    def requested(self) -> list[str]:
        """Addresses that the page asked for."""
        wanted = [x for x in self.events if x["method"] == "Network.requestWillBeSent"]
        return [str(each["params"]["request"]["url"]) for each in wanted]

    def complaints(self) -> list[str]:
        """What the browser logged about the page."""
        entries = [x for x in self.events if x["method"] == "Log.entryAdded"]
        return [str(each["params"]["entry"]["text"]) for each in entries]


@asynccontextmanager
async def browse(path: str, profile: Path) -> AsyncIterator[Page]:
    """A browser with a profile of its own and nothing to do in the background."""
    process = _start(path, profile)
    try:
        port = _port(profile / "DevToolsActivePort")
        async with aiohttp.ClientSession(trust_env=False) as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = await answer.json()
            address = next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=0) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        process.wait()


def _start(path: str, profile: Path) -> "subprocess.Popen[bytes]":
    arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
    ]
    with (profile.parent / "browser.log").open("w") as log:
        return subprocess.Popen(
            [path, *arguments], stdout=log, stderr=log, env={**os.environ, "HOME": str(profile)}
        )


def _port(file: Path) -> int:
    until(lambda: file.exists() and file.read_text().strip(), PATIENCE)
    return int(file.read_text().split()[0])
