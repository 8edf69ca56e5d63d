import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from finetuning.api.v1alpha1 import FineTuningJobStatus
from finetuning.artifacts.models import STATE_MAX_BYTES, TrainingState
from finetuning.controller import progress

Serve = Callable[[bytes, int], Any]


def state(**fields: Any) -> TrainingState:
    base = {"updatedAt": 1.0, "state": "training", "step": 40, "totalSteps": 100, **fields}
    return TrainingState.model_validate(base)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.6, "1m0s"), (200, "3m20s"), (7500, "2h5m"), (273600, "3d4h"), (-5, "0s")],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


@pytest.mark.parametrize(
    ("step", "total", "text"),
    [(None, 10, ""), (5, None, ""), (5, 0, ""), (0, 10, "0%"), (999, 1000, "99%"), (10, 10, "99%")],
)
def test_a_percentage_needs_a_total_and_leaves_100_to_success(
    step: int | None, total: int | None, text: str
) -> None:
    assert progress.percent(step, total) == text


def test_what_is_not_finite_is_unknown() -> None:
    fields = progress.fields(state(loss="NaN", evalLoss="Infinity", tokensPerSecond=12.345))
    assert (fields["train_loss"], fields["eval_loss"]) == (None, None)
    assert fields["tokens_per_second"] == 12.3


@pytest.mark.parametrize(("epoch", "begun"), [(None, None), (0.0, 0), (0.1, 1), (1.0, 1), (2.2, 3)])
def test_epochs_are_counted_when_they_begin(epoch: float | None, begun: int | None) -> None:
    assert progress.fields(state(epoch=epoch))["current_epoch"] == begun


def test_only_steps_and_evaluations_are_worth_a_write() -> None:
    shown = FineTuningJobStatus(current_step=40, total_steps=100, eval_loss=1.5)
    assert not progress.worth_showing(shown, state(evalLoss=1.5, tokensPerSecond=99))
    assert progress.worth_showing(shown, state(evalLoss=1.5, step=41))
    assert progress.worth_showing(shown, state(evalLoss=1.4))


def test_a_run_that_is_still_starting_shows_nothing() -> None:
    shown = FineTuningJobStatus(current_step=40, total_steps=100)
    assert not progress.worth_showing(shown, state(state="starting", step=0))


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
        found = await progress.fetch(session, "127.0.0.1", port)
    assert (found.step if found else None) == step


async def test_nobody_there_is_no_state(unused_tcp_port: int) -> None:
    async with aiohttp.ClientSession() as session:
        assert await progress.fetch(session, "127.0.0.1", unused_tcp_port) is None
