"""The watches against a real HTTP server that lists and streams as an API server does, or worse."""

import asyncio
import json
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from tests.unit.controller.answering import answering
from tests.unit.controller.objects import batch_job, ended, job_body, pod, running, waiting
from tests.unit.controller.test_gateway import config
from typing_extensions import override

from finetuning.controller import gateway, naming, observed, watching
from finetuning.controller.cache import Cache
from finetuning.controller.gateway import ApiError, Gateway, Resource
from finetuning.controller.watching import (
    AT_ONCE,
    LATER,
    SOON,
    Watch,
    Watches,
    goes_on,
    is_refusal,
    job_patience,
    kinds,
    pod_patience,
)
from finetuning.controller.workqueue import Turn, WorkQueue

if TYPE_CHECKING:
    from finetuning.controller.observed import Key

Play = Callable[[web.StreamResponse], Awaitable[None]]
Raw = dict[str, Any]
HELD = 3600.0


def body(name: str, version: int) -> Raw:
    found = job_body(name=name, uid=f"uid-{name}")
    found["metadata"] |= {"resourceVersion": str(version), "managedFields": [{"manager": "x"}]}
    return found


def line(kind: str, about: Raw) -> bytes:
    return json.dumps({"type": kind, "object": about}).encode() + b"\n"


