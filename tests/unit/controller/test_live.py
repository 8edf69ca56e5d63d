import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.unit.controller.objects import pod, running

from finetuning.artifacts.models import TrainingState
from finetuning.controller import sidecar
from finetuning.controller.live import Listener
from finetuning.controller.memory import Memory
from finetuning.controller.observed import Children, Key

KEY: Key = ("team", "job")
TRAINS = Children(training_pods=(pod(running(), phase="Running", podIP="10.0.0.1"),))


class Sidecar:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: asyncio.Future[TrainingState | None] = asyncio.Future()

    async def fetch(self, *_: object) -> TrainingState | None:
        self.asked += 1
        return await self.answer


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_sidecar_that_does_not_answer_holds_nobody_up_and_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, http: aiohttp.ClientSession
) -> None:
    silent, woken = Sidecar(), list[Key]()
    monkeypatch.setattr(sidecar, "fetch", silent.fetch)
    times = iter((0.0, 1.0, 11.0, 22.0))
    listener = Listener(http, 10, lambda: next(times), woken.append)
    memory = Memory("uid")
    for _ in range(3):
        listener.ask(KEY, TRAINS, memory)
        await asyncio.sleep(0)
    assert (silent.asked, woken, memory.live) == (1, [], None)
    await listener.close()
    assert not listener.waits(KEY)


async def test_an_answer_is_kept_and_asks_for_another_look(
    monkeypatch: pytest.MonkeyPatch, http: aiohttp.ClientSession
) -> None:
    told, woken = Sidecar(), list[Key]()
    monkeypatch.setattr(sidecar, "fetch", told.fetch)
    listener = Listener(http, 10, lambda: 0.0, woken.append)
    memory = Memory("uid")
    listener.ask(KEY, TRAINS, memory)
    assert listener.waits(KEY)
    told.answer.set_result(TrainingState(updated_at=1, step=7))
    await asyncio.sleep(0.05)
    assert not listener.waits(KEY)
    assert memory.live is not None
    assert (memory.live.step, woken) == (7, [KEY])
    listener.ask(KEY, TRAINS, memory)
    assert told.asked == 1
