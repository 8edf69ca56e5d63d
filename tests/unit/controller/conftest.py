"""An API server in memory and one operator that works on it."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from tests.unit.controller.world import Process, World

from finetuning.controller import sidecar


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def process(world: World, http: aiohttp.ClientSession) -> Process:
    return Process(world, http)


@pytest.fixture
def no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sidecar answers."""

    async def silent(*_: Any) -> None:
        return None

    monkeypatch.setattr(sidecar, "fetch", silent)
