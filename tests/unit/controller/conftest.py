"""An API server in memory and one operator that works on it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.unit.controller.world import Process, World


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