def bookmark(version: int) -> bytes:
    return line("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


def status(code: int, reason: str, **more: Any) -> Raw:
    return {"kind": "Status", "code": code, "reason": reason, "message": "so it is", **more}


def sends(*pieces: bytes, then: float = HELD) -> Play:
    """Send these, hold the stream open for `then` seconds, and end it in order."""

    async def play(stream: web.StreamResponse) -> None:
        for piece in pieces:
            await stream.write(piece)
        await asyncio.sleep(then)

    return play


def hangs_up(*pieces: bytes) -> Play:
    """Send these and close the connection in the middle of the answer."""

    async def play(stream: web.StreamResponse) -> None:
        for piece in pieces:
            await stream.write(piece)
        await asyncio.sleep(0.02)
        assert stream._req is not None
        assert stream._req.transport is not None
        stream._req.transport.abort()

    return play


class Server:
    """Lists `objects` at `version`; each watch plays the next of `plays`, the last one again."""

    def __init__(self) -> None:
        self.port = 0
        self.objects: list[Raw] = []
        self.version = 100
        self.plays: list[Play] = [sends()]
        self.refusals: list[tuple[int, dict[str, str]]] = []
        """Codes and headers of the next answers, whatever is asked."""
        self.lists: list[dict[str, str]] = []
        self.watches: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.page_size = 500
        self._another = asyncio.Event()

    async def has_watches(self, number: int) -> None:
        while len(self.watches) < number:
            self._another.clear()
            await self._another.wait()

    async def reply(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.paths.append(request.path)
        (self.watches if "watch" in query else self.lists).append(query)
        self._another.set()
        if self.refusals:
            code, headers = self.refusals.pop(0)
            return web.json_response(status(code, "Refused"), status=code, headers=headers)
        return await (self._stream(request) if "watch" in query else self._list(query))

    async def _list(self, query: dict[str, str]) -> web.Response:
        begin = int(query.get("continue", "0"))
        end = begin + self.page_size
        meta = {"resourceVersion": str(self.version)}
        if end < len(self.objects):
            meta["continue"] = str(end)
        return web.json_response({"metadata": meta, "items": self.objects[begin:end]})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        await play(stream)
        return stream


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(watching, "MAX_DELAY", 0.05)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    async with answering(found.reply) as found.port:
        yield found


@pytest.fixture
def calls() -> list[tuple[str, str, int]]:
    return []


@pytest.fixture
async def api(
    server: Server, calls: list[tuple[str, str, int]], tmp_path: Path
) -> AsyncIterator[Gateway]:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(config(server.port))
    found = await Gateway.connect(str(kubeconfig), lambda *call: calls.append(call[:3]))
    yield found
    await found.close()


class Lone:
    """One watch of jobs in all namespaces, running."""

    def __init__(self, api: Gateway) -> None:
        self.time = 1000.0
        self.answers = False
        """Whether the server answers others."""
        self.cache = Cache()
        self.queue: WorkQueue[Key] = WorkQueue()
        kind, answers = kinds(self.cache)[0], lambda: self.answers
        self.watch = Watch(api, kind, None, self.queue, lambda: self.time, answers=answers)
        self.task = asyncio.create_task(self.watch.forever())

    def names(self) -> dict[str, int]:
        return {each.meta.name: each.meta.version for each in self.cache.customs}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.005)


@pytest.fixture
async def lone(api: Gateway) -> AsyncIterator[Lone]:
    found = Lone(api)
    yield found
    found.task.cancel()
    await asyncio.wait([found.task])


async def test_a_list_in_pages_is_followed_from_its_version(
    server: Server, lone: Lone, calls: list[tuple[str, str, int]]
) -> None:
    server.objects = [body(f"j{number}", number + 1) for number in range(5)]
    server.page_size = 2
    server.plays = [sends(line("MODIFIED", body("j0", 101)), line("ADDED", body("new", 102)))]
    await lone.until(lambda: "new" in lone.names())
    assert lone.names() == {"j0": 101, "j1": 2, "j2": 3, "j3": 4, "j4": 5, "new": 102}
    assert [each.get("continue") for each in server.lists] == [None, "2", "4"]
    (watch,) = server.watches
    assert watch["resourceVersion"] == "100"
    assert watch["allowWatchBookmarks"] == "true"
    assert 240 <= int(watch["timeoutSeconds"]) <= 360
    assert lone.watch.listed.is_set()
    assert calls == [("list", "finetuningjobs", 200)] * 3 + [("watch", "finetuningjobs", 200)]


class Mark:
    """Lives as long as the text that has it."""


class Text(bytes):
    mark: Mark


class Watchful(Gateway):
    """Notes at each page how many earlier ones somebody still holds."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.alive: weakref.WeakSet[Mark] = weakref.WeakSet()
        self.held: list[int] = []

    @override
    async def page(
        self, resource: Resource, namespace: str | None, more: str, **selectors: str
    ) -> bytes:
        self.held.append(len(self.alive))
        text = Text(await super().page(resource, namespace, more, **selectors))
        text.mark = Mark()
        self.alive.add(text.mark)
        return text


async def test_nobody_holds_a_page_while_the_next_one_is_on_its_way(
    server: Server, tmp_path: Path
) -> None:
    """Each is megabytes, and there are three lists at once."""
    server.objects = [body(f"j{number}", number + 1) for number in range(5)]
    server.page_size = 2
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(config(server.port))
    api = await Watchful.connect(str(kubeconfig), lambda *_: None)
    lone = Lone(api)
    await lone.until(lone.watch.listed.is_set)
    lone.task.cancel()
    await asyncio.wait([lone.task])
    await api.close()
    assert len(lone.names()) == 5
    assert api.held == [0, 0, 0]


async def test_who_is_new_goes_before_news_and_those_before_the_rest(
    server: Server, lone: Lone
) -> None:
    server.objects = [body("old", 1), body("older", 2)]
    events = [line("MODIFIED", body("old", 101)), line("ADDED", body("new", 102))]
    server.plays = [sends(b"".join(events))]
    await lone.until(lambda: "new" in lone.names())
    turns = {turn: [key[1] for key in lane] for turn, lane in lone.queue._lanes.items()}
    assert turns == {Turn.NEW: ["new"], Turn.NEWS: ["old"], Turn.ROUTINE: ["older"]}


async def test_what_is_deleted_goes_and_its_job_is_looked_at(server: Server, lone: Lone) -> None:
    server.objects = [body("a", 1)]
    server.plays = [sends(line("DELETED", body("a", 101)))]
    await lone.until(lambda: lone.watch._version == "101")
    assert lone.names() == {}
    assert await lone.queue.get() == ("team", "a")


async def test_after_the_server_ended_it_the_watch_goes_on_from_the_last_event(
    server: Server, lone: Lone
) -> None:
    server.plays = [
        sends(line("ADDED", body("a", 105)), then=0),
        sends(bookmark(120), then=0),
        sends(line("ADDED", body("b", 130))),
    ]
    await lone.until(lambda: "b" in lone.names())
    assert [each["resourceVersion"] for each in server.watches] == ["100", "105", "120"]
    assert len(server.lists) == 1


async def test_a_connection_that_breaks_costs_no_list_and_no_event(
    server: Server, lone: Lone
) -> None:
    cut = line("ADDED", body("b", 106))
    server.plays = [
        hangs_up(line("ADDED", body("a", 105)), cut[: len(cut) // 2]),
        sends(cut),
    ]
    await lone.until(lambda: "b" in lone.names())
    assert [each["resourceVersion"] for each in server.watches] == ["100", "105"]
    assert len(server.lists) == 1


async def test_an_event_may_come_in_any_pieces(server: Server, lone: Lone) -> None:
    text = line("ADDED", body("a", 101)) + line("ADDED", body("b", 102))
    server.plays = [sends(*(text[at : at + 7] for at in range(0, len(text), 7)))]
    await lone.until(lambda: lone.names() == {"a": 101, "b": 102})


@pytest.mark.fault(
    "Watch expired (410), an error 500 or garbage in it, deletions meanwhile",
    "listed again; what is gone is dropped",
)
@pytest.mark.parametrize(
    "bad",
    [
        line("ERROR", status(410, "Expired")),
        line("ERROR", status(500, "InternalError")),
        line("ERROR", {"kind": "Status"}),
        b"<html>proxy error</html>\n",
        b'{"type": "ADDED"}\n',
        b'{"type": "BOOKMARK", "object": {"metadata": 7}}\n',
        b"\xff\xfe\n",
        b"\n",
    ],
)
async def test_after_what_cannot_be_followed_comes_a_list_that_also_drops(
    server: Server, lone: Lone, bad: bytes
) -> None:
    server.objects = [body("gone", 1), body("stays", 2)]

    async def delete_unseen(stream: web.StreamResponse) -> None:
        server.objects, server.version = [body("stays", 2), body("came", 150)], 200
        await stream.write(bad)
        await asyncio.sleep(HELD)

    server.plays = [delete_unseen, sends(line("ADDED", body("next", 201)))]
    await lone.until(lambda: "next" in lone.names())
    assert lone.names() == {"stays": 2, "came": 150, "next": 201}
    assert [each["resourceVersion"] for each in server.watches] == ["100", "200"]
    assert ("team", "gone") in lone.queue._waiting


async def test_a_list_again_asks_only_for_looks_at_what_changed(server: Server, lone: Lone) -> None:
    server.objects = [body("same", 1), body("changed", 2)]
    await lone.until(lambda: bool(server.watches))
    for _ in range(2):
        lone.queue.done(await lone.queue.get())
    server.objects[1] = body("changed", 50)
    await lone.watch._list()
    assert list(lone.queue._waiting) == [("team", "changed")]


async def test_an_object_of_no_known_shape_does_not_hide_the_others(
    server: Server, lone: Lone, caplog: pytest.LogCaptureFixture
) -> None:
    server.objects = [{"metadata": 3}, body("a", 1)]
    server.plays = [sends(line("ADDED", {"metadata": []}), line("ADDED", body("b", 102)))]
    await lone.until(lambda: lone.names() == {"a": 1, "b": 102})
    assert caplog.text.count("cannot be read") == 2


async def test_a_busy_server_is_asked_again_when_it_said(server: Server, lone: Lone) -> None:
    server.refusals = [(429, {"Retry-After": "1"}), (503, {})]
    begun = asyncio.get_running_loop().time()
    await lone.until(lone.watch.listed.is_set)
    assert asyncio.get_running_loop().time() - begun > 0.9
    assert len(server.lists) == 3


async def test_nobody_sleeps_for_an_hour_because_a_proxy_says_so(
    server: Server, lone: Lone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "LONGEST_WAIT_SECONDS", 0.1)
    server.refusals = [(503, {"Retry-After": "3600"})]
    server.plays = [sends(line("ERROR", status(429, "Busy", details={"retryAfterSeconds": 3600})))]
    await lone.until(lambda: len(server.watches) > 1)
    assert ApiError(503, "", "", 3600).after == 0.1


async def test_a_watch_that_is_put_off_keeps_its_version(server: Server, lone: Lone) -> None:
    busy = status(429, "TooManyRequests", details={"retryAfterSeconds": 1})
    server.plays = [
        sends(line("ADDED", body("a", 105)), line("ERROR", busy)),
        sends(line("ADDED", body("b", 106))),
    ]
    begun = asyncio.get_running_loop().time()
    await lone.until(lambda: "b" in lone.names())
    assert asyncio.get_running_loop().time() - begun > 0.9
    assert [each["resourceVersion"] for each in server.watches] == ["100", "105"]
    assert len(server.lists) == 1


@pytest.mark.fault(
    "Watch without a byte (half-open)",
    "another one goes on from where it was, within 71 s; nothing is listed in full",
)
async def test_after_silence_another_watch_goes_on_from_where_it_was(
    server: Server, lone: Lone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a kind to which nothing happens, some servers send no bookmark either."""
    assert gateway.IDLE_SECONDS <= 70
    monkeypatch.setattr(gateway, "IDLE_SECONDS", 0.2)
    server.objects = [body("old", 7)]
    server.plays = [sends(), sends(), sends(line("ADDED", body("a", 101)))]
    await lone.until(lambda: "a" in lone.names())
    assert [each["resourceVersion"] for each in server.watches] == ["100"] * 3
    assert [each["limit"] for each in server.lists] == ["500", "1", "1"]


async def test_of_many_silences_in_a_row_one_is_broken_by_a_list(
    server: Server, lone: Lone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy on the way may buffer what is told."""
    monkeypatch.setattr(gateway, "IDLE_SECONDS", 0.05)
    await lone.until(lambda: len(server.lists) > 8)
    limits = [each["limit"] for each in server.lists[:9]]
    assert limits == ["500", *"111", "500", *"111", "500"]


async def test_silence_of_a_server_that_was_set_back_is_broken_by_a_list(
    server: Server, lone: Lone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "IDLE_SECONDS", 0.2)
    server.plays = [sends(), sends(line("ADDED", body("a", 51)))]
    await lone.until(lambda: bool(server.watches))
    server.version = 50
    await lone.until(lambda: "a" in lone.names())
    assert [each["resourceVersion"] for each in server.watches] == ["100", "50"]


@pytest.mark.fault("etcd restored from a backup: versions go back", "what a fresh list says counts")
async def test_a_backup_that_was_restored_is_believed(server: Server, lone: Lone) -> None:
    server.objects = [body("a", 900)]
    server.version = 1000
    await lone.until(lambda: bool(server.watches))
    server.objects, server.version = [body("a", 7)], 10
    await lone.watch._list()
    assert lone.names() == {"a": 7}
    assert lone.watch._version == "10"


async def test_a_line_without_an_end_is_not_collected_for_ever(
    server: Server, lone: Lone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_EVENT", 10_000)
    server.plays = [sends(*([b"x" * 1000] * 12)), sends(line("ADDED", body("a", 101)))]
    await lone.until(lambda: "a" in lone.names())
    assert len(server.lists) == 2


async def test_a_server_that_is_away_is_waited_for(
    server: Server, lone: Lone, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.objects = [body("a", 1)]
    server.refusals = [(503, {})] * 15
    await lone.until(lone.watch.listed.is_set)
    server.plays = [sends(bookmark(101))]
    assert lone.names() == {"a": 1}
    # At the second and the tenth failure, not at each.
    assert caplog.text.count("watch of finetuningjobs in all namespaces failed") == 2


@pytest.mark.fault("Lists refused for minutes", "the process ends with what was said")
async def test_who_is_refused_for_minutes_ends_with_what_was_said(
    server: Server, lone: Lone
) -> None:
    server.refusals = [(403, {})] * 1000
    await lone.until(lambda: len(server.lists) > 3)
    lone.time += watching.REFUSED_SECONDS + 1
    with pytest.raises(ApiError, match=r"watch of finetuningjobs in all namespaces: 403: .*so it"):
        await lone.until(lambda: False)


async def test_rights_that_come_late_are_enough(server: Server, lone: Lone) -> None:
    server.refusals = [(403, {})] * 3
    await lone.until(lambda: bool(server.watches))
    lone.time += watching.REFUSED_SECONDS + 1
    server.refusals = [(403, {})]
    await asyncio.sleep(0.05)
    assert not lone.task.done()


@pytest.mark.parametrize("code", [500, 503])
async def test_who_hears_nothing_while_others_are_answered_ends(
    server: Server, lone: Lone, code: int
) -> None:
    server.plays = [sends(then=0.02)]
    await lone.until(lambda: bool(server.watches))
    server.refusals = [(code, {})] * 1000
    await lone.until(lambda: len(server.watches) > 3)
    lone.time += watching.DEAF_SECONDS + 1
    await lone.until(lambda: len(server.watches) > 6)
    lone.answers = True
    await lone.until(lambda: len(server.watches) > 9)
    lone.time += watching.DEAF_SECONDS + 1
    with pytest.raises(ApiError, match=f"watch of finetuningjobs in all namespaces: {code}: "):
        await lone.until(lambda: False)


async def test_nobody_ends_that_has_not_begun_or_is_told_in_between(
    server: Server, lone: Lone
) -> None:
    server.plays = [sends(line("ADDED", body("a", 101)), then=0.01)]
    lone.answers = True
    server.refusals = [(503, {})] * 20
    await lone.until(lambda: len(server.lists) > 3)
    lone.time += watching.DEAF_SECONDS + 1
    await lone.until(lone.watch.listed.is_set)
    for _ in range(3):
        server.refusals = [(503, {})] * 2
        await lone.until(lambda: not server.refusals and not lone.watch._deaf_since)
        lone.time += watching.DEAF_SECONDS + 1
    assert not lone.task.done()


async def test_what_was_refused_is_tried_when_it_is_allowed_again(
    server: Server, lone: Lone
) -> None:
    server.plays = [sends(then=0.02)]
    await lone.until(lambda: bool(server.watches))
    server.refusals = [(403, {})] * 3
    for _ in range(12):
        lone.queue.retry(("team", "waits"))
    await lone.until(lambda: not server.refusals)
    await lone.until(lambda: ("team", "waits") in lone.queue._waiting)


@pytest.mark.fault("Definition deleted and made again", "waited for, then served")
async def test_a_definition_that_is_gone_is_waited_for(server: Server, lone: Lone) -> None:
    server.refusals = [(404, {})] * 1000
    await lone.until(lambda: len(server.lists) > 2)
    assert lone.watch.is_missing
    server.refusals.clear()
    lone.time += watching.REFUSED_SECONDS + 1
    server.objects = [body("a", 1)]
    await lone.until(lambda: lone.names() == {"a": 1})
    assert not lone.watch.is_missing


@pytest.mark.parametrize(
    ("code", "reason", "verdict"),
    [
        (0, "Unreachable", "follow"),
        (0, gateway.SILENT, "list"),
        (400, "BadRequest", "list, refused"),
        (401, "Unauthorized", "follow, refused"),
        (403, "Forbidden", "list, refused"),
        (404, "NotFound", "list"),
        (410, "Expired", "list"),
        (429, "TooManyRequests", "follow"),
        (500, "InternalError", "follow"),
        (503, "ServiceUnavailable", "follow"),
        (504, "Timeout", "follow"),
    ],
)
def test_every_refusal_has_its_way_on(code: int, reason: str, verdict: str) -> None:
    error = ApiError(code, reason, "")
    way = "follow" if goes_on(error) else "list"
    assert way + (", refused" if is_refusal(error) else "") == verdict


async def test_each_namespace_has_watches_of_its_own_however_many_there_are(
    server: Server, api: Gateway
) -> None:
    names = [f"team-{number}" for number in range(40)]
    queue: WorkQueue[Key] = WorkQueue()
    watches = Watches(api, Cache(), queue, names)
    tasks = [asyncio.create_task(part) for part in watches.parts()]
    async with asyncio.timeout(20):
        await watches.listed()
        await server.has_watches(120)
    # Every connection is taken by a watch, and a write still goes through.
    async with asyncio.timeout(5):
        await api.document(gateway.NODES, "/version")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    wanted = [f"/namespaces/{name}/{kind}" for name in names for kind in ("jobs", "pods")]
    assert all(sum(path.endswith(each) for path in server.paths) == 2 for each in wanted)
    selectors = {each.get("labelSelector") for each in server.watches}
    assert selectors == {None, naming.CHILD_SELECTOR}


async def test_a_new_token_is_used_by_the_next_watch(server: Server, api: Gateway) -> None:
    """As the client gets one from the service account."""
    seen: list[str | None] = []

    async def refresh(configuration: Any) -> None:
        configuration.api_key["BearerToken"] = f"Bearer token-{len(seen)}"

    api._login.server.refresh_api_key_hook = refresh
    play = server.plays[0]

    async def note(stream: web.StreamResponse) -> None:
        assert stream._req is not None
        seen.append(stream._req.headers.get("Authorization"))
        if len(seen) == 2:
            await play(stream)

    server.plays = [note]
    lone = Lone(api)
    await lone.until(lambda: len(seen) == 2)
    lone.task.cancel()
    await asyncio.wait([lone.task])
    assert seen == ["Bearer token-0", "Bearer token-1"]


def of_validation(state: Raw, **fields: Any) -> observed.Pod:
    return pod(state, component=naming.VALIDATION, **fields)


@pytest.mark.parametrize(
    ("news", "seconds"),
    [
        (job_patience(batch_job()), LATER),
        (job_patience(batch_job(complete=True)), SOON),
        (job_patience(batch_job(failed="BackoffLimitExceeded")), SOON),
        (job_patience(batch_job(condition="FailureTarget")), SOON),
        (job_patience(batch_job(failed_pods=1)), SOON),
        (job_patience(batch_job(condition="Suspended")), SOON),
        (pod_patience(pod(phase="Pending")), LATER),
        (pod_patience(pod(waiting("ContainerCreating"), phase="Pending")), LATER),
        (pod_patience(pod(running(), phase="Running")), SOON),
        (pod_patience(pod(ended(0), phase="Succeeded")), LATER),
        (pod_patience(pod(ended(137), phase="Running")), AT_ONCE),
        (pod_patience(pod(ended(143), phase="Failed")), AT_ONCE),
        (pod_patience(pod(phase="Failed")), AT_ONCE),
        (pod_patience(of_validation(running(), phase="Running")), LATER),
        (pod_patience(of_validation(ended(4), phase="Failed")), AT_ONCE),
    ],
)
def test_what_people_wait_for_is_looked_at_soon_and_the_rest_with_it(
    news: float, seconds: float
) -> None:
    assert news == seconds


async def test_news_wait_for_the_next_ones_and_are_one_look(server: Server, lone: Lone) -> None:
    server.objects = [body("a", 1)]
    await lone.until(lone.watch.listed.is_set)
    lone.queue.done(await lone.queue.get())
    for version in (101, 102, 103):
        lone.watch._take(line("MODIFIED", body("a", version)))
    assert lone.queue.depth == 0
    lone.queue.done(await lone.queue.get())
    await asyncio.sleep(2 * SOON)
    assert lone.queue.depth == 0
