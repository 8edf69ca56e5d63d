"""A Hub on this machine: a real HTTP server with as much of its protocol as the client asks for.

It keeps repositories as the Hub does: commits of files, large ones by their digests.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml
from typing_extensions import override

TOKEN = "hf_writer"
GIT_ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


@dataclass
class Repository:
    """Its commits, oldest first; a file is its contents, or the digest of a large one."""

    private: bool
    commits: list[dict[str, bytes | str]] = field(
        default_factory=lambda: [{".gitattributes": GIT_ATTRIBUTES}]
    )

    @property
    def head(self) -> str:
        return self.name(len(self.commits) - 1)

    @staticmethod
    def name(number: int) -> str:
        return hashlib.sha1(f"commit {number}".encode(), usedforsecurity=False).hexdigest()

    def at(self, revision: str) -> dict[str, bytes | str]:
        names = {self.name(number): each for number, each in enumerate(self.commits)}
        return self.commits[-1] if revision == "main" else names[revision]


@dataclass
class Hub:
    """Answers to `TOKEN` alone; `refusals` are a status for requests whose line has the text."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    """Repositories that the token may not see."""

    def changes(self) -> list[str]:
        """Requests that sent a file, made a repository or a commit."""
        signs = ("PUT ", "/commit/", "/repos/create")
        return [each for each in self.asked if any(sign in each for sign in signs)]

    def contents(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        files = self.repositories[repository].at(revision)
        return {
            name: self.large[data] if isinstance(data, str) else data
            for name, data in files.items()
        }

    def answer(self, verb: str, path: str, token: str, body: bytes) -> tuple[int, Any]:
        """Status and what is answered: bytes, or what becomes JSON."""
        self.asked.append(f"{verb} {path}")
        for sign, status in self.refusals.items():
            if sign in f"{verb} {path}":
                return status, {"error": "not now"}
        if verb == "PUT":
            self.large[path.rpartition("/")[2]] = body
            return 200, b""
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid username or password."}
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(.*))?", path):
            return self._of(verb, found[1], found[2] or "", body)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            return 200, self.contents(found[1], found[2])[found[3]]
        return self._of_none(path, json.loads(body))

    def _of_none(self, path: str, wanted: dict[str, Any]) -> tuple[int, Any]:
        """What is asked of the Hub itself."""
        if path == "/api/repos/create":
            return self._create(wanted)
        if path == "/verify":
            data = self.large[wanted["oid"]]
            return (200 if hashlib.sha256(data).hexdigest() == wanted["oid"] else 400), {}
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, self._batch(wanted)
        assert path == "/api/validate-yaml", path
        return _judged(wanted["content"])

    def _create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        name = f"{wanted['organization']}/{wanted['name']}"
        if not wanted["organization"].startswith("team"):
            return 403, {"error": "You don't have the rights to create a model there"}
        if name in self.repositories:
            return 409, {"error": "You already created this model repo"}
        self.repositories[name] = Repository(private=wanted.get("visibility") == "private")
        return 200, {"url": f"{self.url}/{name}"}

    def _of(self, verb: str, name: str, rest: str, body: bytes) -> tuple[int, Any]:
        repository = self.repositories.get(name)
        if repository is None or name in self.hidden:
            return 404, {"error": "Repository not found"}
        if not rest:
            told = {"id": name, "sha": repository.head, "private": repository.private}
            return 200, {**told, "siblings": []}
        what, _, revision = rest.partition("/")
        if what == "tree":
            return 200, [self._entry(*each) for each in repository.at(revision).items()]
        if what == "preupload":
            return 200, {"files": [self._mode(each) for each in json.loads(body)["files"]]}
        assert (verb, what) == ("POST", "commit"), rest
        return self._commit(name, [json.loads(line) for line in body.splitlines()])

    def _entry(self, name: str, data: bytes | str) -> dict[str, Any]:
        found = {"type": "file", "path": name}
        if isinstance(data, bytes):
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
            return {**found, "size": len(data), "oid": blob.hexdigest()}
        size = len(self.large[data])
        lfs = {"oid": data, "size": size, "pointerSize": 130}
        return {**found, "size": size, "oid": "b" * 40, "lfs": lfs}

    @staticmethod
    def _mode(file: dict[str, Any]) -> dict[str, Any]:
        large = file["path"].endswith(".safetensors")
        mode = "lfs" if large else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def _batch(self, wanted: dict[str, Any]) -> dict[str, Any]:
        return {"transfer": "basic", "objects": [self._object(each) for each in wanted["objects"]]}

    def _object(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Without actions where the contents are there."""
        if wanted["oid"] in self.large:
            return wanted
        upload = {"href": f"{self.url}/upload/{wanted['oid']}"}
        return {**wanted, "actions": {"upload": upload, "verify": {"href": f"{self.url}/verify"}}}

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        repository, (header, *operations) = self.repositories[name], lines
        if header["value"].get("parentCommit") not in {None, repository.head}:
            return 412, {"error": "A commit has happened since"}
        files = dict(repository.commits[-1])
        for operation in operations:
            value = operation["value"]
            match operation["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = value["oid"]
                case "deletedFile":
                    del files[value["path"]]
                case other:
                    raise AssertionError(other)
        repository.commits.append(files)
        head = repository.head
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{head}", "commitOid": head}


def _judged(card: str) -> tuple[int, Any]:
    """As far as the Hub judges a card here: what is named as a base model has to be an id."""
    base = (yaml.safe_load(card.split("---\n")[1]) or {}).get("base_model", "a")
    if re.fullmatch(r"[\w][\w.-]*(/[\w][\w.-]*)?", base):
        return 200, {"errors": [], "warnings": []}
    message = f'"base_model" with value "{base}" is not valid. Use a model id from the Hub.'
    return 400, {"errors": [{"message": message}], "warnings": [], "error": message}


@contextmanager
def running(host: str = "127.0.0.1") -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _all(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            token = self.headers.get("Authorization", "")
            status, answer = hub.answer(self.command, path, token, body)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            if "/resolve/" in path and status == 200:
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()[:40]}"')
                self.send_header("X-Repo-Commit", path.split("/")[4])
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_PUT = _all  # noqa: N815 - the library's names

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer((host, 0), Handler) as server:
        hub.url = f"http://{host}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield hub
        server.shutdown()
        thread.join()
