import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.unit.controller.objects import ended, pod, running, trainer_says
from tests.unit.controller.story import FINAL, STORY, tell
from tests.unit.controller.world import KEY as JOB
from tests.unit.controller.world import Process, World

from finetuning.artifacts.models import RunState, TrainingState
from finetuning.controller import naming, sidecar
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
    listener = Listener(10, lambda: next(times), woken.append)
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
    listener = Listener(10, lambda: 0.0, woken.append)
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


async def test_an_answer_that_says_nothing_new_asks_for_no_look(
    monkeypatch: pytest.MonkeyPatch, http: aiohttp.ClientSession
) -> None:
    woken, memory, times = list[Key](), Memory("uid"), iter(range(0, 1000, 10))
    listener = Listener(10, lambda: next(times), woken.append)
    same = TrainingState(updated_at=1, step=7)

    async def hear(found: TrainingState | None) -> int:
        told = Sidecar()
        told.answer.set_result(found)
        monkeypatch.setattr(sidecar, "fetch", told.fetch)
        before = len(woken)
        listener.ask(KEY, TRAINS, memory)
        await asyncio.sleep(0.05)
        assert told.asked == 1
        return len(woken) - before

    assert await hear(None) == 0, "nobody answers"
    assert await hear(same) == 1
    assert await hear(same.model_copy()) == 0, "the trainer stands still"
    assert await hear(None) == 0
    memory.withheld = True
    assert await hear(None) == 1, "a status that waited for it"


async def test_a_sidecar_is_asked_once_an_interval_whatever_looks_there_are_between(
    monkeypatch: pytest.MonkeyPatch, http: aiohttp.ClientSession
) -> None:
    now = 100.0
    monkeypatch.setattr(sidecar, "fetch", Told(1).fetch)
    listener, memory = Listener(10, lambda: now, lambda _: None), Memory("uid")
    assert listener.next_question(memory) == 10
    listener.ask(KEY, TRAINS, memory)
    assert listener.next_question(memory) == 10
    now = 107.5
    assert listener.next_question(memory) == 2.5
    now = 111.0
    assert listener.next_question(memory) == 10, "it has no address any more"
    await listener.close()


class Told:
    """A sidecar that knows of so many steps."""

    def __init__(self, step: int) -> None:
        self.step, self.asked = step, 0

    async def fetch(self, *_: object) -> TrainingState:
        self.asked += 1
        return TrainingState(updated_at=1, state=RunState.TRAINING, step=self.step, total_steps=300)


@pytest.mark.parametrize(
    ("phase", "message", "asked"),
    [
        ("Running", "", 1),
        ("Running", trainer_says(result="failed", step=3), 0),
        ("Failed", "", 0),
    ],
)
async def test_the_sidecar_of_a_killed_trainer_is_asked_once_more_and_at_once(
    monkeypatch: pytest.MonkeyPatch,
    http: aiohttp.ClientSession,
    phase: str,
    message: str,
    asked: int,
) -> None:
    told = Told(7)
    monkeypatch.setattr(sidecar, "fetch", told.fetch)
    listener = Listener(10, lambda: 0.0, lambda _: None)
    memory = Memory("uid")
    listener.ask(KEY, TRAINS, memory)
    await asyncio.sleep(0.01)
    told.asked = 0
    for _ in range(3):
        gone = pod(ended(137, message), phase=phase, podIP="10.0.0.1")
        listener.ask(KEY, Children(training_pods=(gone,)), memory)
        await asyncio.sleep(0.01)
    assert told.asked == asked


async def answered(process: Process) -> None:
    """Long after the last write, once the sidecar was asked and its answer looked at."""
    process.time += 60
    for _ in range(2):
        await process.settle()
        await asyncio.sleep(0.01)
    process.time += 20
    await process.settle()


async def life_of_a_killed_trainer(http: aiohttp.ClientSession, told: Told) -> World:
    world = World()
    process = Process(world, http)
    world.apply(backoffLimit=0)
    await tell(world, process, STORY[1:3])
    (raw,) = world.of("pods")
    name = ("pods", "team", raw["metadata"]["name"])
    world.patch(name, {"status": {"podIP": "10.0.0.1"}}, only_status=True)
    await answered(process)
    told.step += 79
    world.set_pods(naming.TRAINING, "Running", ended(137))
    await answered(process)
    world.set_pods(naming.TRAINING, "Failed", ended(137))
    world.end_job("demo-train", "Failed", "BackoffLimitExceeded")
    await process.settle()
    return world


async def test_how_far_a_killed_trainer_was_costs_no_write(
    monkeypatch: pytest.MonkeyPatch, http: aiohttp.ClientSession
) -> None:
    async def nothing(*_: object) -> None:
        return None

    told, writes = Told(201), []
    for fetch in (told.fetch, nothing):
        monkeypatch.setattr(sidecar, "fetch", fetch)
        world = await life_of_a_killed_trainer(http, told)
        writes.append([each for each in world.writes if each[1] == "finetuningjobs"])
        if fetch == told.fetch:
            assert (world.status["phase"], world.status["currentStep"]) == ("Failed", 280)
    # The one more is that of the running trainer's progress.
    assert len(writes[0]) == len(writes[1]) + 1


async def test_a_trainer_that_has_ended_is_asked_and_looked_at_no_more(
    world: World, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the Job controller takes to say that its Job is over."""
    told = Told(1)
    monkeypatch.setattr(sidecar, "fetch", told.fetch)
    await tell(world, process, STORY[:3])
    assert await process.reconciler.reconcile(JOB) is not None
    world.set_pods(naming.TRAINING, "Succeeded", ended(0, FINAL))
    await process.settle()
    process.time += 60
    await process.settle()
    asked = told.asked
    assert await process.reconciler.reconcile(JOB) is None
    assert (world.status["phase"], told.asked) == ("Running", asked)
