"""A real OCI registry (distribution's) in a process of its own, and what it was asked for."""

import base64
import json
import re
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hack.cluster import tools
from tests.built import program
from typing_extensions import override

USER, PASSWORD = "someone", "something"
KEYS = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
_HASH = "$2y$04$0w5BP0DItgcs3SPbXdh04uw1herQ/5fJBIN19av55DRfVmHn7S.ue"
"""Of the password, as htpasswd writes it."""


@dataclass
class Registry:
    """One that may be stopped and started again with what it holds."""

    folder: Path
    auth: Mapping[str, Any]
    host: str = "127.0.0.1"
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        with socket.create_server((self.host, 0)) as free:
            self.port = free.getsockname()[1]

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "registry.log"

    def start(self) -> None:
        config = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "storage")}},
            "http": {"addr": self.address, "secret": "of the tests"},
            **({"auth": dict(self.auth)} if self.auth else {}),
        }
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [str(program(tools.REGISTRY)), "serve", str(path)]
        with self.log.open("ab") as log:
            # No telemetry: it would look for a collector.
            environment = {"OTEL_TRACES_EXPORTER": "none", "HOME": str(self.folder)}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self._wait()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process and self.process.poll() is None:
            try:
                with socket.create_connection((self.host, self.port), timeout=5):
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"the registry does not answer: {self.log.read_text()[-2000:]}")

    def asked(self, verb: str) -> list[str]:
        """Paths of all requests of the kind so far."""
        return re.findall(rf'"{verb} (/v2/[^" ?]*)', self.log.read_text())

    def get(self, path: str, accept: str = "*/*") -> bytes:
        """Without keys."""
        request = urllib.request.Request(f"http://{self.address}/v2/{path}")
        request.add_header("Accept", accept)
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return bytes(answer.read())

    def put(self, path: str, data: bytes, kind: str) -> None:
        request = urllib.request.Request(
            f"http://{self.address}/v2/{path}", data, {"Content-Type": kind}, method="PUT"
        )
        with urllib.request.urlopen(request):  # noqa: S310
            pass


@contextmanager
def running(
    folder: Path, auth: Mapping[str, Any] | None = None, host: str = "127.0.0.1"
) -> Iterator[Registry]:
    registry = Registry(folder, auth or {}, host)
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()


def by_password(folder: Path) -> dict[str, Any]:
    """What makes a registry ask for user and password."""
    path = folder / "htpasswd"
    path.write_text(f"{USER}:{_HASH}\n")
    return {"htpasswd": {"realm": "tests", "path": str(path)}}


@dataclass
class TokenService:
    """Gives tokens that the registry holds against its key, to whom it knows."""

    folder: Path
    seconds: int = 300
    asked: list[Mapping[str, list[str]]] = field(default_factory=list)
    _key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def auth(self, port: int) -> dict[str, Any]:
        """What makes a registry send its clients here."""
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "tests"}
        key |= {"n": _number(numbers.n), "e": _number(numbers.e)}
        path = self.folder / "keys.json"
        path.write_text(json.dumps({"keys": [key]}))
        realm = f"http://127.0.0.1:{port}/token"
        told = {"realm": realm, "service": "registry", "issuer": "tests", "jwks": str(path)}
        return {"token": {**told, "signingalgorithms": ["RS256"]}}

    def answer(self, headers: Mapping[str, str], form: Mapping[str, list[str]]) -> str | None:
        """A token; None for somebody who is not known."""
        self.asked.append(form)
        known = headers.get("Authorization") == f"Basic {KEYS}"
        if not known and form.get("refresh_token") != ["stands for both"]:
            return None
        kind, _, rest = form["scope"][0].partition(":")
        name, _, actions = rest.rpartition(":")
        now = int(time.time())
        claims = {"iss": "tests", "sub": USER, "aud": "registry", "iat": now, "nbf": now - 5}
        claims |= {"exp": now + self.seconds, "jti": str(time.monotonic_ns())}
        claims["access"] = [{"type": kind, "name": name, "actions": actions.split(",")}]
        head = {"typ": "JWT", "alg": "RS256", "kid": "tests"}
        text = f"{_part(head)}.{_part(claims)}"
        signed = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_url(signed)}"


@contextmanager
def giving_tokens(service: TokenService) -> Iterator[int]:
    """Its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def _answer(self, query: str) -> None:
            token = service.answer(self.headers, parse_qs(query))  # type: ignore[arg-type]
            body = json.dumps({"token": token} if token else {}).encode()
            self.send_response(200 if token else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def _part(value: Mapping[str, Any]) -> str:
    return _url(json.dumps(value).encode())


def _number(value: int) -> str:
    return _url(value.to_bytes((value.bit_length() + 7) // 8))


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
