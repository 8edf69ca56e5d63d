"""etcd, API server and controller manager of the real release as processes, and no node at all.

It starts in seconds, belongs to the tests alone and may be broken by them. Pods are made by the
real Job controller; what a kubelet would report of them is told by `node.Node`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import suppress
from ssl import CERT_NONE, create_default_context
from typing import TYPE_CHECKING, Any

from hack.cluster import tools
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

API_SERVER = tools.kubernetes("kube-apiserver")
MANAGER = tools.kubernetes("kube-controller-manager")
BESIDES = (
    tools.Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    tools.kubernetes("kubeadm"),
)
TOKENS = {
    "admin": "system:masters", "manager": "system:masters", "operator": "operators",
    "confined": "operators",
}  # fmt: skip
CONTROLLERS = (
    "job-controller", "garbage-collector-controller", "namespace-controller",
    "resourcequota-controller", "ttl-after-finished-controller", "serviceaccount-controller",
    "persistentvolumeclaim-protection-controller",
)  # fmt: skip
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": ["operator"]}, {"level": "None"}],
}


class ControlPlane:
    """Everything lies in one folder, which is thrown away afterwards."""

    def __init__(self, folder: Path, api_server: tools.Tool = API_SERVER) -> None:
        """With the controllers only where the API server is of their own version."""
        self.folder = folder
        self._certificate = folder / "certs" / "apiserver.crt"
        self._managers = (MANAGER,) if api_server == API_SERVER else ()
        self.port, self._etcd, self._peers = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._programs = tools.build_all((*BESIDES, api_server, *self._managers))

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    def start(self) -> None:
        if not self._certificate.parent.exists():
            self._write_files()
        self._start("etcd", self._etcd_flags())
        self.start_api()
        for each in self._managers:
            self._start(each.name, self._manager_flags())

    def start_api(self) -> None:
        self._start("kube-apiserver", self._api_flags())
        deadline = time.monotonic() + 120
        while not self._answers():
            if self._running["kube-apiserver"].poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "kube-apiserver.log").read_text()[-3000:])
            time.sleep(0.2)

    def kill_api(self) -> None:
        self._running["kube-apiserver"].kill()
        self._running["kube-apiserver"].wait()

    def back_up(self) -> None:
        """Keep what etcd holds now, away from it."""
        self.kill_api()
        self._end("etcd")
        shutil.copytree(self.folder / "etcd", self.folder / "backup")
        self._start("etcd", self._etcd_flags())
        self.start_api()

    def restore(self) -> None:
        """As after a disaster: what came after the backup never was."""
        self.kill_api()
        self._end("etcd", *(each.name for each in self._managers))
        shutil.rmtree(self.folder / "etcd")
        shutil.copytree(self.folder / "backup", self.folder / "etcd")
        self.start()

    def _end(self, *names: str) -> None:
        for name in names:
            self._running[name].terminate()
            self._running[name].wait()

    def stop(self) -> None:
        for process in reversed(self._running.values()):
            process.kill()
            process.wait()

    def kubeconfig(self, user: str, url: str = "") -> Path:
        """Log in as one of TOKENS, at the API server or at a proxy in front of it."""
        path = self.folder / f"{user}-{(url or self.url).rpartition(':')[2]}.kubeconfig"
        trusted = {"server": self.url, "certificate-authority": str(self._certificate)}
        cluster = {"server": url, "insecure-skip-tls-verify": True} if url else trusted
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": f"token-of-{user}"}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": user}}],
            "current-context": "it",
        }
        path.write_text(json.dumps(config))
        return path

    def audited(self) -> list[dict[str, Any]]:
        """What the user `operator` asked for, in order."""
        return [json.loads(line) for line in self.audit_log.read_text().splitlines()]

    def _start(self, name: str, flags: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [str(self._programs[name]), *flags]
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def _answers(self) -> bool:
        context = create_default_context()
        context.check_hostname, context.verify_mode = False, CERT_NONE
        headers = {"Authorization": "Bearer token-of-admin"}
        request = urllib.request.Request(f"{self.url}/readyz", headers=headers)  # noqa: S310
        with suppress(OSError), urllib.request.urlopen(request, context=context, timeout=5) as it:  # noqa: S310
            return bool(it.status == 200)
        return False

    def _write_files(self) -> None:
        keys = ["init", "phase", "certs", "sa", f"--cert-dir={self.folder}"]
        subprocess.run([self._programs["kubeadm"], *keys], check=True, capture_output=True)
        lines = [f'token-of-{user},{user},{user},"{group}"' for user, group in TOKENS.items()]
        (self.folder / "tokens.csv").write_text("\n".join(lines))
        (self.folder / "audit.json").write_text(json.dumps(AUDIT))

    def _etcd_flags(self) -> list[str]:
        clients, peers = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._peers}"
        return [
            f"--data-dir={self.folder / 'etcd'}", "--unsafe-no-fsync", "--log-level=error",
            f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
        ]  # fmt: skip

    def _api_flags(self) -> list[str]:
        key = self.folder / "sa.key"
        return [
            f"--etcd-servers=http://127.0.0.1:{self._etcd}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", f"--secure-port={self.port}",
            f"--cert-dir={self._certificate.parent}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.97.0.0/24", "--authorization-mode=RBAC",
            f"--audit-policy-file={self.folder / 'audit.json'}",
            f"--audit-log-path={self.audit_log}", "--audit-log-maxsize=4096",
        ]  # fmt: skip

    def _manager_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig('manager')}", "--leader-elect=false",
            "--bind-address=127.0.0.1", f"--secure-port={free_port()}",
            f"--service-account-private-key-file={self.folder / 'sa.key'}",
            f"--controllers={','.join(CONTROLLERS)}", "--resource-quota-sync-period=5s",
        ]  # fmt: skip
