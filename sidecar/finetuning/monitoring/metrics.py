"""The exporter: a small HTTP server with the figures of one training run."""

import errno
import platform
import socket
import ssl
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from typing_extensions import override

from finetuning.artifacts import STATE_DIR
from finetuning.monitoring.collector import Identity
from finetuning.monitoring.endpoints import MetricsServer
from finetuning.monitoring.scrapers import Scrapers
from finetuning.monitoring.source import FileSource, ManualSource, Snapshot, Source

_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
"""How a machine says that it has none."""


class FineTuningMetricsExporter:
    """Serves /metrics, /status and /healthz from the trainer's files or from `update`.

    Every scrape reads anew. There is no global registry, so several work in one process.
    """

    def __init__(
        self,
        port: int = 8000,
        *,
        job_name: str = "finetuning",
        model_id: str = "",
        method: str = "",
        state_dir: Path | str | None = None,
        training_info: Path | str | None = None,
        bind_address: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Port 0 takes a free one; `port` tells which, once the server runs.

        Without a `bind_address` it listens on all addresses of the host, IPv4 and IPv6, since
        Prometheus scrapes from another one; `bind_address` then tells as what.
        """
        self.port = port
        self.bind_address = bind_address
        self._tls = tls
        self._identity = Identity(
            job_name, model_id, method, _own_version(), platform.python_version()
        )
        self._source = _source(state_dir, training_info)
        self._server: MetricsServer | None = None
        self.scrapers = Scrapers()
        self.askers = Scrapers()
        """Of /status: the operator, which asks once more when a trainer was killed."""

    def start_server(self) -> None:
        """Serve in the background; raises OSError when the port cannot be had."""
        if self._server is not None:
            return
        server = self._listen(self.bind_address) if self.bind_address else self._listen_on_all()
        self.bind_address, self.port = server.server_name, server.server_port
        self._server = server
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        ).start()

    def _listen_on_all(self) -> MetricsServer:
        try:
            return self._listen("::")
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
            return self._listen("0.0.0.0")  # noqa: S104 - as above

    def _listen(self, address: str) -> MetricsServer:
        kind = _MetricsServerV6 if ":" in address else MetricsServer
        where = (address, self.port)
        visits = {"/metrics": self.scrapers, "/status": self.askers}
        return kind(where, self._identity, self._source.read, visits, self._tls)

    def stop_server(self) -> None:
        """Free the port; the exporter can be started again."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def update(self, **values: Any) -> None:
        """Set figures by hand, by the names of `TrainingState`: step=3, total_steps=10, loss=0.5.

        Raises:
            ValueError: an unknown name or an impossible value.
            RuntimeError: this exporter reads the trainer's files.
        """
        if not isinstance(self._source, ManualSource):
            raise RuntimeError(  # noqa: TRY004 - the arguments are right, the moment is not
                "update() is for an exporter without state_dir and training_info"
            )
        self._source.update(values)

    def snapshot(self) -> Snapshot:
        """What a scrape would see now."""
        return self._source.read()

    def trainer_gone(self) -> None:
        """Call when the training process has ended: a state that is not final counts as failed."""
        self._source.trainer_gone()


class _MetricsServerV6(MetricsServer):
    address_family = socket.AF_INET6

    @override
    def server_bind(self) -> None:
        """On `::` IPv4 is served as well, whatever the machine's default is."""
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _source(state_dir: Path | str | None, training_info: Path | str | None) -> Source:
    """The state lies beside training_info.json unless its folder is named.

    A named folder is one run's own, so a training_info.json that is there before the run is not
    its result.
    """
    info = Path(training_info) if training_info is not None else None
    if state_dir is not None:
        return FileSource(Path(state_dir), info, ignore_old_info=True)
    if info is not None:
        return FileSource(info.parent / STATE_DIR, info)
    return ManualSource()


def _own_version() -> str:
    try:
        return version("finetuning-operator")
    except PackageNotFoundError:
        return "unknown"
