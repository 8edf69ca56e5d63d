"""FineTuningJobs over real HTTP as an API server keeps them, in a thread, with a kubeconfig."""

import asyncio
import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from tests.unit.controller.objects import job_body
from tests.unit.controller.world import merge

JOBS = "/apis/aim.amd.com/v1alpha1"
Found = tuple[int, Any]


def refusal(code: int, reason: str, message: str) -> Found:
    return code, {"kind": "Status", "code": code, "reason": reason, "message": message}


NOBODY = refusal(401, "Unauthorized", "Unauthorized")


class Api:
    """Keeps objects by path; `answers` overrides single paths with a code and a body.

    Who comes with another `token` is not known. `cuts` are the next connections for a log: after
    how many lines each ends, and whether it breaks.
    """

    def __init__(self) -> None:
        self.jobs: dict[tuple[str, str], dict[str, Any]] = {}
        self.pods: list[dict[str, Any]] = []
        self.logs: dict[str, str] = {}
        self.cuts: list[tuple[int, bool]] = []
        self.answers: dict[str, Any] = {}
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.agents: set[str] = set()
        self.on_create: dict[str, Any] = {}
        self.quota = 1000
        self.token = "t0ken"

    def keep(self, name: str = "demo", namespace: str = "team", **parts: Any) -> dict[str, Any]:
        """A job that is there already; `parts` are status, metadata and spec."""
        own = {"metadata": {"namespace": namespace, "uid": f"{name}-uid"}}
        job: dict[str, Any] = merge(merge(job_body(name), own), parts)
        self.jobs[namespace, name] = job
        return job

    def sent(self, method: str) -> list[tuple[str, dict[str, str], Any]]:
        return [(path, query, body) for how, path, query, body in self.requests if how == method]

    async def reply(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path, dict(request.query), body))
        self.agents.add(request.headers["User-Agent"])
        if self.cuts and request.path.endswith("/log"):
            return await self._cut(request)
        known = request.headers.get("Authorization") == f"Bearer {self.token}"
        code, found = self._found(request, body) if known else NOBODY
        if isinstance(found, str):
            return web.Response(status=code, text=found)
        return web.json_response(found, status=code)

    async def _cut(self, request: web.Request) -> web.StreamResponse:
        count, broken = self.cuts.pop(0)
        lines = self._log(request).splitlines(keepends=True)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write("".join(lines[:count]).encode())
        if broken and request.transport is not None:
            await asyncio.sleep(0.05)
            request.transport.abort()
        return response

    def _log(self, request: web.Request) -> str:
        """As a kubelet: three lines in each second, and the time asked for has whole seconds."""
        text, asked = self.logs[request.path.split("/")[-2]], request.query
        if asked.get("timestamps") != "true":
            return text
        since = asked.get("sinceTime", "")[:19]
        timed = [
            (f"2026-01-01T10:00:{number // 3:02}", f".{number % 3:09}Z {line}")
            for number, line in enumerate(text.splitlines(keepends=True))
        ]
        return "".join(second + rest for second, rest in timed if second >= since)

    def _found(self, request: web.Request, body: Any) -> Found:
        if request.path in self.answers:
            code, answer = self.answers[request.path]
            return code, answer(body) if callable(answer) else answer
        if "/pods" in request.path:
            return self._pods(request)
        if request.path == JOBS:
            return 200, {"resources": [{"name": "finetuningjobs"}]}
        if request.path.startswith(f"{JOBS}/"):
            return self._jobs(request, body)
        return 404, "404 page not found"

    def _pods(self, request: web.Request) -> Found:
        *_, kind, name = request.path.split("/")
        if name == "log":
            return 200, self._log(request)
        if name == "pods":
            return 200, {"items": self.pods}
        found = [each for each in self.pods if each["metadata"]["name"] == name]
        return (200, found[0]) if found else refusal(404, "NotFound", f'{kind} "{name}" not found')

    def _jobs(self, request: web.Request, body: Any) -> Found:
        parts = request.path.removeprefix(f"{JOBS}/").split("/")
        if parts == ["finetuningjobs"]:
            return 200, {"items": list(self.jobs.values())}
        namespace, name = parts[1], parts[3] if len(parts) > 3 else ""
        if request.method == "POST":
            return self._create(namespace, body, dry=request.query.get("dryRun") == "All")
        if not name:
            return 200, {"items": [job for key, job in self.jobs.items() if key[0] == namespace]}
        job = self.jobs.get((namespace, name))
        if job is None:
            return refusal(404, "NotFound", f'finetuningjobs.aim.amd.com "{name}" not found')
        if request.method == "DELETE":
            del self.jobs[namespace, name]
        if request.method == "PATCH":
            job = self.jobs[namespace, name] = merge(job, body)
            job["metadata"]["resourceVersion"] += "0"
        return 200, job

    def _create(self, namespace: str, body: Any, *, dry: bool) -> Found:
        meta = body["metadata"]
        name = meta.get("name") or f"{meta['generateName']}q8z5w"
        if (namespace, name) in self.jobs:
            return refusal(409, "AlreadyExists", f'finetuningjobs.aim.amd.com "{name}" exists')
        if len(self.jobs) >= self.quota:
            return refusal(403, "Forbidden", f'"{name}" is forbidden: exceeded quota: jobs')
        job = copy.deepcopy(body)
        job["metadata"] |= {
            "name": name,
            "uid": f"{name}-uid",
            "resourceVersion": "1",
            "generation": 1,
        }
        job |= self.on_create
        if not dry:
            self.jobs[namespace, name] = job
        return 201, job


def pod(name: str, job: str, component: str, container: str, state: dict[str, Any]) -> Any:
    labels = {
        "finetuning.aim.amd.com/job-uid": f"{job}-uid",
        "app.kubernetes.io/component": component,
    }
    meta = {"name": name, "namespace": "team", "uid": f"{name}-uid", "labels": labels}
    over = "terminated" in state
    status = {
        "phase": "Succeeded" if over else "Running",
        "containerStatuses": [{"name": container, "state": state}],
    }
    return {"metadata": meta, "status": status}


@contextmanager
def served(api: Api, kubeconfig: Path) -> Iterator[None]:
    """While it is entered, `kubeconfig` leads to the answers of `api`."""
    loop = asyncio.new_event_loop()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", api.reply)
    runner = web.AppRunner(application)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    port = loop.run_until_complete(start())
    kubeconfig.write_text(yaml.safe_dump(config(port)))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def config(port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "t0ken"}}],
        "contexts": [
            {"name": "lab", "context": {"cluster": "c", "user": "u", "namespace": "team"}},
            {"name": "other", "context": {"cluster": "c", "user": "u"}},
        ],
    }
