"""A real S3 server in a process of its own (moto's), and what it was asked for."""

import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEYS = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "something"}


@dataclass(frozen=True)
class Server:
    """Where it is, and its log of requests."""

    url: str
    log: Path

    def post(self, path: str, data: bytes = b"") -> None:
        kind = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(self.url + path, data, kind, method="POST")  # noqa: S310
        with urllib.request.urlopen(request):  # noqa: S310 - http
            pass

    def client(self) -> Any:
        from pyarrow import fs  # noqa: PLC0415 - collecting tests should not cost its seconds

        return fs.S3FileSystem(
            access_key="someone",
            secret_key="something",
            region="us-east-1",
            endpoint_override=self.url.removeprefix("http://"),
            scheme="http",
            allow_bucket_creation=True,
            request_timeout=120,
        )

    def changes(self) -> list[str]:
        """Verb and path of all requests so far that changed something."""
        lines = re.findall(r'"((?:PUT|POST|DELETE) /[^" ]*) HTTP', self.log.read_text())
        return [line for line in lines if "/moto-api" not in line]


@contextmanager
def running(folder: Path, host: str = "127.0.0.1") -> Iterator[Server]:
    """Raises OSError when `host` is no address of this machine."""
    with socket.create_server((host, 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)]
    server = Server(f"http://{host}:{port}", folder / "requests.log")
    with (
        server.log.open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log) as process,
    ):
        try:
            _wait_for(server, process)
            yield server
        finally:
            process.terminate()


def _wait_for(server: Server, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 240
    while time.monotonic() < until and process.poll() is None:
        try:
            return server.post("/moto-api/reset")
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the S3 server does not answer")
