"""Rows of a cluster's jobs: the real client and a kubeconfig, against answers over real HTTP."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.unit.controller.objects import job_body

from finetuning.api.v1alpha1 import Phase
from finetuning.top.cluster import ClusterSource
from finetuning.top.source import SourceError

TEAM = "/apis/aim.amd.com/v1alpha1/namespaces/team/finetuningjobs"
EVERYWHERE = "/apis/aim.amd.com/v1alpha1/finetuningjobs"


class Api:
    """Answers a list of jobs; notes what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.items: list[dict[str, Any]] = []
        self.code = 200

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        body: dict[str, Any] = {"items": self.items, "metadata": {}}
        if self.code != 200:
            body = {"kind": "Status", "reason": "No", "message": "no: \x1b[31mfinetuningjobs"}
        return web.json_response(body, status=self.code)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    found = Api()
    application = web.Application()
    application.router.add_get("/{path:.*}", found.answer)
    async with TestServer(application) as server:
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "contexts": [{"name": "lab", "context": {"cluster": "c", "namespace": "team"}}],
            "clusters": [{"name": "c", "cluster": {"server": str(server.make_url("/"))}}],
        }
        (tmp_path / "config").write_text(yaml.safe_dump(kubeconfig))
        yield found


@pytest.fixture
async def connect(api: Api, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    made: list[ClusterSource] = []

    async def begin(namespace: str | None = None, *, every: bool = False) -> ClusterSource:
        path = str(tmp_path / "config")
        made.append(await ClusterSource.connect(path, namespace, every=every))
        return made[-1]

    yield begin
    for source in made:
        await source.close()


def running(step: int, loss: float) -> dict[str, Any]:
    status = {"phase": "Running", "currentStep": step, "trainLoss": loss, "tokensPerSecond": 10.0}
    return {**job_body(method="lora"), "status": status}


@pytest.mark.parametrize(
    ("namespace", "every", "path", "name"),
    [
        (None, False, TEAM, "lab/team"),
        ("other", False, TEAM.replace("team", "other"), "lab/other"),
        (None, True, EVERYWHERE, "lab/all namespaces"),
    ],
)
async def test_jobs_of_the_contexts_namespace_unless_another_is_named(
    *, namespace: str | None, every: bool, path: str, name: str, api: Api, connect: Any
) -> None:
    source = await connect(namespace, every=every)
    assert list(await source.rows()) == []
    assert (api.asked, source.name) == ([path], name)


async def test_curves_grow_while_it_watches(api: Api, connect: Any) -> None:
    source = await connect()
    for step, loss in ((10, 0.9), (10, 0.9), (20, 0.5)):
        api.items = [running(step, loss)]
        (row,) = await source.rows()
    assert (row.name, row.namespace, row.losses, row.speeds) == ("demo", "", (0.9, 0.5), (10, 10))
    assert row.about.startswith("lora · ")


async def test_a_job_of_the_same_name_has_its_own_curve(api: Api, connect: Any) -> None:
    source = await connect(every=True)
    api.items = [running(10, 0.9)]
    await source.rows()
    again = running(20, 0.4)
    again["metadata"]["uid"] = "another"
    api.items = [again]
    (row,) = await source.rows()
    assert (row.title, row.losses) == ("team/demo", (0.4,))


async def test_a_job_that_cannot_be_read_is_still_shown(api: Api, connect: Any) -> None:
    api.items = [{**running(1, 1.0), "spec": 7, "status": {"phase": "Dancing"}}]
    (row,) = await (await connect()).rows()
    assert (row.name, row.about, row.status.phase) == ("demo", "", Phase.PENDING)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (401, "log in again"),
        (403, "no: [31mfinetuningjobs; name a namespace of yours with -n"),
        (404, "install the operator's chart first"),
        (500, "500"),
    ],
)
async def test_a_refusal_is_one_line(code: int, expected: str, api: Api, connect: Any) -> None:
    api.code = code
    with pytest.raises(SourceError) as refused:
        await (await connect()).rows()
    assert expected in str(refused.value).replace("no:  [", "no: [")
    assert "\x1b" not in str(refused.value)


async def test_a_server_that_is_gone_is_one_line(connect: Any, api: Api, tmp_path: Path) -> None:
    text = (tmp_path / "config").read_text()
    config = yaml.safe_load(text)
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:9"
    (tmp_path / "config").write_text(json.dumps(config))
    with pytest.raises(SourceError, match="the API server does not answer"):
        await (await connect()).rows()


@pytest.mark.parametrize("text", ["", "[]", "kind: Config", "current-context: x", "{{"])
async def test_a_file_that_is_no_kubeconfig_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(SourceError, match=str(path)):
        await ClusterSource.connect(str(path), None, every=False)
