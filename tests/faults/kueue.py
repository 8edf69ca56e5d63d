"""Kueue's manager, as its module has it, in a process beside the tests' control plane.

Its kinds, its webhooks and its configuration are the module's own, and it makes its certificates
itself. The Service of its webhooks names this machine, and its Secret becomes files here, which a
kubelet would see to.
"""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import time
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import yaml
from hack.cluster import tools
from tests.faults.install import CRDS, NAMESPACES, create
from tests.ports import free_port

from finetuning.controller.gateway import SERVICES, ApiError, Gateway, Resource

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.controlplane import ControlPlane

Raw = dict[str, Any]
MODULE = "sigs.k8s.io/kueue"
ADMISSION = ("admissionregistration.k8s.io", "v1")
WEBHOOKS = {
    "MutatingWebhookConfiguration": Resource(*ADMISSION, "mutatingwebhookconfigurations"),
    "ValidatingWebhookConfiguration": Resource(*ADMISSION, "validatingwebhookconfigurations"),
}
OURS = ("batch", "kueue.x-k8s.io")
"""API groups whose webhooks are installed: of the others there are no kinds here."""
NAMESPACE, SERVICE, SECRET = "kueue-system", "kueue-webhook-service", "kueue-webhook-server-cert"
"""As Kueue's configuration has them where nobody says otherwise."""
SECRETS = Resource("", "v1", "secrets")
KIND_FOLDER = "config/components/crd"


class Kueue:
    """Serves until it is stopped; then its webhooks are gone, so that Jobs are made without it."""

    def __init__(self, plane: ControlPlane, admin: Gateway, **configuration: Any) -> None:
        """Raises ClusterError where its module cannot be had or built.

        `configuration` goes beside what the module has.
        """
        self._program = tools.build_all((tools.KUEUE,))["kueue"]
        self._module = tools.module_folder(MODULE, "kueue")
        self._plane, self._admin = plane, admin
        self._folder = plane.folder / "kueue"
        self._more, self._health = configuration, free_port()
        known = self._folder / "port"
        # An earlier life has told its kinds where they are converted.
        self._installed = known.exists()
        self._webhook = int(known.read_text()) if self._installed else free_port()
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        if not self._installed:
            await self._install()
        for each in self._webhooks():
            await create(self._admin, WEBHOOKS[each["kind"]], each)
        self._start_process()
        await self._until_ready()

    async def _install(self) -> None:
        self._folder.mkdir()
        (self._folder / "port").write_text(str(self._webhook))
        for kind in self._kinds():
            await create(self._admin, CRDS, kind)
        await create(self._admin, NAMESPACES, {"metadata": {"name": NAMESPACE}})
        spec = {"type": "ExternalName", "externalName": "localhost"}
        meta = {"name": SERVICE, "namespace": NAMESPACE}
        await create(self._admin, SERVICES, {"metadata": meta, "spec": spec})
        await create(self._admin, SECRETS, {"metadata": {**meta, "name": SECRET}})

    async def stop(self) -> None:
        for each in self._webhooks():
            path = WEBHOOKS[each["kind"]].path(None, each["metadata"]["name"])
            with suppress(ApiError):
                await self._admin._call("delete", CRDS, "DELETE", path)
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _kinds(self) -> list[Raw]:
        folder = self._module / KIND_FOLDER
        found = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("bases/*.yaml"))]
        patches = [yaml.safe_load(path.read_text()) for path in folder.glob("patches/webhook_*")]
        converted = {each["metadata"]["name"]: each["spec"]["conversion"] for each in patches}
        for kind in found:
            conversion = converted.get(kind["metadata"]["name"])
            # As upstream: its kustomization names five of the patches, those with two versions.
            if conversion and len(kind["spec"]["versions"]) > 1:
                conversion["webhook"]["clientConfig"] = self._client(conversion["webhook"])
                kind["spec"]["conversion"] = conversion
        return found

    def _webhooks(self) -> list[Raw]:
        text = (self._module / "config/components/webhook/manifests.yaml").read_text()
        found = [each for each in yaml.safe_load_all(text) if each]
        for each in found:
            each["metadata"] = {"name": f"kueue-{each['metadata']['name']}"}
            each["webhooks"] = [
                {**hook, "clientConfig": self._client(hook)}
                for hook in each["webhooks"]
                if set(hook["rules"][0]["apiGroups"]) & set(OURS)
            ]
        return found

    def _client(self, hook: Raw) -> Raw:
        path = hook["clientConfig"]["service"]["path"]
        where = {"name": SERVICE, "namespace": NAMESPACE, "port": self._webhook}
        return {"service": {**where, "path": path}}

    def _configuration(self) -> Path:
        path = self._module / "config/components/manager/controller_manager_config.yaml"
        found = yaml.safe_load(path.read_text())
        found["integrations"]["frameworks"] = ["batch/job"]
        found |= {
            "health": {"healthProbeBindAddress": f"127.0.0.1:{self._health}"},
            "metrics": {"bindAddress": "0"},
            "webhook": {"port": self._webhook, "host": "127.0.0.1", "certDir": str(self._folder)},
            "leaderElection": {"leaderElect": False},
            **self._more,
        }
        written = self._folder / "configuration.yaml"
        written.write_text(yaml.safe_dump(found))
        return written

    def _start_process(self) -> None:
        flags = [f"--config={self._configuration()}", "--feature-gates=VisibilityOnDemand=false"]
        env = {**os.environ, "KUBECONFIG": str(self._plane.kubeconfig("manager"))}
        with (self._folder / "kueue.log").open("ab") as log:
            command = [str(self._program), *flags]
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log)

    async def _until_ready(self, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(self._is_ready):
            await self._mount_certificates()
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self._folder / "kueue.log").read_text()[-3000:])
            await asyncio.sleep(0.5)

    async def _mount_certificates(self) -> None:
        found = await self._admin.get(SECRETS, NAMESPACE, SECRET) or {}
        for name, content in (found.get("data") or {}).items():
            (self._folder / name).write_bytes(base64.b64decode(content))

    def _is_ready(self) -> bool:
        url = f"http://127.0.0.1:{self._health}/readyz"
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
        return False
