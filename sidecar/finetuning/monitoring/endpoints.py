"""The sidecar's HTTP: /metrics for Prometheus, /status for the operator, /healthz for kubelet."""

import socketserver
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder
from typing_extensions import override

from finetuning.artifacts.plain import plain
from finetuning.monitoring.collector import Identity, SnapshotCollector
from finetuning.monitoring.scrapers import Scrapers
from finetuning.monitoring.source import Origin, Snapshot

_IDLE_SECONDS = 10
"""A client that connects and says nothing must not hold its thread for ever."""


@dataclass(frozen=True)
class Response:
    """What goes back to the client."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


def metrics(snapshot: Snapshot, identity: Identity, accept: str) -> Response:
    """Prometheus text, or OpenMetrics where the client asks for it."""
    collector = SnapshotCollector(snapshot, identity)
    try:
        encode, content_type = choose_encoder(accept)
    except (ValueError, TypeError):  # A version in the header that is no version.
        encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
    return Response(encode(collector), content_type)


def status(snapshot: Snapshot) -> Response:
    """The state as the trainer reported it, fit for anybody to read; 503 until there is one."""
    if snapshot.state is None or snapshot.origin is Origin.END:
        return Response(b"{}", "application/json", HTTPStatus.SERVICE_UNAVAILABLE)
    state = snapshot.state
    told = {"reason": plain(state.reason, 128), "message": plain(state.message, 1024)}
    text = state.model_copy(update=told).model_dump_json(by_alias=True)
    return Response(text.encode(), "application/json")


class MetricsServer(ThreadingHTTPServer):
    """Answers from a fresh snapshot per request; `visits` are told who asked, by the page."""

    def __init__(
        self,
        address: tuple[str, int],
        identity: Identity,
        read: Callable[[], Snapshot],
        visits: Mapping[str, Scrapers],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.identity = identity
        self.read = read
        self.visits = visits
        super().__init__(address, _Handler)
        if tls is not None:
            # The handshake is left to each client's own thread: a silent one must not hold all.
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    @override
    def server_bind(self) -> None:
        """As http.server's, without its name look-up, which takes seconds where DNS is down."""
        socketserver.TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up, or that we do not trust, is no error of ours."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError | ssl.SSLError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        """Send the page; who scrapes is known at once, and has seen the end with its last byte."""
        path = self.path.split("?", 1)[0]
        snapshot = self.server.read()
        visits = self.server.visits.get(path) if self.command == "GET" else None
        if visits:
            visits.saw(*self._client(), final=False)
        self._send(self._page(path, snapshot))
        if visits and snapshot.is_final:
            visits.saw(*self._client(), final=True)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _client(self) -> tuple[str, str]:
        return self.client_address[0], self.headers.get("User-Agent", "")

    def _page(self, path: str, snapshot: Snapshot) -> Response:
        match path:
            case "/metrics":
                return metrics(snapshot, self.server.identity, self.headers.get("Accept", ""))
            case "/status":
                return status(snapshot)
            case "/healthz":
                return Response(b"ok\n")
            case _:
                return Response(b"pages: /metrics /status /healthz\n", status=HTTPStatus.NOT_FOUND)

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)
            self.wfile.flush()

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """One line per scrape would bury everything else in the pod's log."""
