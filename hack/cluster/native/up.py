"""Start the native node, or find the one that runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hack.cluster import kube, paths, tools
from hack.cluster.native import config, containers, host, owner, prerequisites, process
from hack.cluster.native.owner import Record, Verdict
from hack.cluster.native.sweep import sweep
from hack.cluster.shell import locked, run, say, step, wait_until, write
from hack.images.oci import ScratchImage

if TYPE_CHECKING:
    from collections.abc import Sequence

LOCK = Path("/run/lock/finetuning-cluster.lock")
BUSY = "waiting: another start or stop of the cluster is under way"


def up() -> None:
    """Bring the cluster of this checkout up; a second call finds the first."""
    prerequisites.check()
    programs = tools.build_all(tools.NATIVE)
    tools.link(programs, ("kubectl", "helm"))
    with locked(LOCK, BUSY):
        versions = " ".join(sorted(str(file.parent.name) for file in programs.values()))
        found = owner.load()
        dead = owner.dead_processes(found) if found else []
        judged = owner.judge(found, str(paths.ROOT), versions, dead)
        if judged.verdict is Verdict.REUSE and kube.api_ready():
            return
        if found:
            say(judged.why or "the API server does not answer; starting afresh")
            sweep(found)
        with step("starting Kubernetes"):
            start(programs, versions)


def down(*, anybody: bool) -> None:
    """Remove the cluster; another checkout's only when asked to."""
    with locked(LOCK, BUSY):
        found = owner.load()
        if found is None:
            say("no cluster runs on this machine")
        elif found.checkout != str(paths.ROOT) and not anybody:
            say(f"the cluster here is that of {found.checkout}; `down --any` removes it")
        else:
            sweep(found)
            say("the cluster is gone")
        shutil.rmtree(paths.STATE, ignore_errors=True)


def start(programs: dict[str, Path], versions: str) -> None:
    """Start everything from nothing; each stage waits for what it needs."""
    record = Record(
        checkout=str(paths.ROOT),
        versions=versions,
        boot=process.boot_id(),
        sysctls=host.read_sysctls(),
        created=host.missing_foreign(),
    )
    owner.save(record)
    prepare(programs)
    running = Running(record, programs)
    start_api(running)
    start_runtime(running)
    start_node(running)
    owner.save(dataclasses.replace(running.record, complete=True))


class Running:
    """The processes so far; each is on record as soon as it runs."""

    def __init__(self, record: Record, programs: dict[str, Path]) -> None:
        self.record = record
        self.programs = programs

    def start(self, name: str, arguments: Sequence[str]) -> None:
        """Start a component and record it at once: a crash must not leave it unknown."""
        program = self.programs.get(name) or name
        begun = process.start(name, program, *arguments)
        kept = [p for p in self.record.processes if p.name != name]
        self.record = dataclasses.replace(self.record, processes=(*kept, begun))
        owner.save(self.record)

    def stop(self, name: str) -> None:
        """Stop one component."""
        process.stop([p for p in self.record.processes if p.name == name])


def prepare(programs: dict[str, Path]) -> None:
    """Write configuration, certificates and kubeconfigs; open the network."""
    for folder in (paths.RUN, paths.NODE, config.POD_LOGS, config.VOLUMES, paths.LOGS):
        folder.mkdir(parents=True, exist_ok=True)
    config.VOLUMES.chmod(0o755)
    paths.AUDIT_LOG.unlink(missing_ok=True)
    host.open_network()
    host.make_cgroups()
    node = paths.NODE
    write(node / "audit-policy.yaml", (paths.MANIFESTS / "audit-policy.yaml").read_text())
    write(node / "kubelet.json", json.dumps(config.kubelet()))
    write(node / "kube-proxy.json", json.dumps(config.kube_proxy()))
    write(node / "cni" / "10-pods.conflist", json.dumps(config.cni()))
    found = config.containerd(prerequisites.cni_folder(), containers.version())
    write(node / "containerd.toml", found)
    write(node / "Corefile", config.corefile())
    write(node / "kubeadm.yaml", config.kubeadm(tools.kubernetes_version()))
    make_certificates(programs["kubeadm"])


def make_certificates(kubeadm: Path) -> None:
    """Let kubeadm make the keys, the certificates and one kubeconfig per component."""
    settings = f"--config={paths.NODE / 'kubeadm.yaml'}"
    run(kubeadm, "init", "phase", "certs", "all", settings)
    folder = f"--kubeconfig-dir={config.CONFIGS}"
    run(kubeadm, "init", "phase", "kubeconfig", "all", settings, folder)
    # The binding of this group does not exist yet; the super-admin needs none.
    admin = (config.CONFIGS / "super-admin.conf").read_text()
    write(paths.KUBECONFIG, admin, mode=0o600)


def start_api(running: Running) -> None:
    """Start the database and the API, then what only needs the API."""
    running.start("etcd", config.etcd())
    running.start("kube-apiserver", config.apiserver())
    wait_until("the API server", kube.api_ready, 90, f"{paths.LOGS}/kube-apiserver.log")
    running.start("kube-controller-manager", config.controller_manager())
    running.start("kube-scheduler", config.scheduler())


def start_runtime(running: Running) -> None:
    """Start containerd without a container of the past."""
    arguments = ["--config", str(paths.NODE / "containerd.toml")]
    log = f"{paths.LOGS}/containerd.log"
    running.start("containerd", arguments)
    wait_until("containerd", containers.answers, 30, log)
    if containers.forget_all():
        running.stop("containerd")
        running.start("containerd", arguments)
        wait_until("containerd", containers.answers, 30, log)
    pause = ScratchImage(config.PAUSE_IMAGE, {"/pause": running.programs["pause"]}, ("/pause",))
    containers.load_scratch(pause)


def start_node(running: Running) -> None:
    """Join the node and wait until it takes Pods that ask for a GPU."""
    kube.apply((paths.MANIFESTS / "node.yaml").read_text())
    running.start("kubelet", config.kubelet_flags())
    running.start("kube-proxy", [f"--config={paths.NODE / 'kube-proxy.json'}"])
    running.start("coredns", ["-conf", str(paths.NODE / "Corefile")])
    admin = f"-kubeconfig={config.CONFIGS / 'super-admin.conf'}"
    running.start("agent", [admin, f"-volumes={config.VOLUMES}"])
    wait_until("the node", kube.node_ready, 120, f"{paths.LOGS}/kubelet.log")
