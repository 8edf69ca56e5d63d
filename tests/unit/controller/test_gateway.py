"""The gateway against a real HTTP server that answers as an API server does."""

import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from tests.unit.controller.answering import answering

from finetuning.controller import gateway, pieces
from finetuning.controller.gateway import CUSTOMS, JOBS, PODS, SERVICES, ApiError, Gateway

Calls = list[tuple[str, str, int]]


class Server:
    """Answers from a list, and remembers what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: list[tuple[int, Any, dict[str, str]]] = []
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []

    def answer(self, code: int, body: Any, **headers: str) -> None:
        self.answers.append(
            (code, body, {name.replace("_", "-"): v for name, v in headers.items()})
        )

    async def reply(self, request: web.Request) -> web.Response:
        text = await request.text()
        self.requests.append(
            (request.method, request.path, dict(request.query), json.loads(text) if text else None)
        )
        self.headers = dict(request.headers)
        code, body, headers = self.answers.pop(0)
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=code, text=text, headers=headers)


@pytest.fixture
def calls() -> Calls:
    return []


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    async with answering(found.reply) as found.port:
        yield found


@pytest.fixture
async def api(server: Server, calls: Calls, tmp_path: Path) -> AsyncIterator[Gateway]:
    port = server.port
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(config(port))
    found = await Gateway.connect(str(kubeconfig), lambda *call: calls.append(call[:3]))
    yield found
    await found.close()


def config(port: int) -> str:
    name = "here"
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": name, "user": {"token": "t0ken"}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        }
    )


def status(reason: str, message: str) -> dict[str, str]:
    return {"kind": "Status", "reason": reason, "message": message}


async def test_a_call_is_signed_counted_and_names_its_sender(
    api: Gateway, server: Server, calls: Calls
) -> None:
    server.answer(201, {"metadata": {"name": "a"}})
    manifest = {"metadata": {"namespace": "team", "name": "a"}}
    assert await api.create(JOBS, manifest) == {"metadata": {"name": "a"}}
    query = {"fieldManager": "finetuning-operator"}
    path = "/apis/batch/v1/namespaces/team/jobs"
    assert server.requests == [("POST", path, query, manifest)]
    assert server.headers["Authorization"] == "Bearer t0ken"
    assert server.headers["User-Agent"] == "finetuning-operator"
    assert calls == [("create", "jobs", 201)]


async def test_of_what_a_write_is_answered_only_the_object_is_read(
    api: Gateway, server: Server
) -> None:
    meta = {"name": "a", "uid": "1", "resourceVersion": "7", "labels": {"a": "b"}}
    whole = {"metadata": meta, "spec": {"any": [1]}, "status": {"phase": "Running"}}
    fields = [{"manager": "somebody", "fieldsV1": {"f:spec": {}}}]
    server.answer(200, {**whole, "metadata": {**meta, "managedFields": fields}})
    assert await api.patch(CUSTOMS, "team", "a", {"status": {}}, "status") == whole


async def test_texts_and_lists_of_other_types_are_sent_as_what_they_are(
    api: Gateway, server: Server
) -> None:
    """As some readers of YAML give them."""

    class Scalar(str):
        __slots__ = ()

    server.answer(201, {})
    spec = OrderedDict(method=Scalar("lora"), none=None, ü=[0.1, 3, True])
    await api.create(JOBS, {"metadata": {"namespace": "team"}, "spec": spec})
    assert server.requests[0][3]["spec"] == {"method": "lora", "none": None, "ü": [0.1, 3, True]}


async def test_what_has_no_form_in_json_is_not_sent(api: Gateway, server: Server) -> None:
    with pytest.raises(TypeError, match="has no form in JSON"):
        await api.create(JOBS, {"metadata": {"namespace": "team"}, "spec": object()})
    assert server.requests == []


async def test_a_status_is_merged_into_its_subresource(api: Gateway, server: Server) -> None:
    server.answer(200, {})
    await api.patch(CUSTOMS, "team", "a", {"status": {"phase": "Running"}}, "status")
    method, path, _, body = server.requests[0]
    assert (method, path) == (
        "PATCH",
        "/apis/aim.amd.com/v1alpha1/namespaces/team/finetuningjobs/a/status",
    )
    assert body == {"status": {"phase": "Running"}}
    assert server.headers["Content-Type"] == "application/merge-patch+json"


@pytest.mark.parametrize("code", [200, 404, 409])
async def test_only_the_very_object_is_deleted(api: Gateway, server: Server, code: int) -> None:
    server.answer(code, status("NotFound" if code == 404 else "Conflict", "") if code > 200 else {})
    await api.delete(SERVICES, "team", "a", "uid-of-a")
    path = "/api/v1/namespaces/team/services/a"
    assert server.requests == [("DELETE", path, {}, {"preconditions": {"uid": "uid-of-a"}})]


async def test_a_deletion_that_is_refused_is_an_error(api: Gateway, server: Server) -> None:
    server.answer(403, status("Forbidden", "no"))
    with pytest.raises(ApiError, match="403: Forbidden"):
        await api.delete(SERVICES, "team", "a", "uid-of-a")


async def test_what_is_not_there_is_none(api: Gateway, server: Server, calls: Calls) -> None:
    server.answer(404, status("NotFound", "no such job"))
    assert await api.get(JOBS, "team", "a") is None
    assert calls == [("get", "jobs", 404)]


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (409, status("AlreadyExists", "there is one"), (409, "AlreadyExists", "there is one")),
        (403, status("Forbidden", "no"), (403, "Forbidden", "no")),
        (502, "<html>bad gateway</html>", (502, "", "<html>bad gateway</html>")),
    ],
)
async def test_a_refusal_keeps_code_reason_and_message(
    api: Gateway, server: Server, code: int, body: Any, expected: tuple[int, str, str]
) -> None:
    server.answer(code, body)
    with pytest.raises(ApiError) as caught:
        await api.create(JOBS, {"metadata": {"namespace": "team"}})
    assert (caught.value.code, caught.value.reason, caught.value.message) == expected


async def test_a_busy_server_says_when_to_come_back(api: Gateway, server: Server) -> None:
    server.answer(429, status("TooManyRequests", "busy"), Retry_After="7")
    with pytest.raises(ApiError) as caught:
        await api.get(JOBS, "team", "a")
    assert caught.value.after == 7


async def test_long_lists_come_in_pages_without_specs(api: Gateway, server: Server) -> None:
    server.answer(200, {"items": [{"metadata": {"uid": "1"}}], "metadata": {"continue": "next"}})
    server.answer(200, {"items": [{"metadata": {"uid": "2"}}], "metadata": {}})
    assert await api.uids(PODS, None, labelSelector="a=b") == {"1", "2"}
    first, second = (query for _, _, query, _ in server.requests)
    assert first == {"labelSelector": "a=b", "limit": "500"}
    assert second == {**first, "continue": "next"}
    assert "PartialObjectMetadataList" in server.headers["Accept"]


async def test_an_empty_list_may_be_null(api: Gateway, server: Server) -> None:
    server.answer(200, {"items": None, "metadata": {}})
    assert await api.uids(PODS, "team") == set()


async def test_nobody_at_the_other_end_is_code_0(
    calls: Calls, tmp_path: Path, unused_tcp_port: int
) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(config(unused_tcp_port))
    api = await Gateway.connect(str(kubeconfig), lambda *call: calls.append(call[:3]))
    with pytest.raises(ApiError) as caught:
        await api.get(JOBS, "team", "a")
    await api.close()
    assert (caught.value.code, calls) == (0, [("get", "jobs", 0)])


async def test_a_server_that_hangs_is_given_up(
    api: Gateway, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "TOTAL_SECONDS", 0.0001)
    server.answer(200, {})
    with pytest.raises(ApiError) as caught:
        await api.get(JOBS, "team", "a")
    assert caught.value.code == 0


async def test_a_kind_is_served_when_its_group_lists_it(api: Gateway, server: Server) -> None:
    server.answer(200, {"resources": [{"name": "finetuningjobs/status"}]})
    assert not await api.serves(CUSTOMS)
    server.answer(200, {"resources": [{"name": "finetuningjobs"}]})
    assert await api.serves(CUSTOMS)


async def test_waiting_for_a_kind_ends_when_time_is_up(api: Gateway, server: Server) -> None:
    server.answer(404, status("NotFound", "no such group"))
    assert not await gateway.wait_for_kind(api, CUSTOMS, seconds=-1)


async def test_a_server_that_never_answers_is_told_apart_from_a_missing_kind(
    api: Gateway, server: Server
) -> None:
    server.answer(503, status("Unavailable", "starting"))
    with pytest.raises(ApiError, match="starting"):
        await gateway.wait_for_kind(api, CUSTOMS, seconds=-1)


async def test_waiting_makes_no_sense_without_rights(api: Gateway, server: Server) -> None:
    server.answer(401, status("Unauthorized", "who are you"))
    with pytest.raises(ApiError, match="who are you"):
        await gateway.wait_for_kind(api, CUSTOMS, seconds=60)


async def test_a_log_comes_in_whole_lines_and_a_refusal_is_an_error(
    api: Gateway, server: Server
) -> None:
    server.answer(200, "one\nzwölf\nunfinished")
    pieces = [each async for each in api.log("team", "p", container="finetuning", follow="true")]
    assert "".join(pieces) == "one\nzwölf\nunfinished"
    path, query = "/api/v1/namespaces/team/pods/p/log", {"container": "finetuning"}
    assert server.requests == [("GET", path, {**query, "follow": "true"}, None)]
    server.answer(400, status("BadRequest", "waiting to start"))
    with pytest.raises(ApiError, match="waiting to start"):
        _ = [each async for each in api.log("team", "p", container="finetuning")]


async def test_no_character_of_a_log_is_cut_and_a_long_line_comes_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def sent() -> AsyncIterator[bytes]:
        for each in (b"a\xc3", b"\xbc\nb", b"c", b"\n", b"d" * 9):
            yield each

    monkeypatch.setattr(pieces, "LONGEST_LINE", 8)
    found = [each async for each in pieces.whole_lines(sent())]
    assert found == ["aü\n", "bc\n", "d" * 9]


async def test_a_dry_run_and_a_sender_of_its_own(server: Server, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(config(server.port))
    found = await Gateway.connect(str(tmp_path / "config"), lambda *_: None, sender="somebody")
    server.answer(201, {})
    await found.create(JOBS, {"metadata": {"namespace": "team"}}, dry_run=True)
    assert server.requests[0][2] == {"fieldManager": "somebody", "dryRun": "All"}
    assert server.headers["User-Agent"] == "somebody"
    await found.close()
