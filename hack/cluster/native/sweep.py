"""Take a native node off the machine, whatever state it is in and whoever started it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hack.cluster import paths
from hack.cluster.native import config, containers, host
from hack.cluster.native.process import Process, boot_id, find, stop
from hack.cluster.shell import attempt

if TYPE_CHECKING:
    from hack.cluster.native.owner import Record

# Nothing may restart a container while it is being removed, and the runtime goes after them.
FIRST = ("agent", "coredns", "kube-proxy", "kubelet", "kube-scheduler", "kube-controller-manager")
COMPONENTS = (*FIRST, "kube-apiserver", "etcd", "containerd")


def sweep(record: Record) -> None:
    """Leave the machine as it was before `up`; safe to repeat."""
    live = list(record.processes) if record.boot == boot_id() else []
    stop([process for process in live if process.name in FIRST], grace_s=0.5)
    kill_containers()
    containers.forget_all()
    stop(live[::-1])
    stop(strays())
    kill_containers()
    host.unmount_below(paths.NODE, paths.RUN, config.containerd_root())
    host.remove_cgroups()
    host.close_network()
    host.restore_sysctls(record.sysctls)
    forget_cni()
    host.remove_foreign(record.created)
    host.clear_own_folders()
    leave_checkout(Path(record.checkout))


def kill_containers() -> None:
    """Kill everything in the node's cgroup, until it stays empty."""
    while pids := host.cgroup_pids():
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def strays() -> list[Process]:
    """Find processes of ours that no record knows: shims, and what a crash left."""
    shims = find("containerd-shim", f"-address {config.SOCKET}")
    ours = [process for process in find(f"{paths.NODE}/") if program(process) in COMPONENTS]
    return [*shims, *ours]


def program(process: Process) -> str:
    """Give the program's own name out of its command line."""
    return Path(process.name.split(" ", 1)[0]).name


def forget_cni() -> None:
    """Remove the network's cached results; its addresses go with our own folder."""
    for file in Path("/var/lib/cni/results").glob(f"{config.NETWORK}-*"):
        file.unlink(missing_ok=True)
    for link in Path("/var/log/containers").glob("*.log"):
        if link.readlink().is_relative_to(paths.NODE):
            link.unlink(missing_ok=True)
    for name in attempt("ip", "-o", "link").stdout.split():
        if name.startswith("cni-podnet"):
            attempt("ip", "link", "del", name.partition("@")[0])


def leave_checkout(checkout: Path) -> None:
    """Take away the kubeconfig, so that nothing of that checkout talks to another cluster."""
    (checkout / ".cluster" / "kubeconfig").unlink(missing_ok=True)
