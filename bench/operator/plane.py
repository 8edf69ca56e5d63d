"""A control plane without a node, beside whatever else runs on the machine.

The real etcd, API server, controller manager and scheduler on free ports of the loopback address,
everything that they write in one temporary folder; KWOK stands in for nodes and kubelets.
"""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from bench.operator import stand_ins
from hack.cluster import tools
from hack.cluster.native import config, process
from hack.cluster.shell import run, wait_until, write

if TYPE_CHECKING:
    from types import TracebackType

HERE = Path(__file__).parent
USERS = ("bench-load", "bench-operator", "bench-kwok")
"""Each of them has every right; the audit log tells them apart."""
COMPONENTS = {
    "controller-manager": "system:kube-controller-manager",
    "scheduler": "system:kube-scheduler",
}
RAISED = ("--secure-port=0", "--kube-api-qps=1000", "--kube-api-burst=1000")
"""Client limits lifted: what is measured is the machine, not a default of 20 requests a second."""
NOWHERE = "198.51.100.1"
"""kubeadm wants a global address in its certificates; nothing listens there."""


def programs() -> dict[str, Path]:
    """Build what the cache lacks."""
    names = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubeadm")
    needed = [tool for tool in tools.NATIVE if tool.name in names]
    return tools.build_all((*needed, tools.KWOK))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all are held until the last one is found."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return found


class Plane:
    """One control plane; a context manager that leaves no process behind."""

    def __init__(self, folder: Path, pod_seconds: float) -> None:
        self.folder, self.pod_seconds = folder, pod_seconds
        api, etcd, peer = free_ports(3)
        self.place = config.Place(
            folder=folder,
            address="127.0.0.1",
            api_port=api,
            etcd_port=etcd,
            peer_port=peer,
            audit_log=folder / "audit.log",
        )
        self.programs = programs()
        self.processes: dict[str, process.Process] = {}
        self._prepare()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.place.api_port}"

    def kubeconfig(self, user: str) -> Path:
        return self.place.configs / f"{user}.conf"

    def __enter__(self) -> Self:
        """An API server on an empty database, with nothing behind it yet."""
        try:
            self.start("etcd", *config.etcd(self.place))
            self.start_api()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process and forget the database."""
        process.stop(list(self.processes.values()))
        self.processes.clear()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)
        self.place.audit_log.unlink(missing_ok=True)

    def tls(self) -> ssl.SSLContext:
        """The load client's side of a connection."""
        context = ssl.create_default_context(cafile=str(self.place.pki / "ca.crt"))
        context.load_cert_chain(self.folder / "bench-load.pem")
        return context

    def _prepare(self) -> None:
        """Certificates, kubeconfigs and what each program reads at its start."""
        write(self.folder / "audit-policy.yaml", (HERE / "audit-policy.yaml").read_text())
        write(self.folder / "kwok.yaml", stand_ins.configuration(self.pod_seconds))
        settings = self.folder / "kubeadm.yaml"
        write(settings, self._kubeadm())
        kubeadm = self.programs["kubeadm"]
        run(kubeadm, "init", "phase", "certs", "all", f"--config={settings}")
        users = COMPONENTS | {user: user for user in USERS}
        for name, user in users.items():
            group = "--org=system:masters" if name in USERS else "--org="
            words = ("kubeconfig", "user", f"--config={settings}", f"--client-name={user}", group)
            write(self.kubeconfig(name), run(kubeadm, *words), mode=0o600)
        write(self.folder / "bench-load.pem", self._certificate("bench-load"), mode=0o600)

    def _certificate(self, user: str) -> str:
        """Certificate and key of a user as OpenSSL reads them."""
        import base64  # noqa: PLC0415

        found = yaml.safe_load(self.kubeconfig(user).read_text())["users"][0]["user"]
        parts = ("client-certificate-data", "client-key-data")
        return "".join(base64.b64decode(found[part]).decode() for part in parts)

    def _kubeadm(self) -> str:
        version = tools.kubernetes_version()
        common = {"apiVersion": "kubeadm.k8s.io/v1beta4"}
        init: dict[str, Any] = {**common, "kind": "InitConfiguration"}
        init["localAPIEndpoint"] = {"advertiseAddress": NOWHERE, "bindPort": self.place.api_port}
        cluster = {
            **common,
            "kind": "ClusterConfiguration",
            "kubernetesVersion": version,
            "certificatesDir": str(self.place.pki),
            "controlPlaneEndpoint": f"127.0.0.1:{self.place.api_port}",
            "apiServer": {"certSANs": ["127.0.0.1"]},
        }
        return f"{json.dumps(init)}\n---\n{json.dumps(cluster)}\n"

    def start_rest(self) -> None:
        """The others, once all definitions are there.

        The garbage collector looks for new ones every 30 seconds, and until then asks the API
        server for each owner that it does not know.
        """
        place = self.place
        self.start("kube-controller-manager", *config.controller_manager(place), *RAISED)
        self.start("kube-scheduler", *config.scheduler(place), *RAISED)
        kubeconfig = f"--kubeconfig={self.kubeconfig('bench-kwok')}"
        settings = f"--config={self.folder / 'kwok.yaml'}"
        self.start("kwok", kubeconfig, settings, "--manage-all-nodes")

    def stop_api(self) -> None:
        """End the API server alone; what it knew stays in etcd."""
        process.stop([self.processes["kube-apiserver"]])

    def start_api(self) -> float:
        """Start the API server; seconds until it answered."""
        begun = time.monotonic()
        flags = ("--endpoint-reconciler-type=none", "--profiling=false")
        self.start("kube-apiserver", *config.apiserver(self.place), *flags)
        log = f"{self.folder}/logs/kube-apiserver.log"
        wait_until("the API server", self._answers, 120, log)
        return time.monotonic() - begun

    def start(self, name: str, *arguments: str) -> None:
        program = self.programs[name]
        begun = process.start(name, program, *arguments, logs=self.folder / "logs")
        self.processes[name] = begun

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", context=self.tls(), timeout=5) as got:  # noqa: S310
                return bool(got.status == 200)  # noqa: PLR2004
        except (urllib.error.URLError, OSError):
            return False
